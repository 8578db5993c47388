"""One table of several evaluations: figures down, what was judged across, beside the floor."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mrigen.errors import RunError
from mrigen.evaluation.heads import FLOOR, PCA, SAMPLES
from mrigen.evaluation.parts import PARTS
from mrigen.evaluation.result import FILE, FigureKind, read_evaluation
from mrigen.runs import Run

# Contenders that stand beside all evaluations.
_BESIDE = (FLOOR, PCA)
# Settings that have to be the same, in words.
_SHARED = {"people": "other people or another grid", "against": "another split", "num": "another number of people"}


def open_evaluations(
    directories: Sequence[str | os.PathLike], against: str = "validation"
) -> dict[str, dict[str, Any]]:
    """Returns the evaluations of some runs, or in some folders, by the name that the table shows.

    Args:
        directories: runs, or folders that `Evaluation.write` wrote.
        against: which evaluation of a run: by "validation" or by "heldout" people.

    Raises:
        RunError: some have none; one line each.
    """
    found, faults = {}, []
    for directory in map(Path, directories):
        paths = [directory / FILE, directory / "evaluation" / against / FILE]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            faults.append(
                f"{directory}: no evaluation by {against} people, expected one. "
                f"Make it with `mrigen.evaluate({str(directory)!r})`, or leave it out."
            )
        else:
            found[str(directory)] = read_evaluation(path)
    if faults:
        raise RunError(faults)
    return found


def compare_evaluations(evaluations: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Returns one row a figure: part, figure, better (see `FigureKind`), training and pca (of the first evaluation that
    has them: the floor, and what draws in principal components reach), and a column of values for each evaluation.

    Args:
        evaluations: of `open_evaluations`.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for name, content in evaluations.items():
        for part in (part for part in PARTS if part in content["parts"]):
            for row in content["parts"][part]["rows"]:
                key = part, row["figure"]
                kind = PARTS[part].figures.get(row["figure"], FigureKind(""))
                into = rows.setdefault(key, {"part": part, "figure": row["figure"], "better": kind.better})
                if row["of"] in _BESIDE:
                    into.setdefault(row["of"], row["value"])
                elif row["of"] == SAMPLES:
                    into[name] = row["value"]
    table = pd.DataFrame([row for row in rows.values() if any(row.get(name) is not None for name in evaluations)])
    columns = ["part", "figure", "better", *_BESIDE, *evaluations]
    return table.reindex(columns=columns).sort_values("part", key=lambda part: part.map([*PARTS].index), kind="stable")


def describe_other_settings(evaluations: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Returns what keeps evaluations from being comparable with the first one, in one line; None if nothing does."""
    (first, expected), *others = evaluations.items()
    parts = []
    for name, content in others:
        unlike = [
            text for key, text in _SHARED.items() if content["settings"].get(key) != expected["settings"].get(key)
        ]
        if unlike:
            parts.append(f"{name} ({' and '.join(unlike)})")
    return f"not like {first}: {', '.join(parts)}. Their figures cannot simply be compared." if parts else None


def evaluated(runs: Sequence[Run], against: str = "validation") -> list[Run]:
    """Returns the runs that were evaluated by these people."""
    return [run for run in runs if (run.directory / "evaluation" / against / FILE).is_file()]

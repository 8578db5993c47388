"""An evaluation: its parts one after another, what they found, and its files."""

import dataclasses
import functools
import html
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mrigen.data.memo import file_digest
from mrigen.errors import MrigenError, UsageError
from mrigen.evaluation.gathering import (
    Real,
    choose_people,
    draw_samples,
    find_samples,
    gather,
    read_samples,
    samples_key,
)
from mrigen.evaluation.heads import CONTENDERS, SAMPLES, Material
from mrigen.evaluation.looks import count_looks, record_look
from mrigen.evaluation.normative import NormativeTable
from mrigen.evaluation.parts import PARTS
from mrigen.evaluation.pictures import plot_heads
from mrigen.evaluation.result import FILE, PartResult, Row, read_evaluation
from mrigen.generation.detailing import choose_detail
from mrigen.imaging.figures import save_figure
from mrigen.recipe import Recipe
from mrigen.runs import Run
from mrigen.runs.detail import WEIGHTS as DETAIL_WEIGHTS
from mrigen.runs.detail import detail_folder
from mrigen.runs.faces import warn_of_faces
from mrigen.system.files import write_json, write_table
from mrigen.system.wording import nearest

# Raise it when a part's figures change, so that parts of before are judged anew.
FORMAT = 1
AGAINST = ("validation", "heldout")


def evaluate(
    run: Run | None = None,
    *,
    samples: str | os.PathLike | None = None,
    real: Run | Recipe | None = None,
    only: Sequence[str] | None = None,
    against: str = "validation",
    num: int | None = None,
    seed: int = 0,
    density: str = "auto",
    temperature: float = 1.0,
    given: Mapping[str, str | float] | None = None,
    detail: bool | None = None,
    beside: Sequence[Run] = (),
    normative: str | os.PathLike | None = None,
) -> "Evaluation":
    """Returns how good synthetic heads are, beside real people and beside ways of making heads that are bad.

    Samples of a run are drawn and compared with people of its cohort whom nothing was learned from; or samples that
    anything else has made, a folder of NIfTI, are prepared like the people that they are compared with.

    Args:
        run: a finished run, whose samples are judged; None where `samples` are.
        samples: a folder of images to judge instead.
        real: whose people `samples` are compared with: those of a run (by its split and on its grid), or of a recipe.
        only: parts to judge (see `mrigen.evaluation.PARTS`); all of them if None.
        against: "validation" people, or "heldout" ones. Choose settings by the former; how often the latter were looked
            at is counted in the run.
        num: how many people, and as many samples; all of them, but at most 100, if None.
        seed: of samples and of whatever else is drawn.
        density, temperature, given, detail: of the samples of a run; see `mrigen.sample`.
        beside: runs of the same cohort, from other seeds or splits, with whose latents those of `run` are compared.
        normative: a table of volumes by region, age and sex; see `mrigen.evaluation.normative`.

    Raises:
        UsageError: too few people or samples, or an argument that does not fit. CohortError: images that cannot be
            read, or a cohort that has changed.
    """
    evaluation = Evaluation(
        run, samples=samples, real=real, against=against, num=num, seed=seed, density=density, temperature=temperature,
        given=given, detail=detail, beside=beside, normative=normative,
    )  # fmt: skip
    for name in evaluation.check_parts(only):
        evaluation.judge(name)
    return evaluation


class Evaluation:
    """How good synthetic heads are; see `evaluate`, whose arguments it takes. Parts are judged when they are asked for.

    Attributes:
        run: whose samples are judged, or None.
        results: part -> what it found, of the parts that were judged.
        seconds: part -> how long that took.
    """

    def __init__(
        self,
        run: Run | None = None,
        *,
        samples: str | os.PathLike | None = None,
        real: Run | Recipe | None = None,
        against: str = "validation",
        num: int | None = None,
        seed: int = 0,
        density: str = "auto",
        temperature: float = 1.0,
        given: Mapping[str, str | float] | None = None,
        detail: bool | None = None,
        beside: Sequence[Run] = (),
        normative: str | os.PathLike | None = None,
    ):
        if against not in AGAINST:
            raise UsageError(f"got {against!r}, expected one of {', '.join(AGAINST)}. Take validation.", "against")
        if (run is None) == (samples is None):
            raise UsageError(
                "got both or neither of `run` and `samples`, expected one of them. Name what is to be judged."
            )
        if (samples is None) != (real is None):
            raise UsageError(
                "got samples without real people, or people without samples, expected both. Name the folder of images "
                "by `samples`, and by `real` the run or the recipe whose people they are compared with.",
                "real",
            )
        self.run, self.against, self.seed, self.num = run, against, seed, num
        self.results: dict[str, PartResult] = {}
        self.seconds: dict[str, float] = {}
        self._real: Any = run if real is None else real
        self._sampling = {"density": density, "temperature": temperature, "given": dict(given or {}), "seed": seed}
        self._detail = run is not None and choose_detail(run, detail)
        self._paths = None if samples is None else find_samples(samples)
        self._beside, self._normative = tuple(beside), normative
        if normative is not None:
            NormativeTable(normative)  # What is wrong with it is said at once.
        self._folder = None if samples is None else Path(samples)
        self._unwritten: set[str] = set()

    def __repr__(self) -> str:
        judged = ", ".join(self.results) or "nothing yet"
        return f"Evaluation({self._of}, against {self.against} people: {judged})"

    def _repr_html_(self) -> str:
        table = self.to_frame().to_html(index=False, na_rep="", border=0)
        return f"<p>{html.escape(repr(self))}</p>{table}"

    @property
    def _of(self) -> str:
        return str(self._folder if self.run is None else self.run.directory)

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """What parts that stand in one table have in common, JSON-safe."""
        people = self._real
        settings: dict[str, Any] = {"format": FORMAT, "against": self.against, "num": self.num, "seed": self.seed}
        if isinstance(people, Run):
            settings["people"] = people.facts["data_fingerprint"]
        else:
            settings["people"] = people.model_dump(mode="json", include={"data", "preprocess"})
        if self._normative is not None:
            settings["normative"] = file_digest(self._normative)
        if self._beside:
            settings["beside"] = [file_digest(run.weights_path) for run in self._beside]
        if self.run is not None:
            weights = {"weights": file_digest(self.run.weights_path)}
            if self._detail:
                weights["detail"] = file_digest(detail_folder(self.run) / DETAIL_WEIGHTS)
            return settings | self._sampling | weights
        return settings | {"samples": samples_key(self._paths or [])}

    @functools.cached_property
    def material(self) -> Material:
        """The heads; made when the first part asks for them."""
        real = Real.of_run(self._real) if isinstance(self._real, Run) else Real.of_recipe(self._real)
        rows = choose_people(real, self.against, self.num, self.seed)
        if self.run is None:
            samples = read_samples(real, self._paths or [], len(rows), self.seed)
        else:
            samples = draw_samples(self.run, len(rows), {**self._sampling, "detail": self._detail})
        if self.against == "heldout" and real.run is not None:
            record_look(real.run, self.settings)
        return gather(
            real, rows, samples, run=self.run, against=self.against, seed=self.seed, others=self._beside,
            normative=self._normative,
        )  # fmt: skip

    def check_parts(self, only: Sequence[str] | None = None) -> list[str]:
        """Returns the names of the parts that are asked for, in their order.

        Raises:
            UsageError: there is no such part.
        """
        names = list(PARTS) if only is None else list(dict.fromkeys(only))
        for name in names:
            if name not in PARTS:
                raise UsageError(
                    f"got {name!r}, expected some of {', '.join(PARTS)}.{nearest(name, PARTS)} Name one of these.",
                    "only",
                )
        return [name for name in PARTS if name in names]

    def judge(self, name: str) -> PartResult:
        """Returns what a part finds, and keeps it. A part that cannot be judged says why in its notes."""
        [name] = self.check_parts([name])
        part, begun = PARTS[name], time.monotonic()
        if part.needs_run and self.run is None:
            found = PartResult((), ("Not judged: it asks a run, and got samples alone.",))
        else:
            material = self.material  # Whose faults speak against every part.
            try:
                found = part.judge(material)
            except MrigenError as error:
                found = PartResult((), tuple(f"Not judged: {fault}" for fault in error.faults))
        self.results[name] = found
        self.seconds[name] = time.monotonic() - begun
        self._unwritten.add(name)
        return found

    def target(self, directory: str | os.PathLike | None = None) -> Path:
        """Returns where the files are written: RUN/evaluation/AGAINST, or beside the folder of samples, by default."""
        if directory is not None:
            return Path(directory)
        if self.run is not None:
            return self.run.directory / "evaluation" / self.against
        folder = Path(self._of)
        return folder.with_name(f"{folder.name}-evaluation-{self.against}")

    def take_over(self, directory: str | os.PathLike | None = None, force: bool = False) -> list[str]:
        """Takes over the parts that were judged before, with the same settings, and returns their names.

        Args:
            directory: of an earlier evaluation; where this one is written by default.
            force: whether one with other settings is to be replaced.

        Raises:
            UsageError: an evaluation with other settings is there.
        """
        path = self.target(directory) / FILE
        if not path.is_file():
            return []
        content = read_evaluation(path)
        if content["settings"] != self.settings:
            if force:
                return []
            before = [name for name, value in self.settings.items() if content["settings"].get(name) != value]
            raise UsageError(
                f"{path}: holds an evaluation with other settings ({', '.join(before)}), expected none or the same. "
                "Name another folder with `directory`, or replace it with `force=True`."
            )
        for name, part in content["parts"].items():
            if name in PARTS and part["rows"]:
                rows = tuple(Row(**row) for row in part["rows"])
                self.results[name] = PartResult(rows, tuple(part["notes"]), facts=part["facts"])
                self.seconds[name] = part["seconds"]
        return list(self.results)

    def to_frame(self) -> pd.DataFrame:
        """Returns every figure, one row each: part, figure, of, value, low, high, p, n, note."""
        rows = [
            {"part": name} | dataclasses.asdict(row)
            for name in PARTS
            if name in self.results
            for row in self.results[name].rows
        ]
        columns = ["part", *(field.name for field in dataclasses.fields(Row))]
        return pd.DataFrame(rows, columns=columns)

    def figure(self, name: str, of: str = SAMPLES) -> float | None:
        """Returns one figure, of the samples unless told otherwise; None where there is none."""
        for result in self.results.values():
            for row in result.rows:
                if (row.figure, row.of) == (name, of):
                    return row.value
        return None

    @property
    def looks(self) -> int | None:
        """How often held-out people were looked at by evaluations, this one included; None where that is not kept."""
        run = self._real if isinstance(self._real, Run) else None
        return None if run is None else count_looks(run)

    def notes(self) -> list[str]:
        """Returns what whoever reads the figures has to know, one sentence each."""
        notes = [f"{name}: {note}" for name in PARTS if name in self.results for note in self.results[name].notes]
        if self.against == "heldout" and self.looks is not None and self.looks > 1:
            notes.append(f"Held-out people were looked at {self.looks} times. Do not choose anything by such figures.")
        return notes

    def as_dict(self) -> dict[str, Any]:
        """Returns the content of evaluation.json."""
        return {
            "format": FORMAT,
            "of": self._of,
            "settings": self.settings,
            "looks_at_heldout": self.looks,
            "contenders": dict(CONTENDERS),
            "parts": {
                name: {
                    "rows": [dataclasses.asdict(row) for row in result.rows],
                    "notes": list(result.notes),
                    "facts": dict(result.facts),
                    "seconds": round(self.seconds[name], 1),
                }
                for name, result in self.results.items()
            },
        }

    def write(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Writes evaluation.json, evaluation.tsv (`to_frame`) and the pictures of the parts that were judged since, and
        returns their paths.

        Args:
            directory: where to write; see `target`.
        """
        directory = self.target(directory)
        directory.mkdir(parents=True, exist_ok=True)
        if self._unwritten and self.run is not None:
            warn_of_faces(self.run)
        paths = []
        for name in sorted(self._unwritten):
            for stem, figure in self.results[name].pictures.items():
                paths.append(directory / f"{stem}.png")
                save_figure(figure, paths[-1])
        if self._unwritten and not (directory / "heads.png").is_file():
            paths.append(directory / "heads.png")
            save_figure(plot_heads(self.material), paths[-1])
        self._unwritten.clear()
        write_table(directory / "evaluation.tsv", self.to_frame())
        write_json(directory / FILE, self.as_dict())
        return [directory / FILE, directory / "evaluation.tsv", *paths]

"""What lies in a folder of runs: how far each is, and its figures on validation people."""

import csv
import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mrigen.errors import MrigenError, RunError
from mrigen.runs import Run
from mrigen.runs.comparison import render_table, show_figure
from mrigen.statistics.collapse import has_collapsed
from mrigen.system.files import read_json

_INTEGERS = ("epochs", "of_epochs", "active_units", "latents")
_DECIMALS = ("validation_elbo", "validation_mse", "minutes")


def list_runs(root: str | os.PathLike = "runs") -> pd.DataFrame:
    """Returns one row a run below a folder, oldest first; TensorFlow is not loaded.

    Args:
        root: folder of runs, or a run.

    Returns:
        run: the folder. recipe: short name. model: kind. state: "finished"; "waiting to resume" (it has a checkpoint:
        it was stopped, or a process is still at it); "unfinished" (it has none). epochs done, of_epochs at most.
        validation_elbo (nats a person), validation_mse (intensities in [0, 1]): of validation people at the best
        epoch. active_units; latents: latent variables. collapse: "yes" or "no", missing for an autoencoder. minutes:
        of the fit. fault: why a run could not be read, else missing.

    Raises:
        RunError: there is no such folder, or no run in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise RunError(f"{root}: no such folder, expected a folder of runs. Name one, or make a run with mrigen fit.")
    recipes = [root / "recipe.yaml"] if (root / "recipe.yaml").is_file() else sorted(root.glob("*/recipe.yaml"))
    if not recipes:
        raise RunError(f"{root}: no run, expected at least one. Make one with mrigen fit, or name another folder.")
    rows = []
    for path in sorted(recipes, key=lambda path: (path.stat().st_mtime_ns, str(path))):
        try:
            rows.append(describe_run(Run(path.parent)))
        except MrigenError as error:
            rows.append({"run": str(path.parent), "state": "damaged", "fault": error.faults[0]})
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return table.astype(dict.fromkeys(_INTEGERS, "Int64") | dict.fromkeys(_DECIMALS, "Float64"))


def describe_run(run: Run) -> dict[str, Any]:
    """Returns the row of `list_runs` of one run.

    Raises:
        MrigenError: a file of it is damaged.
    """
    history = read_history(run.directory)
    progress: dict[str, Any] = {}
    metrics = run.metrics if run.is_complete else {}
    path = run.directory / "checkpoint" / "progress.json"
    state = "finished"
    if not run.is_complete:
        state = "waiting to resume" if path.is_file() else "unfinished"
        try:
            progress = read_json(path) if path.is_file() else {}
        except (OSError, ValueError):  # A fit at work may remove it at this moment.
            progress = {}
    figures = validation_figures(run, progress.get("best_epoch", -1))
    last = history[-1] if history else {}
    can_collapse = run.recipe.model.has_likelihood
    active = metrics.get("active_units", last.get("active_units")) if can_collapse else None
    active = None if active is None or not math.isfinite(active) else active
    latents = metrics.get("latent_dim", run.recipe.model.latent_dim)
    collapse = None
    if active is not None and latents:
        collapse = "yes" if has_collapsed(int(active), latents, metrics.get("num_subjects", {}).get("train")) else "no"
    seconds = metrics.get("performance", {}).get("seconds")
    return {
        "run": str(run.directory),
        "recipe": run.facts.get("recipe") if (run.directory / "run.json").is_file() else None,
        "model": run.recipe.model.kind,
        "state": state,
        "epochs": metrics.get("epochs", progress.get("epoch", 0)),
        "of_epochs": run.recipe.training.epochs,
        "validation_elbo": figures["elbo_nats"],
        "validation_mse": figures["mse"],
        "active_units": None if active is None else int(active),
        "latents": latents,
        "collapse": collapse,
        "minutes": None if seconds is None else seconds / 60.0,
        "fault": None,
    }


def validation_figures(run: Run, best_epoch: int = -1) -> dict[str, float | None]:
    """Returns {elbo_nats, mse} of validation people, None where there is none.

    Of a finished run they are those of metrics.json: inference may be better than during the fit. Else, and where it
    has none, they are those of its best epoch so far.

    Args:
        run: a run.
        best_epoch: of a fit that goes on, from 0.
    """
    metrics: dict[str, Any] = {"best_epoch": best_epoch + 1}
    if (run.directory / "metrics.json").is_file():
        metrics = run.metrics
    if "validation" in metrics:
        return metrics["validation"]
    rows = (row for row in read_history(run.directory) if row["epoch"] + 1 == metrics["best_epoch"])
    row = next(rows, {})
    return {"elbo_nats": row.get("val_elbo_nats"), "mse": row.get("val_mse")}


def read_history(directory: str | os.PathLike) -> list[dict[str, float]]:
    """Returns the whole lines of a run's history.csv, epoch (from 0) and figures; none if it has no such file.

    Raises:
        RunError: it is damaged.
    """
    path = Path(directory) / "history.csv"
    if not path.is_file():
        return []
    content = path.read_bytes()
    try:
        text = content[: content.rfind(b"\n") + 1].decode("utf-8")  # A fit at work may have written half a line.
        rows = [
            {name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(text, newline=""))
        ]
        if any("epoch" not in row for row in rows):
            raise ValueError("no column epoch")
    except (TypeError, ValueError, csv.Error) as error:
        raise RunError(f"{path}: not the history of a fit ({error}). Restore the file, or fit again.") from None
    return rows


def render_runs(table: pd.DataFrame, format: str = "text") -> str:
    """Returns the rows of `list_runs` as "text", "markdown" or "csv"; see `comparison.render_table`."""
    return render_table(table, format, _SHOWN, _WORDS)


def _of(name: str, whole: str):
    def show(row: dict) -> str:
        return "n/a" if pd.isna(row[name]) else f"{row[name]}/{row[whole]}"

    return show


_SHOWN = {
    "run": show_figure("run", ""),
    "recipe": show_figure("recipe", ""),
    "model": show_figure("model", ""),
    "state": show_figure("state", ""),
    "epochs": _of("epochs", "of_epochs"),
    "validation ELBO": show_figure("validation_elbo", ".6g"),
    "validation MSE": show_figure("validation_mse", ".3g"),
    "active": _of("active_units", "latents"),
    "collapse": show_figure("collapse", ""),
    "minutes": show_figure("minutes", ".1f"),
}
_WORDS: Sequence[str] = ("run", "recipe", "model", "state", "collapse")
_COLUMNS = [
    "run", "recipe", "model", "state", "epochs", "of_epochs", "validation_elbo", "validation_mse", "active_units",
    "latents", "collapse", "minutes", "fault",
]  # fmt: skip

"""One table of finished runs: what each model is, how well it does, and what it took."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import h5py
import pandas as pd

from mrigen.errors import MrigenError, RunError, UsageError
from mrigen.recipe import ModelRecipe, load_recipe
from mrigen.runs import Run
from mrigen.statistics.collapse import collapse_of_figures
from mrigen.system.files import defused
from mrigen.system.wording import nearest

# What stands for a figure that a run does not have.
MISSING = "n/a"
FORMATS = ("text", "markdown", "csv")
# What the term paper found with its own networks, on other people and another scale of intensities: shipped recipe ->
# channels of its blocks, MSE (of the VAE: of validation people), accuracy.
_PAPER = {
    "paper/ae-1x16": ((16,), 0.00245, 0.922),
    "paper/ae-1x32": ((32,), 0.00237, 0.927),
    "paper/ae-1x64": ((64,), 0.00231, 0.931),
    "paper/ae-2x16": ((16, 16), 0.00475, 0.907),
    "paper/ae-2x32": ((32, 32), 0.00451, 0.910),
    "paper/ae-2x64": ((64, 64), 0.00396, 0.914),
    "paper/ae-3x16": ((16, 16, 16), 0.01706, 0.902),
    "paper/ae-3x32": ((32, 32, 32), 0.01424, 0.902),
    "paper/ae-3x64": ((64, 64, 64), 0.01398, 0.913),
    "paper/ae-4x16": ((16, 16, 16, 16), 0.05423, 0.876),
    "paper/ae-4x32": ((32, 32, 32, 32), 0.05376, 0.883),
    "paper/ae-4x64": ((64, 64, 64, 64), 0.05243, 0.885),
    "paper/ae-16-32": ((16, 32, 32), 0.017, 0.909),
    "paper/vae": ((32, 32, 32), 0.079, 0.542),
}
# Keys that make a model one of these networks; others, such as the patch, are how it is computed.
_NETWORK = ("kind", "latent_dim", "latent_channels", "mean_image", "objective")
_INTEGERS = ("blocks", "latents", "active_units", "parameters")
_DECIMALS = (
    "compression",
    "heldout_mse",
    "pca_mse",
    "appearance_mse",
    "explained_variance",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "auc",
    "auc_low",
    "auc_high",
    "auc_draw",
    "kl_nats",
    "minutes",
    "paper_mse",
    "paper_accuracy",
)


def compare(runs: Sequence[Run]) -> pd.DataFrame:
    """Returns one row a run. Nothing is trained or computed: all of it lies in the runs, and TensorFlow is not loaded.

    Args:
        runs: finished runs.

    Returns:
        run: the folder, str. model: its kind. objective: of a VAE; of an autoencoder "squared error". channels: of the
        blocks, as in "16-32", or one number where all have the same. blocks; latents: latent variables. compression:
        voxels a latent variable. heldout_mse, explained_variance: means over held-out people, intensities in [0, 1];
        pca_mse, appearance_mse: what PCA and an active appearance model of the same people leave there.
        accuracy, auc, with the ends of their 95 % intervals: sex from the latents (posterior means), transductive;
        auc_draw: the AUC from a draw of each posterior. kl_nats (mean over training people) and active_units: of a
        VAE, and whether that is a collapse ("yes" or "no"). parameters: all weights, moving statistics included, as
        `mrigen fit` counts them. minutes: of the fit (of its last part, where it was resumed). paper_mse,
        paper_accuracy: what the term paper found with the same network on its own data and scale of intensities, of the
        recipes `paper/...`. Figures that a run does not have are missing.

    Raises:
        RunError: some are no runs, are unfinished or cannot be read; one line a fault, all together.
    """
    faults = [fault for run in runs if (fault := _fault(run))]
    if faults:
        raise RunError(faults)
    rows: list[dict[str, Any]] = []
    for run in runs:
        try:
            rows.append(_row(run))
        except MrigenError as error:
            faults += error.faults
    if faults:
        raise RunError(faults)
    table = pd.DataFrame(rows)
    return table.astype(dict.fromkeys(_INTEGERS, "Int64") | dict.fromkeys(_DECIMALS, "Float64"))


def sort_table(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Returns the rows of `compare` by a column, smallest first, or largest first with a minus before its name.

    Rows without the figure come last; rows with the same keep their order.

    Raises:
        UsageError: there is no such column.
    """
    name = column.removeprefix("-")
    if name not in table:
        raise UsageError(
            f"no such column. Name one of {', '.join(table.columns)}; with a minus before it, the largest comes first."
            f"{nearest(name, table.columns)}",
            parameter=f"column={column!r}",
        )
    return table.sort_values(name, ascending=not column.startswith("-"), kind="stable", na_position="last")


def describe_differences(runs: Sequence[Run]) -> str | None:
    """Returns what keeps runs from being comparable with the first one, in one line; None if nothing does.

    That is other people, another split of them, another grid or other images (by the fingerprint of the run).
    """
    first = runs[0]
    parts = [f"{run.directory} ({' and '.join(found)})" for run in runs[1:] if (found := _differences(run, first))]
    if not parts:
        return None
    return f"not like {first.directory}: {', '.join(parts)}. Their figures cannot simply be compared."


def unprobed(runs: Sequence[Run]) -> list[Run]:
    """Returns the runs that `mrigen probe` has not looked at."""
    return [run for run in runs if run.probe_results is None]


def render_table(
    table: pd.DataFrame,
    format: str = "text",
    shown: Mapping[str, Callable[[dict], str]] | None = None,
    words: Sequence[str] | None = None,
) -> str:
    """Returns the rows of a table of runs as text with a newline at its end.

    Args:
        table: of `compare`, or of another with its own `shown`.
        format: "text" (aligned columns) or "markdown", both rounded for the eye; or "csv", every column with all of
            its digits.

    Raises:
        UsageError: `format` is none of these.
    """
    if format not in FORMATS:
        raise UsageError(f"format: got {format!r}, expected one of {', '.join(FORMATS)}. Name one of these.")
    if format == "csv":
        return defused(table).to_csv(index=False, na_rep=MISSING, lineterminator="\n")
    if shown is None:
        shown = _SHOWN if table["paper_mse"].isna().all() else _SHOWN | _SHOWN_OF_PAPER
    words = _WORDS if words is None else words
    rows = [dict(zip(table.columns, values, strict=True)) for values in table.itertuples(index=False, name=None)]
    cells = [[*shown], *([show(row) for show in shown.values()] for row in rows)]
    if format == "markdown":
        rule = [":--" if name in words else "--:" for name in shown]
        return "".join(f"| {' | '.join(line)} |\n" for line in (cells[0], rule, *cells[1:]))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = ["<" if name in words else ">" for name in shown]
    return "".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)).rstrip()
        + "\n"
        for line in cells
    )


def count_weights(run: Run) -> int:
    """Returns how many numbers the weights of a run are, by the shapes in its file.

    Raises:
        RunError: the file is damaged.
    """
    path, count = run.weights_path, 0

    def add(name, item):
        nonlocal count
        if isinstance(item, h5py.Dataset):
            count += math.prod(item.shape)

    try:
        with h5py.File(path) as file:
            file.visititems(add)
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path}: cannot be read ({reason}). Restore the file, or fit again.") from None
    return count


def _fault(run: Run) -> str | None:
    if not run.directory.is_dir():
        return f"{run.directory}: no such folder, expected a run made by mrigen fit. Check the path."
    if not (run.directory / "recipe.yaml").is_file():
        return f"{run.directory}: no recipe.yaml, expected a run folder made by mrigen fit. Leave it out."
    if not run.is_complete:
        return (
            f"{run.directory}: got an unfinished run, expected a finished one. "
            f"Finish it with `mrigen.resume({str(run.directory)!r})`, or leave it out."
        )
    return None


def _row(run: Run) -> dict[str, Any]:
    recipe, metrics = run.recipe.model, run.metrics
    channels = recipe.block_channels
    heldout, performance = metrics.get("heldout", {}), metrics.get("performance", {})
    latents, seconds = metrics.get("latent_dim"), performance.get("seconds")
    return {
        "run": str(run.directory),
        "model": recipe.kind,
        "objective": recipe.objective_name,
        "channels": "-".join(map(str, channels if len(set(channels)) > 1 else channels[:1])),
        "blocks": recipe.blocks,
        "latents": latents,
        "compression": None if not latents else math.prod(run.grid["volume_shape"]) / latents,
        "heldout_mse": heldout.get("mse"),
        "pca_mse": metrics.get("pca", {}).get("mse"),
        "appearance_mse": metrics.get("appearance_model", {}).get("mse"),
        "explained_variance": heldout.get("explained_variance"),
        **_probe_figures(run),
        "kl_nats": metrics.get("kl_nats"),
        # Latents of an autoencoder have no scale by which to call them active.
        "active_units": None if metrics.get("kl_nats") is None else metrics.get("active_units"),
        "collapse": None if metrics.get("kl_nats") is None else "no" if collapse_of_figures(metrics) is None else "yes",
        "parameters": count_weights(run),
        "minutes": None if seconds is None else seconds / 60.0,
        **dict(zip(("paper_mse", "paper_accuracy"), _paper_figures(recipe), strict=True)),
    }


def _paper_figures(model: ModelRecipe) -> tuple[float | None, float | None]:
    channels = tuple(model.block_channels)
    for name, (of_paper, mse, accuracy) in _PAPER.items():
        if of_paper == channels and _network(model) == _network(_shipped_model(name)):
            return mse, accuracy
    return None, None


@functools.cache
def _shipped_model(name: str) -> ModelRecipe:
    return load_recipe(name).model


def _network(model: ModelRecipe) -> list:
    return [getattr(model, key, None) for key in _NETWORK]


def _probe_figures(run: Run) -> dict[str, float | None]:
    rows = (run.probe_results or {}).get("rows", [])
    by_predictor = {row["predictor"]: row for row in rows if row["protocol"] == "transductive"}
    latents: dict[str, Any] = by_predictor.get("latents", {})
    figures: dict[str, float | None] = {}
    for name, metric in (("accuracy", "accuracy"), ("auc", "roc_auc")):
        low, high = latents.get(f"{metric}_ci", (None, None))
        figures |= {name: latents.get(metric), f"{name}_low": low, f"{name}_high": high}
    return figures | {"auc_draw": by_predictor.get("latents_draw", {}).get("roc_auc")}


def _differences(run: Run, first: Run) -> list[str]:
    found = []
    split, expected = (dict(zip(r.split["participant_id"], r.split["split"], strict=True)) for r in (run, first))
    if set(split) != set(expected):
        found.append("other people")
    elif split != expected:
        found.append("another split")
    if run.recipe.preprocess != first.recipe.preprocess:
        found.append("another grid or scale of intensities")
    elif run.facts.get("data_fingerprint") != first.facts.get("data_fingerprint") and "other people" not in found:
        found.append("other images")
    return found


def show_figure(name: str, format: str) -> Callable[[dict], str]:
    """Returns what shows one figure of a row, in a format of Python's, or that it is missing."""
    return lambda row: MISSING if pd.isna(row[name]) else f"{row[name]:{format}}"


def _interval(name: str) -> Callable[[dict], str]:
    def show(row: dict) -> str:
        if pd.isna(row[name]):
            return MISSING
        return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"

    return show


def _active(row: dict) -> str:
    if pd.isna(row["active_units"]):
        return MISSING
    return f"{row['active_units']}/{row['latents']}" + " (collapsed)" * (row["collapse"] == "yes")


# Heading -> what stands below it, for the eye.
_SHOWN: dict[str, Callable[[dict], str]] = {
    "run": show_figure("run", ""),
    "model": show_figure("model", ""),
    "objective": show_figure("objective", ""),
    "channels": show_figure("channels", ""),
    "blocks": show_figure("blocks", ""),
    "latents": show_figure("latents", ""),
    "compression": show_figure("compression", ",.1f"),
    "held-out MSE": show_figure("heldout_mse", ".3g"),
    "PCA's": show_figure("pca_mse", ".3g"),
    "appearance model's": show_figure("appearance_mse", ".3g"),
    "explained variance": show_figure("explained_variance", ".3f"),
    "sex accuracy [95 %]": _interval("accuracy"),
    "AUC [95 %]": _interval("auc"),
    "AUC of a draw": show_figure("auc_draw", ".3f"),
    "KL nats": show_figure("kl_nats", ".4g"),
    "active": _active,
    "parameters": show_figure("parameters", ",d"),
    "minutes": show_figure("minutes", ".1f"),
}
# Only where there is something to show.
_SHOWN_OF_PAPER = {
    "paper's MSE (HCP)": show_figure("paper_mse", ".3g"),
    "paper's accuracy (HCP)": show_figure("paper_accuracy", ".3f"),
}
# Columns of words: aligned on the left.
_WORDS = ("run", "model", "objective", "channels")

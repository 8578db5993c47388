"""Receiver operating characteristics of a probe."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from mrigen.errors import UsageError
from mrigen.probing.score_table import PROTOCOLS, SCORE_COLUMNS, fold_keys
from mrigen.probing.summaries import summarize
from mrigen.probing.targets import SEX, Target

# Okabe and Ito's palette without its yellow, which is too light for a line on white. The line style repeats the
# difference, for prints in grey. The predictor that the probe is about is thick and black.
STYLES = {
    "latents": ("#000000", "-"),
    "latents_draw": ("#000000", ":"),
    "head_volume": ("#D55E00", "-"),
    "brain_volume": ("#E69F00", "--"),
    "pca": ("#009E73", "-"),
    "voxel_svm_linear": ("#0072B2", "-"),
    "voxel_svm_rbf": ("#56B4E9", "--"),
    "dummy": ("#999999", "-."),
    "untrained": ("#999999", "-"),
    "confounds": ("#882255", "-"),
    "latents_deconfounded": ("#000000", "--"),
    "latents_size_matched": ("#000000", "-."),
    "latents_harmonised": ("#44AA99", "--"),
}
OTHER_STYLES = (("#CC79A7", "-"), ("#CC79A7", "--"), ("#CC79A7", ":"), ("#CC79A7", "-."))
_BESIDE = 1e-9


def plot_roc(
    scores: pd.DataFrame,
    areas: Mapping[tuple[str, str], tuple[float, list[float]]] | None = None,
    target: Target = SEX,
) -> Figure:
    """Returns a figure of ROC curves: one panel a protocol, one curve a predictor, AUC [95 % CI] beside.

    A curve of several folds is their mean true positive rate at each false positive rate. The legends hang below the
    axes: save it with `bbox_inches="tight"`.

    Args:
        scores: `ProbeResult.scores`.
        areas: (protocol, predictor) -> AUC and its interval, those that are drawn. Made of the scores if None; the
            intervals of a cross-validation are then those of rows without a stand-in, since scores do not tell what
            was learned from.
        target: what the scores are of, two classes.

    Raises:
        UsageError: the table lacks a column, or holds no protocol with people of both classes.
    """
    areas = _areas(scores) if areas is None else areas
    negative, positive = target.classes
    protocols = [name for name in PROTOCOLS if any(key[0] == name for key in areas)]
    if not protocols:
        raise UsageError(
            "got no protocol that was run, expected scores of people of both classes. Give those of a probe that "
            "could be run.",
            parameter="scores",
        )
    figure = Figure(figsize=(5.2 * len(protocols), 5.0), dpi=150)
    figure.subplots_adjust(wspace=0.3)
    FigureCanvasAgg(figure)
    by_key = dict(list(scores.groupby(["protocol", "predictor"])))
    for axes, protocol in zip(figure.subplots(1, len(protocols), squeeze=False)[0], protocols, strict=True):
        names = [name for drawn_protocol, name in areas if drawn_protocol == protocol]
        others = iter(OTHER_STYLES * len(names))
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, zorder=1)
        for name in names:
            value, (low, high) = areas[protocol, name]
            color, line = STYLES[name] if name in STYLES else next(others)
            rates = _mean_curve(by_key[protocol, name])
            emphasis = {"linewidth": 2.4, "zorder": 3} if name == "latents" else {"linewidth": 1.5, "zorder": 2}
            label = f"{name}  {value:.3f} [{low:.3f}, {high:.3f}]"
            axes.plot(*rates, color=color, linestyle=line, label=label, **emphasis)
        num_people = by_key[protocol, names[0]]["participant_id"].nunique()
        what, _, how = PROTOCOLS[protocol].partition("; ")
        axes.set_title(f"{protocol} ({num_people} people)", fontsize=11, pad=26)
        axes.text(0.5, 1.015, "\n".join(_wrapped(what, how)), transform=axes.transAxes, ha="center", fontsize=7)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        axes.set_xlabel(f"false positive rate ({negative} called {positive})")
        axes.set_ylabel(f"true positive rate ({positive} called {positive})")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            title="ROC AUC [95 % interval]", loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False,
            fontsize=8.5, title_fontsize=9, handlelength=3.2,
        )  # fmt: skip
    return figure


def _wrapped(what: str, how: str) -> list[str]:
    if how:
        return [what, how]
    words = what.split(", ")
    return [", ".join(words[:-1]), words[-1]] if len(words) > 1 else words


def _mean_curve(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    curves = [
        roc_curve(fold["target"], fold["score"], drop_intermediate=False)[:2]
        for _, fold in scores.groupby(fold_keys(scores))
        if fold["target"].nunique() == 2
    ]
    if len(curves) == 1:
        return curves[0]  # the true steps
    # Both sides of every step of any curve, so that the area under the mean is the mean of the areas.
    steps = np.unique(np.concatenate([false for false, _ in curves]))
    grid = np.clip(np.sort(np.concatenate([steps - _BESIDE, steps + _BESIDE])), 0.0, 1.0)
    mean = np.mean([np.interp(grid, *curve) for curve in curves], axis=0)
    return np.concatenate([[0.0], grid[1:-1], [1.0]]), np.concatenate([[0.0], mean[1:-1], [1.0]])


def _areas(scores: pd.DataFrame) -> dict[tuple[str, str], tuple[float, list[float]]]:
    missing = [column for column in SCORE_COLUMNS if column not in scores.columns]
    if missing:
        raise UsageError(
            f"got no column {', '.join(missing)}, expected {', '.join(SCORE_COLUMNS)}. Give `ProbeResult.scores`.",
            parameter="scores",
        )
    tables = scores.groupby(["protocol", "predictor"], sort=False)
    summaries = {key: summarize(table, SEX) for key, table in tables}
    areas = {key: (summary.value("roc_auc"), summary.interval("roc_auc")) for key, summary in summaries.items()}
    return {key: area for key, area in areas.items() if area[0] is not None}

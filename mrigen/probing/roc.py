"""Receiver operating characteristics of a probe."""

import os

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrigen.errors import UsageError
from mrigen.probing.intervals import people_by_repeats, summarize_scores
from mrigen.probing.result import PROTOCOLS, SCORE_COLUMNS, ProbeResult
from mrigen.probing.targets import SEX
from mrigen.system.files import atomic_path

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
_GRID = np.linspace(0.0, 1.0, 401)


def roc_curve(target: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns false and true positive rates of one repeat: (k,), (k,), from (0, 0) to (1, 1), ties as one step.

    Args:
        target: (n,) int, 0 or 1; both present.
        scores: (n,), larger means class 1.
    """
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.diff(scores[order]) != 0.0, True)
    positive = np.cumsum(target[order])[last_of_ties]
    negative = np.cumsum(1 - target[order])[last_of_ties]
    return np.append(0.0, negative / negative[-1]), np.append(0.0, positive / positive[-1])


def draw_roc(result: ProbeResult | pd.DataFrame, path: str | os.PathLike) -> None:
    """Writes the ROC curves of a probe as a PNG: one panel a protocol, one curve a predictor, AUC [95 % CI] beside.

    A curve of several repeats is their mean true positive rate at each false positive rate. The same result gives the
    same bytes.

    Args:
        result: of `run_probe`, or its table `scores` (intervals are then made anew with the default seed).
        path: of the PNG; replaced whole.

    Raises:
        UsageError: if the table lacks a column or holds no protocol with people of both classes.
    """
    scores, auc = _curves_and_areas(result)
    negative, positive = (result.meaning if isinstance(result, ProbeResult) else SEX).classes
    protocols = [name for name in PROTOCOLS if any(key[0] == name for key in auc)]
    if not protocols:
        raise UsageError(
            "draw_roc: result: got no protocol that was run, expected scores of people of both classes. "
            "Give the result of a probe that could be run."
        )
    figure = Figure(figsize=(5.2 * len(protocols), 5.0), dpi=150)
    figure.subplots_adjust(wspace=0.3)
    FigureCanvasAgg(figure)
    by_key = dict(list(scores.groupby(["protocol", "predictor"])))
    for axes, protocol in zip(figure.subplots(1, len(protocols), squeeze=False)[0], protocols, strict=True):
        names = [name for drawn_protocol, name in auc if drawn_protocol == protocol]
        others = iter(OTHER_STYLES * len(names))
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, zorder=1)
        for name in names:
            value, (low, high) = auc[protocol, name]
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
    with atomic_path(path) as temporary:
        # The legends hang below the axes: "tight" makes room for as many lines as there are.
        figure.savefig(temporary, format="png", bbox_inches="tight", metadata={"Software": None})


def _wrapped(what: str, how: str) -> list[str]:
    if how:
        return [what, how]
    words = what.split(", ")
    return [", ".join(words[:-1]), words[-1]] if len(words) > 1 else words


def _mean_curve(scores: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    target, wide_scores, _ = people_by_repeats(scores)
    curves = [roc_curve(target, row) for row in wide_scores]
    if len(curves) == 1:
        return curves[0]  # the true steps
    # np.interp takes the last of equal x, the top of a step; the first point must stay (0, 0).
    mean = np.mean([np.interp(_GRID, *curve) for curve in curves], axis=0)
    return np.append(0.0, _GRID), np.append(0.0, mean)


def _curves_and_areas(result: ProbeResult | pd.DataFrame) -> tuple[pd.DataFrame, dict]:
    """Returns the table of scores and (protocol, predictor) -> (AUC, interval), only those that exist."""
    if isinstance(result, ProbeResult):
        rows = {(row["protocol"], row["predictor"]): (row["roc_auc"], row["roc_auc_ci"]) for row in result.rows()}
        return result.scores, {key: value for key, value in rows.items() if value[0] is not None}
    missing = [column for column in SCORE_COLUMNS if column not in result.columns]
    if missing:
        raise UsageError(
            f"draw_roc: scores: got no column {', '.join(missing)}, expected {', '.join(SCORE_COLUMNS)}. "
            "Give ProbeResult.scores."
        )
    summaries = {
        key: summarize_scores(table)["roc_auc"] for key, table in result.groupby(["protocol", "predictor"], sort=False)
    }
    return result, {key: (s["value"], s["ci"]) for key, s in summaries.items() if s["value"] is not None}

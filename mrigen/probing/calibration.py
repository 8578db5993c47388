"""Whether the probabilities of a probe can be believed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.special import expit

from mrigen.errors import UsageError
from mrigen.probing.targets import SEX, Target

_Z = 1.959964  # of a 95 % interval
MOST_BINS = 10
PEOPLE_PER_BIN = 10


def calibration_curve(targets: np.ndarray, log_odds: np.ndarray) -> pd.DataFrame:
    """Returns predicted and observed shares of class 1 in bins of equally many people.

    Both classes weigh the same, as in the fit.

    Args:
        targets: (n,) int, 0 or 1; both present.
        log_odds: (n,).

    Returns:
        Columns predicted, observed, low, high (Wilson's 95 % interval), num_subjects; one row a bin.
    """
    weights = len(targets) / (2.0 * np.bincount(targets, minlength=2))[targets]
    probability, order = expit(log_odds), np.argsort(log_odds, kind="stable")
    rows = []
    for members in np.array_split(order, max(1, min(MOST_BINS, len(targets) // PEOPLE_PER_BIN))):
        weight = weights[members]
        share = float(weight @ targets[members] / weight.sum())
        count = weight.sum() ** 2 / (weight**2).sum()
        centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
        half = _Z / (1 + _Z**2 / count) * np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
        rows.append((float(weight @ probability[members] / weight.sum()), share, centre - half, centre + half))
        rows[-1] += (len(members),)
    return pd.DataFrame(rows, columns=["predicted", "observed", "low", "high", "num_subjects"])


def plot_calibration(
    scores: pd.DataFrame, protocols: Sequence[str], predictor: str = "latents", target: Target = SEX
) -> Figure:
    """Returns a figure of the calibration curves of one logistic predictor, one panel a protocol.

    A person's log-odds are the mean over repeats.

    Args:
        scores: `ProbeResult.scores`.
        protocols: of these.
        predictor: whose scores are log-odds.
        target: what the scores are of, two classes.

    Raises:
        UsageError: no protocol has scores of it, of people of both classes.
    """
    scores = scores[scores["predictor"] == predictor]
    tables = [(name, scores[scores["protocol"] == name]) for name in protocols]
    tables = [(name, table) for name, table in tables if table["target"].nunique() == 2]
    if not tables:
        raise UsageError(
            f"got no scores of {predictor}, expected scores of people of both classes. Give another predictor, or the "
            "result of a probe that could be run.",
            parameter="predictor",
        )
    figure = Figure(figsize=(4.6 * len(tables), 4.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (protocol, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables, strict=True):
        people = table.groupby("participant_id")
        targets = people["target"].first().to_numpy(int)
        curve = calibration_curve(targets, people["score"].mean().to_numpy(float))
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
        errors = np.abs(np.stack([curve["observed"] - curve["low"], curve["high"] - curve["observed"]]))
        axes.errorbar(curve["predicted"], curve["observed"], errors, color="#000000", marker="o", capsize=3)
        gap = float(np.average(np.abs(curve["predicted"] - curve["observed"]), weights=curve["num_subjects"]))
        axes.set_title(f"{protocol} ({len(targets)} people): mean gap {gap:.3f}", fontsize=10)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set_xlabel(f"predicted probability of {target.classes[1]} ({predictor})")
        axes.set_ylabel("observed share [95 %], classes weighing the same")
        axes.spines[["top", "right"]].set_visible(False)
    return figure

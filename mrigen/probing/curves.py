"""Figures of a probe by the number of people that it learned from."""

import dataclasses

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mrigen.probing.roc import STYLES
from mrigen.probing.targets import Target


@dataclasses.dataclass(frozen=True)
class LearningCurve:
    """Figures by the number of training people.

    Attributes:
        rows: predictor, num_training (the mean over folds), then the figures and intervals of `ProbeResult.rows`.
        target: what is predicted.
    """

    rows: tuple[dict, ...]
    target: Target

    def plot(self) -> Figure:
        """Returns a figure of the first measure of each predictor against the number of training people."""
        metric = self.target.compared[0]
        figure = Figure(figsize=(5.2, 4.0), dpi=150, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        names = list(dict.fromkeys(row["predictor"] for row in self.rows))
        for name in names:
            rows = [row for row in self.rows if row["predictor"] == name and row[metric] is not None]
            counts = [row["num_training"] for row in rows]
            color, line = STYLES.get(name, ("#CC79A7", "-"))
            low, high = zip(*(row[f"{metric}_ci"] for row in rows), strict=True)
            axes.fill_between(counts, low, high, color=color, alpha=0.12, linewidth=0)
            axes.plot(counts, [row[metric] for row in rows], color=color, linestyle=line, marker="o", label=name)
        if self.target.classes:
            axes.axhline(0.5, color="#999999", linewidth=0.8)
        axes.set(xlabel="people learned from", ylabel={"roc_auc": "ROC AUC"}.get(metric, metric))
        axes.set_title(f"{self.target.name}: 95 % intervals over people", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=9)
        return figure

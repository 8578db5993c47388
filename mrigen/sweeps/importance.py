"""A figure of how much each key of a sweep decides about what came out."""

from collections.abc import Mapping


def plot_importances(importances: Mapping[str, float], objective: str):
    """Returns a matplotlib figure of bars.

    Args:
        importances: key -> its share of the variance of the objective, from 0 to 1.
        objective: what the sweep goes by, before anything else.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from mrigen.imaging.figures import COLOURS

    figure = Figure(figsize=(6.4, 1.2 + 0.4 * len(importances)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    names = list(importances)[::-1]
    axis.barh(names, [importances[name] for name in names], color=COLOURS[0])
    axis.set(xlabel=f"share of the variance of the validation {objective}", xlim=(0, 1), title="Importance (fANOVA)")
    return figure

"""Figures, and PNGs of them. Nothing here knows what the volumes and numbers mean."""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from mrigen.system.files import atomic_path

# Told apart by most people who see colours differently (Okabe and Ito 2008), but for the yellow, which is too light.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*")
# Groups in a legend; more are shown, but not named.
MOST_NAMED = 24


def save_figure(figure: Figure, path: str | os.PathLike, **settings) -> None:
    """Writes a figure as a PNG, whole or not at all; the same figure gives the same bytes.

    Args:
        figure: of this module or another.
        path: of the PNG.
        settings: of `Figure.savefig`.
    """
    without_formulas(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None}, **settings)


def without_formulas(figure: Figure) -> Figure:
    """Returns a figure that shows texts as they are: an id with two dollar signs is no mathematics."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


def plot_contact_sheet(
    volumes: Sequence[np.ndarray],
    titles: Sequence[str],
    zooms: Sequence[float] = (1.0, 1.0, 1.0),
    columns: int = 5,
) -> Figure:
    """Returns a figure of the three middle slices of each volume.

    Args:
        volumes: (x, y, z) each, RAS+ axes, intensities in [0, 1].
        titles: one a volume.
        zooms: voxel size in mm, so that images keep their proportions.
        columns: volumes side by side.
    """
    columns = min(columns, len(volumes))
    rows = -(-len(volumes) // columns)
    figure = Figure(figsize=(2.1 * columns, 5.4 * rows), dpi=110, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3 * rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for index, (volume, title) in enumerate(zip(volumes, titles, strict=True)):
        row, column = divmod(index, columns)
        for view, (picture, aspect) in enumerate(_middle_slices(volume, zooms)):
            axis = axes[3 * row + view, column]
            axis.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, aspect=aspect, interpolation="bilinear")
            if view == 0:
                axis.set_title(title, color="white", fontsize=8)
    return figure


def _middle_slices(volume: np.ndarray, zooms: Sequence[float]) -> list[tuple[np.ndarray, float]]:
    """Returns the sagittal, coronal and axial middle slice, head up or nose up, each with its pixel aspect."""
    x, y, z = (side // 2 for side in volume.shape)
    return [
        (volume[x].T[::-1], zooms[2] / zooms[1]),
        (volume[:, y].T[::-1], zooms[2] / zooms[0]),
        (volume[:, :, z].T[::-1], zooms[1] / zooms[0]),
    ]


def plot_diagnosis(
    kl_per_dimension: np.ndarray,
    variances: np.ndarray,
    threshold: float,
    history: Mapping[str, np.ndarray],
) -> Figure:
    """Returns a figure of the KL of each latent variable, the spectrum of the data, and the course of a fit.

    Args:
        kl_per_dimension: (latent,) nats, largest first.
        variances: of the data along its principal directions, largest first.
        threshold: the variance below which a direction does not pay for its KL.
        history: name -> nats of each epoch, drawn one above the other.
    """
    figure = Figure(figsize=(12, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    bars, lines, *courses = figure.subplots(1, 2 + len(history))
    bars.bar(np.arange(1, len(kl_per_dimension) + 1), kl_per_dimension, width=1.0)
    bars.set(title="KL of each latent variable", xlabel="latent variable, sorted", ylabel="nats")
    lines.plot(np.arange(1, len(variances) + 1), variances, marker=".", label="data")
    lines.axhline(threshold, color="tab:red", linestyle="--", label="pays for its KL above")
    lines.set(title="Variance of the data", xlabel="principal direction", ylabel="sum over voxels", yscale="log")
    lines.legend(fontsize=8)
    for axis, (name, values) in zip(courses, history.items(), strict=True):
        axis.plot(np.arange(1, len(values) + 1), values)
        axis.set(title=name, xlabel="epoch", ylabel="nats")
    return figure


def plot_maps(points: np.ndarray, colourings: Mapping[str, np.ndarray], axes: Sequence[str]) -> Figure:
    """Returns a figure of one scatter of the same points for each colouring, side by side.

    Numbers are shown from dark to light, groups by colour and marker, so that neither needs colour vision; whatever
    is missing is grey.

    Args:
        points: (n, 2).
        colourings: title -> (n,) numbers or texts; without any, all points are grey.
        axes: names of the two axes.
    """
    count = max(1, len(colourings))
    figure = Figure(figsize=(4.4 * count, 4.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, count, squeeze=False)[0]
    for panel in panels:
        panel.set(xlabel=axes[0], ylabel=axes[1])
        panel.tick_params(labelsize=7)
    for panel, (title, values) in zip(panels, colourings.items(), strict=False):
        panel.set_title(title)
        if np.asarray(values).dtype.kind in "fiu":
            values = np.asarray(values, dtype=float)
            known = np.isfinite(values)
            _scatter_unknown(panel, points[~known])
            shown = panel.scatter(*points[known].T, c=values[known], cmap="cividis", s=18, linewidths=0)
            figure.colorbar(shown, ax=panel)
            continue
        values = np.array([value if isinstance(value, str) else "" for value in values])
        _scatter_unknown(panel, points[values == ""])
        groups = [name for name in np.unique(values) if name]
        for index, name in enumerate(groups):
            marker = MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]
            chosen = points[values == name]
            colour = COLOURS[index % len(COLOURS)]
            panel.scatter(*chosen.T, color=colour, marker=marker, s=18, linewidths=0, label=f"{name} ({len(chosen)})")
        if len(groups) <= MOST_NAMED:
            panel.legend(fontsize=7, ncols=1 + len(groups) // 10)
    if not colourings:
        _scatter_unknown(panels[0], points)
    return figure


def _scatter_unknown(panel, points: np.ndarray) -> None:
    if len(points):
        panel.scatter(*points.T, color="0.75", s=10, linewidths=0)

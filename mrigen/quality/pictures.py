"""Small pictures of heads: the three middle slices side by side."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from mrigen.imaging.figures import without_formulas

# Millimetres of a pixel.
PIXEL = 2.0
GAP = 4  # pixels
COLOURS = {"wrong": "#ff6b6b", "look": "#ffc857", "fine": "white"}


def picture_strip(volume: np.ndarray, zooms: Sequence[float]) -> np.ndarray:
    """Returns the sagittal, coronal and axial middle slice of a head (x, y, z) uint8, side by side: (h, w) uint8."""
    x, y, z = (side // 2 for side in volume.shape)
    views = [
        (volume[x].T[::-1], (zooms[1], zooms[2])),
        (volume[:, y].T[::-1], (zooms[0], zooms[2])),
        (volume[:, :, z].T[::-1], (zooms[0], zooms[1])),
    ]
    pictures = []
    for view, (across, down) in views:
        size = max(1, round(view.shape[1] * across / PIXEL)), max(1, round(view.shape[0] * down / PIXEL))
        pictures.append(np.asarray(Image.fromarray(np.ascontiguousarray(view)).resize(size, Image.Resampling.BICUBIC)))
    strip = np.zeros((max(len(view) for view in pictures), sum(view.shape[1] + GAP for view in pictures) - GAP), "u1")
    start = 0
    for view in pictures:
        top = (len(strip) - len(view)) // 2
        strip[top : top + len(view), start : start + view.shape[1]] = view
        start += view.shape[1] + GAP
    return strip


def as_data(strip: np.ndarray) -> str:
    """Returns a picture as the address that an HTML page shows it by, without any file."""
    buffer = io.BytesIO()
    Image.fromarray(strip).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def figure_as_data(figure: Figure) -> str:
    """Returns a figure likewise."""
    buffer = io.BytesIO()
    without_formulas(figure).savefig(buffer, format="png", metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def plot_strips(strips: Sequence[np.ndarray], titles: Sequence[str], verdicts: Sequence[str], columns: int = 4):
    """Returns a figure of strips with a title each, coloured by verdict."""
    columns = max(1, min(columns, len(strips)))
    rows = max(1, -(-len(strips) // columns))
    figure = Figure(figsize=(3.9 * columns, 1.75 * rows), dpi=110, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, strip, title, verdict in zip(axes, strips, titles, verdicts, strict=False):
        axis.imshow(strip, cmap="gray", vmin=0, vmax=255)
        axis.set_title(title, color=COLOURS[verdict], fontsize=8)
    return figure


def plot_measures(measures: dict[str, np.ndarray], verdicts: np.ndarray, columns: int = 4) -> Figure:
    """Returns a figure with a histogram of each measure, and where the images with a flag lie.

    Args:
        measures: title -> (n,).
        verdicts: (n,).
    """
    rows = max(1, -(-len(measures) // columns))
    figure = Figure(figsize=(3.0 * columns, 1.7 * rows), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, values) in zip(axes, measures.items(), strict=False):
        axis.set_axis_on()
        known = np.isfinite(values)
        # A wild value does not squeeze all others into one bar.
        low, high = np.percentile(values[known], (0, 100))
        near = np.percentile(values[known], (5, 95)) + np.array([-3.0, 3.0]) * max(
            np.ptp(np.percentile(values[known], (5, 95))), 1e-9
        )
        low, high = max(low, near[0]), min(high, near[1])
        shown = np.clip(values, low, high)
        axis.hist(shown[known], bins=30, color="#7a93ac")
        for verdict, colour in (("look", "#e69f00"), ("wrong", "#c92a2a")):
            own = known & (verdicts == verdict)
            axis.plot(shown[own], np.zeros(own.sum()), "|", color=colour, markersize=16, markeredgewidth=1.6)
        axis.set_title(title, fontsize=7)
        axis.tick_params(labelsize=6)
        axis.set_yticks([])
    return figure

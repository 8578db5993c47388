"""Pictures of the heads that an evaluation compares, and of what is measured of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import ndimage

from mrigen.evaluation.heads import CONTENDERS, COPIES, FLOOR, MEAN, PCA, SAMPLES, Heads, Material
from mrigen.imaging.figures import COLOURS

# Rows of the figure of heads: who, and what they are called there.
ROWS = {
    "unseen": "never seen",
    SAMPLES: "samples",
    FLOOR: "training",
    PCA: "PCA",
    MEAN: "mean head",
    COPIES: "copies",
}
MOST_HEADS = 3
# Of a picture: millimetres of a pixel, millimetres around the brain, and pixels between two views.
PIXEL, MARGIN_MM, GAP = 1.0, 8.0, 6
# A picture is at least this wide, whatever the brains, mm.
SMALLEST_MM = 80.0


def plot_heads(material: Material) -> Figure:
    """Returns a figure of never-seen people beside samples and the other contenders, a row each.

    Of each head a sagittal, a coronal and an axial slice through the middle of its own brain; left is on the left. All
    are of one size, that of the largest brain in the figure.
    """
    groups = {ROWS["unseen"]: material.unseen} | {
        ROWS[name]: material.contenders[name] for name in CONTENDERS if name in material.contenders
    }
    return plot_groups(groups, material.zooms, material.is_oriented)


def plot_groups(groups: Mapping[str, Heads], zooms: Sequence[float], is_oriented: bool = True) -> Figure:
    """Returns a figure of the first heads of each group, a row a group; see `plot_heads`.

    Args:
        groups: name -> heads.
        zooms: voxel size, mm.
        is_oriented: whether it is known which side is left.
    """
    groups = {name: heads.take(np.arange(min(MOST_HEADS, len(heads)))) for name, heads in groups.items()}
    size = _view_size(list(groups.values()), zooms)
    columns = max(len(heads) for heads in groups.values())
    width, height = size[0] * 2 + size[1] + 2 * GAP * PIXEL, max(size[1], size[2])
    figure = Figure(
        figsize=(0.6 + 5.0 * columns, 5.0 * height / width * len(groups) + 0.3),
        dpi=110, facecolor="black", layout="constrained",
    )  # fmt: skip
    FigureCanvasAgg(figure)
    for row, (name, heads) in zip(figure.subplots(len(groups), columns, squeeze=False), groups.items(), strict=True):
        for axis in row:
            axis.set_axis_off()
        for number, axis in zip(range(len(heads)), row, strict=False):
            picture, middles = head_strip(heads.volumes[number], heads.brains[number], zooms, size)
            axis.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="bilinear")
            _name_sides(axis, middles, size, is_oriented)
        row[0].text(
            -0.02, 0.5, name, color="white", fontsize=10, rotation=90, ha="right", va="center",
            transform=row[0].transAxes,
        )  # fmt: skip
    if not is_oriented:
        figure.suptitle("left and right are not known", color="white", fontsize=8)
    return figure


def head_strip(
    volume: np.ndarray, brain: np.ndarray, zooms: Sequence[float], size: Sequence[float]
) -> tuple[np.ndarray, list[float]]:
    """Returns the sagittal, coronal and axial slice through the middle of a brain, side by side.

    Args:
        volume: (x, y, z), RAS+ axes. brain: (x, y, z) bool; where it is empty, the middle of the grid is taken.
        zooms: voxel size, mm.
        size: (3,) of what is shown, mm.

    Returns:
        picture: (height, width) in pixels of `PIXEL` mm, head or nose up, left on the left.
        middles: the middle column of the coronal and of the axial view.
    """
    zooms = np.asarray(zooms, float)
    box = ndimage.find_objects(brain.astype(np.uint8))
    if box:
        centre = np.array([(side.start + side.stop - 1) / 2.0 for side in box[0]])
    else:
        centre = (np.array(volume.shape) - 1.0) / 2.0
    steps = [np.arange(-length / 2.0, length / 2.0 + PIXEL / 2.0, PIXEL) for length in size]
    views = []
    for fixed in range(3):
        across, up = (axis for axis in range(3) if axis != fixed)
        grid = np.meshgrid(steps[up][::-1], steps[across], indexing="ij")
        places = np.zeros((3, *grid[0].shape))
        places[up], places[across] = grid
        places = places / zooms[:, None, None] + centre[:, None, None]
        views.append(ndimage.map_coordinates(volume, places, order=1, mode="constant"))
    height = max(len(view) for view in views)
    padded = []
    for view in views:
        missing = height - len(view)
        padded.append(np.pad(view, ((missing // 2, missing - missing // 2), (0, 0))))
    gap = np.zeros((height, GAP), padded[0].dtype)
    middles = [
        padded[0].shape[1] + GAP + (padded[1].shape[1] - 1) / 2.0,
        padded[0].shape[1] + padded[1].shape[1] + 2 * GAP + (padded[2].shape[1] - 1) / 2.0,
    ]
    return np.concatenate([padded[0], gap, padded[1], gap, padded[2]], axis=1), middles


def _view_size(groups: Sequence[Heads], zooms: Sequence[float]) -> np.ndarray:
    """Returns what is shown of heads, (3,) mm: the largest brain and a little around it."""
    sizes = [np.full(3, SMALLEST_MM)]
    for heads in groups:
        for brain in heads.brains:
            box = ndimage.find_objects(brain.astype(np.uint8))
            if box:
                sizes.append([(side.stop - side.start) * zoom for side, zoom in zip(box[0], zooms, strict=True)])
    return np.max(sizes, axis=0) + 2.0 * MARGIN_MM


def _name_sides(axis, middles: Sequence[float], size: Sequence[float], is_oriented: bool) -> None:
    if not is_oriented:
        return
    for middle in middles:
        for sign, letter in ((-1.0, "L"), (1.0, "R")):
            axis.text(
                middle + sign * (size[0] / 2.0 / PIXEL - 5.0), 6.0, letter, color="white", fontsize=6, ha="center",
                va="center",
            )  # fmt: skip


def plot_spectra(wavelengths: np.ndarray, spectra: Mapping[str, np.ndarray], reference: str) -> Figure:
    """Returns a figure of the mean power of groups of heads by wavelength, and of that over one group's.

    Args:
        wavelengths: (bands + 1,) edges of the bands, falling, mm.
        spectra: group -> (n, bands) mm^3; NaN where nothing is known of a head.
        reference: the group that the others are compared with.
    """
    figure = Figure(figsize=(10.5, 3.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    powers, ratios = figure.subplots(1, 2)
    middles = np.sqrt(wavelengths[:-1] * wavelengths[1:])
    theirs = spectra[reference][np.isfinite(spectra[reference]).any(axis=1)]
    mean = theirs.mean(axis=0)
    ratios.fill_between(middles, *(np.quantile(theirs, (0.05, 0.95), axis=0) / mean), color="0.85", linewidth=0,
                        label=f"{_named(reference)}, 5 to 95 %")  # fmt: skip
    for index, (name, values) in enumerate(spectra.items()):
        own = np.nanmean(values, axis=0)
        style = _style(name, index, reference)
        powers.plot(middles, own, label=_named(name), **style)
        ratios.plot(middles, own / mean, **style)
    powers.set(title="Power inside the brain", ylabel="mm³, intensity over its mean", yscale="log")
    ratios.set(title=f"Over that of {_named(reference)} people", ylabel="ratio", yscale="log")
    ratios.axhline(1.0, color="black", linewidth=0.8)
    for axis in (powers, ratios):
        axis.set(xlabel="wavelength, mm", xscale="log", xlim=(wavelengths[0], wavelengths[-1]))
        ticks = [mark for mark in (64, 32, 16, 8, 5, 4, 3, 2) if mark >= wavelengths[-1] - 1e-6]
        axis.set_xticks(ticks, [str(mark) for mark in ticks])
        axis.minorticks_off()
    powers.legend(fontsize=7)
    ratios.legend(fontsize=7)
    return figure


def plot_measures(
    measures: Mapping[str, Mapping[str, np.ndarray]], ranges: Sequence[tuple[float, float] | None], reference: str
) -> Figure:
    """Returns a figure with the histogram of each measure, one line for each group of heads.

    Args:
        measures: title -> group -> (n,); NaN where nothing is known of a head.
        ranges: of each measure, between which nine in ten of the reference group lie; None where that is not known.
        reference: this group is filled.
    """
    figure = Figure(figsize=(3.6 * len(measures), 3.4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(measures), squeeze=False)[0]
    for axis, (title, groups), ends in zip(axes, measures.items(), ranges, strict=True):
        known = {name: values[np.isfinite(values)] for name, values in groups.items()}
        pooled = np.concatenate(list(known.values()))
        axis.set_title(_wrapped(title), fontsize=8)
        axis.set_yticks([])
        axis.tick_params(labelsize=7)
        if not len(pooled):
            continue
        low, high = np.quantile(pooled, (0.005, 0.995))
        edges = np.linspace(low, high if high > low else low + 1.0, 25)
        if ends is not None:
            axis.axvspan(*ends, color="0.93")
        tallest = 1.0
        for index, (name, values) in enumerate(known.items()):
            if not len(values):
                continue
            style = {"color": "0.6", "alpha": 0.7} if name == reference else {
                "histtype": "step", "color": COLOURS[index % len(COLOURS)],
                "linewidth": 2.0 if name == SAMPLES else 1.0,
            }  # fmt: skip
            counts, *_ = axis.hist(np.clip(values, edges[0], edges[-1]), bins=edges, label=_named(name), **style)
            # Heads that are all alike would hide the others.
            tallest = max(tallest, counts.max() if name in (reference, SAMPLES) else 0.0)
        axis.set_ylim(0.0, 1.3 * tallest)
    axes[0].legend(fontsize=7)
    return figure


def _named(name: str) -> str:
    return ROWS.get(name, name)


def _style(name: str, index: int, reference: str) -> dict:
    if name == reference:
        return {"color": "black", "linewidth": 2.0}
    return {"color": COLOURS[index % (len(COLOURS) - 1)], "linewidth": 2.0 if name == SAMPLES else 1.0}


def _wrapped(title: str, most: int = 34) -> str:
    lines = [""]
    for word in title.split():
        if lines[-1] and len(lines[-1]) + len(word) >= most:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)

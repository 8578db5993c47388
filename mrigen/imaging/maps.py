"""Maps of an image's grid: laid over the anatomy in figures, and labelled in their files."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy import ndimage

from mrigen.imaging.volumes import Nifti1Image, zooms_of

# The length of the fields of a NIfTI-1 header, and a byte that ends them.
MOST_DESCRIBED = 79
MOST_NAMED = 15
# How much of the colour is seen where a map is beyond its threshold, and the most where it is not.
OPAQUE = 0.85
FAINT = 0.35
# Of the values of a map, the share that its scale holds.
SCALED_SHARE = 0.999
# Standard deviation, in mm, of the window in which a figure looks for where a map is strongest.
AROUND_MM = 10.0


@dataclasses.dataclass(frozen=True)
class Overlay:
    """A map that is laid over an image.

    Attributes:
        title: what it is.
        values: (x, y, z), of both signs.
        units: of the values; written beside the colours, with what is positive, such as "intensity, men minus women".
        mask: (x, y, z) bool, voxels beyond the threshold: strong and outlined, all others faint; None: no threshold.
        threshold: of the values (of both signs), marked beside the colours; None: it is of other values, or none.
    """

    title: str
    values: np.ndarray
    units: str
    mask: np.ndarray | None = None
    threshold: float | None = None


def plot_overlays(
    background: np.ndarray, overlays: Sequence[Overlay], affine: np.ndarray, is_oriented: bool = True
) -> Figure:
    """Returns a figure of maps over the anatomy: a sagittal, a coronal and an axial slice of each.

    All are cut through one place, around which the first map with a mask is strongest in it (else the first map); left
    is on the left. Orange is positive, purple negative. What does not reach the threshold is faint, not hidden.

    Args:
        background: (x, y, z), intensities in [0, 1]; axes as near RAS+ as the grid has them.
        overlays: at least one.
        affine: (4, 4) voxel-to-world map in mm, RAS+.
        is_oriented: whether it is known which way the axes run; left and right are named only then.

    References:
        Taylor et al. 2023, Highlight results, don't hide them: enhance interpretation, reduce biases and improve
        reproducibility, NeuroImage 274.
    """
    zooms = zooms_of(affine)
    place = strongest_voxel(overlays, zooms)
    world = (np.asarray(affine, np.float64) @ [*place, 1.0])[:3]
    figure = Figure(figsize=(8.8, 3.1 * len(overlays)), dpi=110, facecolor="black", layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(overlays), 3, squeeze=False)
    for axes, overlay in zip(rows, overlays, strict=True):
        limit = max(float(np.quantile(np.abs(overlay.values), SCALED_SHARE)), 1e-9)
        strength = np.clip(np.abs(overlay.values) / limit, 0.0, 1.0)
        alpha = np.clip(1.5 * strength, 0.0, OPAQUE)
        if overlay.mask is not None:
            alpha = np.where(overlay.mask, OPAQUE, FAINT * strength)
        for view, axis in enumerate(axes):
            aspect = (zooms[2] / zooms[1], zooms[2] / zooms[0], zooms[1] / zooms[0])[view]
            options = {"aspect": aspect, "origin": "lower"}
            axis.set_axis_off()
            axis.imshow(
                _slice(background, view, place), cmap="gray", vmin=0.0, vmax=1.0, interpolation="bilinear", **options
            )
            shown = axis.imshow(
                _slice(overlay.values, view, place), cmap="PuOr_r", vmin=-limit, vmax=limit, interpolation="nearest",
                alpha=_slice(alpha, view, place), **options,
            )  # fmt: skip
            if overlay.mask is not None and _slice(overlay.mask, view, place).any():
                axis.contour(_slice(overlay.mask, view, place), levels=[0.5], colors="white", linewidths=0.7)
            _write_place(axis, view, world, is_oriented)
        axes[0].set_zorder(1.0)  # The title runs over the others.
        axes[0].set_title(overlay.title, color="white", fontsize=9, loc="left")
        _add_scale(figure, axes, shown, overlay)
    return figure


def strongest_voxel(overlays: Sequence[Overlay], zooms: Sequence[float]) -> tuple[int, int, int]:
    """Returns the voxel that a figure of maps is cut through; see `plot_overlays`.

    It is the middle of what is strong: single voxels at the rim of the field of view show little of the anatomy.
    """
    chosen = next((one for one in overlays if one.mask is not None and one.mask.any()), overlays[0])
    strength = np.abs(chosen.values, dtype=np.float64)
    if chosen.mask is not None and chosen.mask.any():
        strength = np.where(chosen.mask, strength, 0.0)
    around = ndimage.gaussian_filter(strength, AROUND_MM / np.asarray(zooms, float), mode="constant")
    return tuple(map(int, np.unravel_index(np.argmax(around), around.shape)))


def _slice(volume: np.ndarray, view: int, place: Sequence[int]) -> np.ndarray:
    """Returns the slice of a view, (up, across): from the back to the front, or from left to right."""
    return np.take(volume, place[view], axis=view).T


def _write_place(axis, view: int, world: np.ndarray, is_oriented: bool) -> None:
    style = {"color": "white", "fontsize": 8, "transform": axis.transAxes}
    axis.text(0.5, -0.02, f"{'xyz'[view]} = {world[view]:.0f} mm", ha="center", va="top", **style)
    ends = ("P", "A") if view == 0 else ("L", "R")
    if is_oriented:
        axis.text(0.01, 0.5, ends[0], ha="left", va="center", **style)
        axis.text(0.99, 0.5, ends[1], ha="right", va="center", **style)
    elif view == 2:
        axis.text(0.5, 1.0, "left and right are not known", ha="center", va="bottom", **style)


def _add_scale(figure: Figure, axes, shown, overlay: Overlay) -> None:
    bar = figure.colorbar(shown, ax=list(axes), shrink=0.85)
    bar.solids.set_alpha(1.0)
    bar.ax.tick_params(colors="white", labelsize=8)
    bar.set_label(overlay.units, color="white", fontsize=8)
    if overlay.threshold is not None and np.isfinite(overlay.threshold):
        for value in (-overlay.threshold, overlay.threshold):
            bar.ax.axhline(value, color="black", linewidth=1.2)


def label_map(image: Nifti1Image, name: str, description: str, threshold: float | None = None, is_z=False) -> None:
    """Writes into the header of an image of `make_image` what it is a map of.

    Args:
        image: is changed.
        name: at most `MOST_NAMED` letters; the rest is left out.
        description: what is positive, and the unit; at most `MOST_DESCRIBED` letters.
        threshold: of its values: from there on viewers show it.
        is_z: whether the values are z.
    """
    image.header.set_intent("z score" if is_z else "none", name=name[:MOST_NAMED])
    image.header["descrip"] = description[:MOST_DESCRIBED]
    if threshold is not None and np.isfinite(threshold):
        image.header["cal_min"] = threshold
        image.header["cal_max"] = max(float(np.max(np.abs(np.asarray(image.dataobj)))), threshold)

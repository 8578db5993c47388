"""Pictures of what was measured: regions that differ, and labels that were found."""

import numpy as np
from matplotlib.figure import Figure

from mrigen.evaluation.anatomy_measures import cohens_d
from mrigen.evaluation.anatomy_study import FEWEST_HEADS, UNSEEN, Measured, Study
from mrigen.evaluation.heads import FLOOR, SAMPLES, Material
from mrigen.evaluation.labels import Segmenter

MOST_SHOWN = 30
# Cohen's d that is called small.
SMALL = 0.2


def plot_regions(study: Study, unseen: Measured) -> Figure:
    """Returns Cohen's d of the regions that differ most."""
    sides = {name: study.measured[name].known.shares for name in (SAMPLES, FLOOR)}
    d = {name: cohens_d(shares, unseen.shares) for name, shares in sides.items() if len(shares) >= FEWEST_HEADS}
    figure = Figure(figsize=(6, 1.2 + 0.2 * min(MOST_SHOWN, len(study.names))), layout="constrained")
    axes = figure.subplots()
    if SAMPLES in d:
        order = np.argsort(-np.abs(np.nan_to_num(d[SAMPLES])), kind="stable")[:MOST_SHOWN][::-1]
        for name, marker in ((FLOOR, "o"), (SAMPLES, "D")):
            if name in d:
                colour = "none" if name == FLOOR else "tab:red"
                axes.scatter(
                    d[name][order], range(len(order)), marker=marker, facecolors=colour, edgecolors="k", label=name
                )
        axes.set_yticks(range(len(order)), [study.names[each] for each in order], fontsize=7)
        axes.legend(fontsize=7)
    axes.axvspan(-SMALL, SMALL, color="0.9", zorder=0)
    axes.axvline(0.0, color="0.5", linewidth=0.8)
    axes.set_xlabel("Cohen's d of the volume relative to the brain, against people never seen", fontsize=8)
    return figure


def plot_labels(material: Material, study: Study, segmenter: Segmenter) -> Figure:
    """Returns labels that were found in a never-seen person and in a sample."""
    colours = np.random.default_rng(0).random((int(segmenter.ids.max()) + 1, 4)) * [1, 1, 1, 0] + [0, 0, 0, 0.45]
    colours[0] = 0.0
    shown = [(name, *study.shown[name]) for name in (UNSEEN, SAMPLES) if name in study.shown]
    figure = Figure(figsize=(7.5, 2.6 * max(1, len(shown))), layout="constrained")
    panels = figure.subplots(max(1, len(shown)), 3, squeeze=False)
    for row, (name, index, found) in zip(panels, shown, strict=False):
        heads = material.unseen if name == UNSEEN else material.contenders[name]
        volume = segmenter.on_working_grid(heads.volumes[index])
        for axis, panel in enumerate(row):
            place = int(np.median(np.nonzero(found.labels)[axis])) if found.labels.any() else volume.shape[axis] // 2
            aspect = [zoom * step for zoom, step in zip(material.zooms, segmenter.step, strict=True)]
            del aspect[axis]
            picture, marks = (np.take(each, place, axis).T for each in (volume, found.labels))
            panel.imshow(picture, cmap="gray", origin="lower", vmin=0, vmax=1, aspect=aspect[1] / aspect[0])
            panel.imshow(colours[marks], origin="lower", aspect=aspect[1] / aspect[0], interpolation="nearest")
            panel.set_axis_off()
            if axis and material.is_oriented:  # Axes are RAS+: what is on the left of the picture is left.
                for side, at in (("L", 0.03), ("R", 0.93)):
                    panel.text(at, 0.92, side, color="w", fontsize=8, transform=panel.transAxes)
        row[1].set_title(f"labels carried to {'a person never seen' if name == UNSEEN else 'a sample'}", fontsize=8)
    return figure

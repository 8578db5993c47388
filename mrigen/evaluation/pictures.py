"""Pictures of the heads that an evaluation compares."""

from matplotlib.figure import Figure

from mrigen.evaluation.heads import Material
from mrigen.imaging.figures import plot_contact_sheet


def plot_heads(material: Material) -> Figure:
    """Returns a figure of never-seen people beside samples."""
    volumes = [*material.unseen.volumes[:5], *material.samples.volumes[:5]]
    titles = ["never seen"] * len(material.unseen.volumes[:5]) + ["sample"] * len(material.samples.volumes[:5])
    return plot_contact_sheet(volumes, titles, material.zooms)

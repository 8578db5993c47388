"""Whole heads have faces: said once where pictures or images of them are written."""

import logging
from pathlib import Path

from mrigen.data.heads import LARGEST_BRAIN
from mrigen.runs.run import Run

logger = logging.getLogger(__name__)

_TOLD: set[Path] = set()


def shows_faces(run: Run) -> bool:
    """Returns whether the training people's images show faces, as far as a run knows it: not where they are synthetic,
    stripped (by masks, or by the column `skull_stripped`), defaced (by the column `defaced`), or as small as brains."""
    data, table = run.recipe.data, run.subjects
    if data.source == "phantom" or not len(table):
        return False
    for column in ("skull_stripped", "defaced"):
        if column in table and (table[column] == "y").mean() > 0.5:
            return False
    if data.apply_mask and "mask_path" in table and table["mask_path"].notna().mean() > 0.5:
        return False
    return "head_volume_ml" not in table or float(table["head_volume_ml"].median()) > LARGEST_BRAIN


def warn_of_faces(run: Run) -> None:
    """Says that what is written of a run shows faces; once a run and process."""
    place = Path(run.directory).resolve()
    if place not in _TOLD and shows_faces(run):
        _TOLD.add(place)
        logger.warning(
            f"{run.directory}: was fitted on whole heads, so what is written here can show people's faces: treat it as "
            "the images themselves. If they are defaced, say so in a column `defaced` (y) of the cohort's table."
        )

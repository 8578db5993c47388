"""The mask of each image: a folder under derivatives/, a path pattern or a column of the table. Opens no image."""

import os
import re
from collections.abc import Collection

import pandas as pd

from mrigen.data import bids
from mrigen.data.bids import Found, bare_id, parse_stem
from mrigen.data.sources import Source, listed
from mrigen.system.wording import limited, nearest

MASK_SUFFIXES = ("mask", "dseg")
# What may differ between the names of an image and its mask without being about another image.
MASK_ENTITIES = frozenset({"sub", "ses", "desc", "label", "seg", "atlas"})
# data.mask of derivatives that hold their masks beside the images.
BESIDE = "."
EXPECTED = "*_dseg.nii.gz, *_mask.nii.gz or *_desc-brain_mask.nii.gz"


def find_masks(source: Source, images: pd.DataFrame) -> tuple[list[str | None], list[str]]:
    """Returns the path of each image's mask, None where there is none, and a line for each that should be there.

    Args:
        source: the cohort; its recipe's `mask` names a folder under derivatives/ (`.`: they lie beside the images), a
            pattern with {id} and perhaps {session}, or (for a table) a column. A table's column `mask` is taken without
            being named.
        images: rows of `source.images`, with participant_id as in the files, session_id, stem and path.
    """
    mask = source.recipe.mask
    sessions = [session if isinstance(session, str) else None for session in images["session_id"]]
    people = images["bare_participant"]
    nothing = [None] * len(images)
    if source.mask_column:
        cells = source.raw[source.mask_column].loc[images["row"]]
        found = [source.resolve(cell) if isinstance(cell, str) else None for cell in cells]
        expected = [path or f"a path in column {source.mask_column}" for path in found]
        required = [mask is not None or path is not None for path in found]
    elif mask is None:
        return nothing, []
    elif "{" in mask:
        unknown = set(re.findall(r"\{[^}]*\}?", mask)) - {"{id}", "{session}"}
        if unknown or "{id}" not in mask:
            expected = "a path pattern with {id} and perhaps {session}"
            return nothing, [f"data.mask: got '{mask}', expected {expected}. Correct the pattern."]
        found = [source.fill(mask, person, session) for person, session in zip(people, sessions, strict=True)]
        expected, required = found, [True] * len(found)
    else:
        folder = source.folder if mask == BESIDE else os.path.join(source.folder, "derivatives", mask)
        if not os.path.isdir(folder):
            return nothing, [_no_folder(source, folder, mask)]
        found, expected = _in_folder(folder, people, sessions, images["stem"])
        required = [True] * len(found)
    lost = [
        f"{path}: no mask, expected {wanted}. Make the mask, or exclude the subject with data.exclude."
        for path, own, wanted, needed in zip(images["path"], found, expected, required, strict=True)
        if needed and (own is None or not os.path.isfile(own))
    ]
    return found, limited(lost)


def choose_mask(image_stem: str, masks: Collection[Found]) -> Found | None:
    """Returns the mask that belongs to an image of the same person and session, or None.

    The entities of the names (run, acq, space, res, ...) must agree; a mask may name fewer of them than the image,
    but never another space. Of several, the closest name wins; then desc-brain_mask before mask before dseg.

    Args:
        image_stem: file name of the image without .nii.gz or the like.
        masks: candidates.
    """
    entities = _entities(image_stem)
    fitting = []
    for mask in masks:
        own = _entities(mask.stem)
        if own.items() <= entities.items() and own.get("space") == entities.get("space"):
            named, suffix = parse_stem(mask.stem)
            kind = (suffix != "mask", named.get("desc") != "brain", "label" in named)
            fitting.append((len(entities) - len(own), kind, mask.stem, mask))
    return min(fitting, key=lambda item: item[:3])[-1] if fitting else None


def _entities(stem: str) -> dict[str, str]:
    return {key: value for key, value in parse_stem(stem)[0].items() if key not in MASK_ENTITIES}


def _no_folder(source: Source, folder: str, mask: str) -> str:
    parent = os.path.dirname(folder)
    there = sorted(os.listdir(parent)) if os.path.isdir(parent) else []
    have = f"derivatives/ holds {listed(there)}." if there else "There is no derivatives/ folder."
    columns = f", the name of a column of {source.table}," if source.is_list else ""
    return (
        f"{folder}: no such folder, expected the masks of data.mask '{mask}'. {have} "
        f"Give the name of a folder there{columns} or a path pattern with {{id}}.{nearest(mask, there)}"
    )


def _in_folder(folder: str, people, sessions, stems) -> tuple[list[str | None], list[str]]:
    """The chosen masks, and for each image what was looked for."""
    by_session: dict[tuple[str, str | None], list[Found]] = {}
    for mask in bids.scan_bids(folder, MASK_SUFFIXES).images:
        by_session.setdefault((bare_id(mask.participant_id), mask.session_id), []).append(mask)
    found, expected = [], []
    for person, session, stem in zip(people, sessions, stems, strict=True):
        session = f"ses-{session.removeprefix('ses-')}" if session else None
        there = by_session.get((bare_id(person), session), [])
        chosen = choose_mask(stem, there)
        found.append(chosen.path if chosen else None)
        place = os.path.join(folder, f"sub-{bare_id(person)}", session or "", "anat")
        other = f" (got only {there[0].stem}, which is of another image)" if there else ""
        expected.append(f"{place}/{EXPECTED}{other}")
    return found, expected

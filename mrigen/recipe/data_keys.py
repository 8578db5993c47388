"""The keys `data` and `preprocess`: who is in the cohort, how people are divided, and what an image becomes."""

import math
import os
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mrigen.schema import Scalar, Section, Shape, Three, fault, key
from mrigen.system.files import open_file
from mrigen.system.names import name_fault

# Of a volume; what counts them is a signed integer of 32 bits in many places of the libraries below.
MOST_VOXELS = 2**31 - 1


def _read_lists(entries: Any) -> Any:
    """Puts the ids of a text file in the place of its name, so that a resolved recipe needs the file no more."""
    entries = [entries] if _is_file(entries) else entries
    if not isinstance(entries, list):
        return entries
    ids: list[Any] = []
    for entry in entries:
        ids += _read_ids(entry) if _is_file(entry) else [entry]
    return list(dict.fromkeys(ids)) if all(isinstance(entry, str) for entry in ids) else ids


def _is_file(entry: Any) -> bool:
    return isinstance(entry, str) and entry.lower().endswith(".txt")


def _read_ids(path: str) -> list[str]:
    """Returns the ids of a text file: one a line; `#` begins a remark."""
    try:
        with open_file(os.path.expanduser(path), mode="r", encoding="utf-8-sig") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise fault(f"got {path}, which is no text in UTF-8, expected one id a line. Save it as UTF-8.") from None
    except OSError as error:
        raise fault(
            f"got {path}, which cannot be read ({error.strerror}), expected a text file with one id a line. "
            "Check the path."
        ) from None
    # The mark begins a word: an id may hold one.
    lines = (re.split(r"(?:^|\s)#", line)[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


class CohortRecipe(Section):
    name: str = key(..., "a word", "Name of the cohort; it becomes part of the subject ids when there are several.")
    root: str = key(..., "a path", "BIDS folder, TSV or CSV table with a column of paths, or plain folder of NIfTI.")
    mask: str | None = key(
        None,
        "a name or a path pattern, or null",
        "Mask images (label > 0 is inside): the name of a folder under derivatives/, `.` where they lie beside the "
        "images, or a path pattern with {id}.",
    )


class SexCodes(Section):
    F: list[str | int | float] = key(..., "a list of codes", "Values of the sex column that mean female.")
    M: list[str | int | float] = key(..., "a list of codes", "Values of the sex column that mean male.")


class SplitRecipe(Section):
    seed: int = key(0, "an integer >= 0", "Seed of the split, apart from training.seed.", ge=0)
    train: float = key(0.7, "a fraction above 0 and up to 1", "Share of subjects that train the model.", gt=0, le=1)
    validation: float = key(
        0.1, "a fraction from 0 to below 1", "Share of subjects that choose settings and stop training.", ge=0, lt=1
    )
    heldout: float = key(
        0.2, "a fraction from 0 to below 1", "Share of subjects that only the final figures touch.", ge=0, lt=1
    )
    file: str | None = key(
        None, "a path or null", "TSV with participant_id and split (train, validation, heldout) to use instead."
    )

    @model_validator(mode="after")
    def _sums_to_one(self):
        total = self.train + self.validation + self.heldout
        if abs(total - 1) > 1e-6:
            raise fault(f"got fractions that sum to {total:g}, expected 1. Change train, validation or heldout.")
        return self


class PhantomRecipe(Section):
    seed: int = key(0, "an integer from 0 to 2**63 - 1", "Seed of the synthetic cohort.", ge=0, le=2**63 - 1)
    zooms: float = key(4.0, "a number from 1 to 8", "Voxel size in mm of the images that are made.", ge=1, le=8)
    sex_effect: Literal["none", "size", "shape", "both"] = key(
        "both", "one of none, size, shape, both", "What differs between the sexes: head size, local shape, or both."
    )
    sex_effect_strength: float = key(
        1.0, "a number from 0 to 2", "Strength of the sex effect; 1 is life-like.", ge=0, le=2
    )
    num_sites: int = key(2, "an integer from 1 to 20", "Number of scanners.", ge=1, le=20)
    site_effect_strength: float = key(1.0, "a number from 0 to 2", "Strength of the scanner differences.", ge=0, le=2)
    age_effect_strength: float = key(
        1.0, "a number from 0 to 2", "Strength of ageing (ventricles, cortex).", ge=0, le=2
    )
    anatomy: Literal["warped", "grown"] = key(
        "warped",
        "one of warped, grown",
        "warped: everyone is one template, deformed smoothly. grown: everyone is made by procedure, with own folds.",
    )
    num_scanners: int = key(
        1,
        "an integer from 1 to 20",
        "How often everyone is scanned, each time by another scanner and in another pose (sessions; see data.visits).",
        ge=1,
        le=20,
    )


class DataRecipe(Section):
    source: Literal["files", "phantom"] = key(
        "files", "one of files, phantom", "files: data.root or data.cohorts. phantom: the built-in synthetic cohort."
    )
    root: str | None = key(
        None, "a path or null", "BIDS folder, table with a column of paths, or folder of NIfTI (short form of cohorts)."
    )
    mask: str | None = key(
        None,
        "a name or a path pattern, or null",
        "Mask images (label > 0 is inside): the name of a folder under derivatives/, `.` where they lie beside the "
        "images, or a path pattern with {id}.",
    )
    apply_mask: bool = key(
        False,
        "true or false",
        "Set voxels outside the mask to 0 (skull stripping). Cohorts without a mask stay as they are.",
    )
    cohorts: list[CohortRecipe] = key([], "a list of {name, root, mask}", "Several cohorts at once.")
    num_subjects: int = key(
        100, "an integer from 4 to 9999", "Size of the synthetic cohort (data.source: phantom).", ge=4, le=9999
    )
    phantom: PhantomRecipe = key(PhantomRecipe, "a block of keys", "How the synthetic cohort is made.")
    suffix: str = key("T1w", "a BIDS suffix", "Images to take: image files whose name ends in _<suffix>.")
    visits: Literal["first", "all"] = key(
        "first", "one of first, all", "Which sessions and runs of a person to use. The probe always uses the first."
    )
    sex_column: str = key("sex", "a column name", "Column of participants.tsv that holds the sex.")
    sex_codes: SexCodes | None = key(
        None,
        "a mapping {F: [codes], M: [codes]} or null",
        "Needed where codes are numbers: which mean female, which male. Words (F, male, ...) are understood.",
    )
    age_column: str = key(
        "age", "a column name", "Column that holds the age: years, or the unit that participants.json says."
    )
    site_column: str = key("site", "a column name", "Column that holds the scanner or site.")
    family_column: str = key("family", "a column name", "Column that names a family; families are never divided.")
    same_person: str | None = key(
        None,
        "a column name or null",
        "Column that says who was scanned under several ids: ids with one value, or the one id they name, are one "
        "person. They are one family, too.",
    )
    where: dict[str, Scalar | list[Scalar]] = key(
        {},
        "a mapping column: value or column: [values]",
        "Keep who matches all of these: columns of the tables, or words of the file names (ce, space).",
    )
    exclude: Annotated[list[str], BeforeValidator(_read_lists)] = key(
        [],
        "a list of participant ids, or the path of a .txt",
        "Leave these people out. A .txt holds one id a line; # begins a remark.",
    )
    copies: Literal["refuse", "tell"] = key(
        "refuse",
        "one of refuse, tell",
        "Images that show one head under two ids (moved, mirrored, defaced, with another contrast): refuse the cohort, "
        "or only tell, where they were looked at and are two people.",
    )
    split: SplitRecipe = key(SplitRecipe, "a block of keys", "How people are divided.")

    @model_validator(mode="after")
    def _names_of_cohorts(self):
        for cohort in self.cohorts:
            if wrong := name_fault(cohort.name):
                raise fault(f"got a cohort named {cohort.name!r}, {wrong}, expected a word. Rename it.")
        return self

    @model_validator(mode="after")
    def _one_source(self):
        given = [name for name in ("root", "cohorts") if getattr(self, name)]
        if self.source == "phantom" and given:
            raise fault(
                f"got source: phantom together with {' and '.join(given)}, expected one source. "
                f"Remove {' and '.join(given)}, or set data.source=files."
            )
        if len(given) == 2:
            raise fault("got both root and cohorts, expected one of them. Put the folder of root into cohorts.")
        if self.cohorts and self.mask:
            raise fault("got mask beside cohorts, expected a mask in each cohort. Move mask into the list.")
        names = [cohort.name for cohort in self.cohorts]
        if len(set(names)) < len(names):
            raise fault(f"got cohorts named {', '.join(names)}, expected different names. Rename one.")
        if self.apply_mask and self.source == "files":
            masks = [cohort.mask for cohort in self.cohorts] or [self.mask]
            if not any(masks):
                raise fault(
                    "got apply_mask: true without a mask, expected data.mask. Name it, or set apply_mask=false."
                )
        return self


class PreprocessRecipe(Section):
    zooms: Three = key((4.0, 4.0, 4.0), "one or three numbers > 0", "Voxel size in mm of the model's grid.")
    volume_shape: Shape = key((48, 56, 48), "one or three integers >= 8", "Size of the model's grid in voxels; any.")
    centre: Literal["auto", "field_of_view", "head_top", "mask"] = key(
        "auto",
        "one of auto, field_of_view, head_top, mask",
        "Where the grid is laid. auto: a stripped brain in the middle; a whole head hangs from its top.",
    )
    intensity_percentiles: Annotated[tuple[float, float], Field(strict=False)] = key(
        (0.0, 99.5),
        "two percentiles, low and high, from 0 to 100",
        "Intensities that become 0 (percentile of the whole image; 0: its background) and 1 (of the head); the rest "
        "is clipped.",
    )
    nan_as_background: bool = key(
        False, "true or false", "Take voxels that are not a number for background; otherwise such images are refused."
    )
    version: Literal[3, 4] = key(
        4,
        "one of 3, 4",
        "How images become grey levels. 3: the lowest voxel is black, as in runs made before; they keep it.",
    )

    @model_validator(mode="after")
    def _ranges(self):
        if min(self.zooms) < 0.01 or max(self.zooms) > 32:
            raise fault(f"got zooms {list(self.zooms)}, expected numbers from 0.01 to 32 mm. Set 4 for a start.")
        if min(self.volume_shape) < 8 or math.prod(self.volume_shape) > MOST_VOXELS:
            raise fault(
                f"got volume_shape {list(self.volume_shape)}, expected integers >= 8 whose product is at most "
                f"{MOST_VOXELS:,} voxels. Set [48, 56, 48] at 4 mm."
            )
        low, high = self.intensity_percentiles
        if not 0 <= low < high <= 100:
            raise fault(
                f"got intensity_percentiles [{low:g}, {high:g}], expected 0 <= low < high <= 100. Set [0, 99.5]."
            )
        return self

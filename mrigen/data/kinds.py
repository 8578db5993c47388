"""What the words of a file name say an image is: a phase image, a mask, another kind than the other images."""

import re
from collections import Counter
from collections.abc import Collection

from mrigen.system.wording import counted, limited, some

# Who and when; all else in a name (space-, ce-, acq-, res-, part-, ...) is a kind of image.
NO_KIND = frozenset({"sub", "ses", "run"})
# Not magnitude. dcm2niix ends names with _ph, _imaginary, _imaginarya and the like.
NOT_MAGNITUDE = re.compile(r"(?:^|_)(?:(?:part-)?(?:phase|imag(?:inary)?[a-z]?)|ph)(?:_|$)", re.IGNORECASE)
MASK_WORDS = re.compile(
    r"(?:^|[_.\s-])(?:(?:brain|head|skull|lesion|tissue)?masks?|[dn]?seg|probseg|segmentation|aseg|"
    r"aparc(?:\+aseg)?|labels?|parc(?:ellation)?|rois?)(?:[_.\s-]|$)",
    re.IGNORECASE,
)


def parse_stem(stem: str) -> tuple[dict[str, str], str]:
    """Returns the BIDS entities of a file name without suffix, and its last word.

    Example:
        >>> parse_stem("sub-01_ses-2_run-1_T1w")
        ({'sub': '01', 'ses': '2', 'run': '1'}, 'T1w')
    """
    *parts, last = stem.split("_")
    return {key: value for key, dash, value in (part.partition("-") for part in parts) if dash}, last


def is_magnitude(stem: str) -> bool:
    """Whether a name does not say that its image is a phase or an imaginary part.

    Example:
        >>> is_magnitude("sub-1_part-mag_T1w"), is_magnitude("sub-1_part-phase_T1w"), is_magnitude("p1_T1w_ph")
        (True, False, False)
    """
    return not NOT_MAGNITUDE.search(stem)


def is_mask(stem: str) -> bool:
    """Whether a name says that its image is a mask or labels, and no image that was masked.

    Example:
        >>> is_mask("p1_brain_mask"), is_mask("p1-seg"), is_mask("p1_masked"), is_mask("mask_p1")
        (True, True, False, True)
    """
    return bool(MASK_WORDS.search(stem))


def kind_of(stem: str) -> str:
    """Returns what a BIDS name says of its image beside person, session and run; '' for a plain one.

    Example:
        >>> kind_of("sub-1_ses-2_acq-fast_ce-gad_run-1_T1w"), kind_of("IXI012-HH-1211-T1")
        ('acq-fast_ce-gad', '')
    """
    if not stem.startswith("sub-"):
        return ""
    return "_".join(f"{key}-{value}" for key, value in parse_stem(stem)[0].items() if key not in NO_KIND)


def kind_note(stems: Collection[str]) -> list[str]:
    """Returns a line that counts the kinds of the images, if there are several."""
    kinds = Counter(map(kind_of, stems))
    if len(kinds) < 2:
        return []
    shown = ", ".join(limited([f"{kind or 'plain'} ({number})" for kind, number in kinds.most_common()], 8))
    entities = {key for kind in kinds for key in (part.partition("-")[0] for part in kind.split("_")) if key}
    entity = next((key for key in ("space", "ce", "part", "res", "acq") if key in entities), min(entities))
    values = Counter(parse_stem(stem)[0].get(entity, "n/a") for stem in stems if stem.startswith("sub-"))
    value = values.most_common(1)[0][0]
    return [
        f"By their names the images are of different kinds: {shown}. They may look different for that alone; "
        f"to keep one kind, for example `data.where={{{entity}: {value}}}`."
    ]


def longer_names_note(names: Collection[str], place: str) -> list[str]:
    """Returns a line that counts the names of people that are another's name and more words (p1_brain beside p1).

    Args:
        names: ids of the people of a plain folder, a set.
        place: folder.
    """
    longer = []
    for name in sorted(names):
        cuts = [cut.start() for cut in re.finditer(r"[_.-]", name)]
        shorter = next((name[:cut] for cut in reversed(cuts) if name[:cut] in names), None)
        if shorter:
            longer.append(f"{name} beside {shorter}")
    if not longer:
        return []
    files = counted(len(longer), "file", "files")
    return [
        f"{place}: {files} with another's name and more words ({some(longer, 3)}): each counts as a person. If they "
        "show the same people, list the images in a table with participant_id and path."
    ]

"""Which scans a cohort has, and how the files that are made of each are called."""

import dataclasses
import os
import re
from collections import Counter

from mrigen.data.bids import bare_id, bare_session
from mrigen.data.kinds import parse_stem
from mrigen.data.masks import find_masks
from mrigen.data.sources import Source
from mrigen.errors import CohortError
from mrigen.system.wording import limited

# The space of aligned images, by kind of alignment.
SPACES = {"rigid": "MNIrigid", "affine": "MNI152NLin2009aSym"}
RECORD = "_desc-preproc_{suffix}.json"


@dataclasses.dataclass(frozen=True)
class Scan:
    """One image to prepare.

    Attributes:
        stem: how the names of its files begin: sub-..., ses-..., run-... and the like.
        participant_id, session_id: as BIDS has them; no session is None.
        path: the image. mask_path: its mask, where masks are given.
    """

    stem: str
    participant_id: str
    session_id: str | None
    path: str
    mask_path: str | None = None

    @property
    def folder(self) -> str:
        """Where its images go, below the folder of all."""
        return os.path.join(self.participant_id, self.session_id or "", "anat")

    @property
    def picture(self) -> str:
        """Where its picture goes."""
        return os.path.join(self.participant_id, self.session_id or "", "figures", f"{self.stem}_desc-brain_T1w.png")

    def name(self, ending: str, space: str | None = None) -> str:
        """Returns where a file of it goes, below the folder of all; of a space, or on its own grid."""
        entity = "" if space is None else f"_space-{space}"
        return os.path.join(self.folder, f"{self.stem}{entity}_{ending}")


def list_scans(source: Source) -> list[Scan]:
    """Returns the scans of a cohort, in the order of their names.

    People and names of a BIDS folder stay; others become `sub-` and what of their id BIDS allows.

    Raises:
        CohortError: two scans would have one name.
    """
    images = source.images
    images = images.assign(bare_participant=images["participant_id"], row=images.index)
    masks = [None] * len(images)
    if source.recipe.mask is not None or source.mask_column is not None:
        # One that is missing is a fault of its scan, not of the cohort.
        masks, faults = find_masks(source, images)
        if not any(masks):
            raise CohortError(faults or [f"data.mask: got '{source.recipe.mask}', expected a mask for each image."])
    scans = []
    for image, mask in zip(images.itertuples(), masks, strict=True):
        person = f"sub-{_label(bare_id(image.participant_id))}"
        session = None if not isinstance(image.session_id, str) else f"ses-{_label(bare_session(image.session_id))}"
        stem = "_".join(filter(None, (person, session)))
        if image.stem.startswith(f"{image.participant_id}_"):  # A name of BIDS: what else it says is kept.
            entities = parse_stem(image.stem)[0]
            kept = {key: value for key, value in entities.items() if key not in ("sub", "ses", "space", "desc")}
            stem = "_".join([stem, *(f"{key}-{_label(value)}" for key, value in kept.items())])
        scans.append(Scan(stem, person, session, image.path, mask))
    return sorted(_with_runs(scans), key=lambda scan: scan.stem)


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9+]", "", text)


def _with_runs(scans: list[Scan]) -> list[Scan]:
    """Numbers scans of one person, session and name; different people never share a name."""
    by_stem: dict[str, list[Scan]] = {}
    for scan in scans:
        by_stem.setdefault(scan.stem, []).append(scan)
    faults, named = [], []
    for stem, alike in by_stem.items():
        if len(alike) == 1:
            named += alike
        elif "_run-" in stem:
            paths = ", ".join(scan.path for scan in alike)
            faults.append(f"{stem}: got several images ({paths}), expected one a name. Rename the others.")
        else:
            numbered = enumerate(sorted(alike, key=lambda scan: scan.path), 1)
            named += [dataclasses.replace(scan, stem=f"{stem}_run-{number}") for number, scan in numbered]
    if faults:
        raise CohortError(limited(faults))
    return named


def people_faults(source: Source) -> list[str]:
    """Returns a line for each two people whose ids BIDS cannot tell apart."""
    known = {bare_id(person) for person in source.images["participant_id"]}
    labels = Counter(_label(person) for person in known)
    return limited(
        [
            f"{person}: got an id that is '{_label(person)}' in BIDS, as another's is, expected different letters and "
            "digits. Rename one."
            for person in sorted(known)
            if labels[_label(person)] > 1 or not _label(person)
        ]
    )

"""Which scans a cohort has, and how the files that are made of each are called."""

import dataclasses
import os
import re
from collections import Counter
from pathlib import Path

from mrigen.data.bids import bare_session
from mrigen.data.kinds import parse_stem
from mrigen.data.masks import find_masks
from mrigen.data.sources import Source
from mrigen.errors import CohortError
from mrigen.system.wording import limited

# The space of aligned images, by kind of alignment.
SPACES = {"rigid": "MNIrigid", "affine": "MNI152NLin2009aSym"}


@dataclasses.dataclass(frozen=True)
class Scan:
    """One image to prepare.

    Attributes:
        stem: how the names of its files begin: sub-..., ses-..., run-... and the like.
        participant_id, session_id: as BIDS has them; no session is None.
        path: the image. mask_path: its mask, where masks are given.
        origin: the image, from the folder of the cohort on.
    """

    stem: str
    participant_id: str
    session_id: str | None
    path: str
    mask_path: str | None = None
    origin: str = ""

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

    Ids that begin with `sub-`, and their sessions, stay as they are; others become `sub-` and what of them BIDS allows.

    Raises:
        CohortError: two scans would have one name.
    """
    images = source.images
    images = images.assign(bare_participant=images["participant_id"], row=images.index)
    masks: list[str | None] = [None] * len(images)
    if source.recipe.mask is not None or source.mask_column is not None:
        # One that is missing is a fault of its scan, not of the cohort.
        masks, faults = find_masks(source, images)
        if not any(masks):
            raise CohortError(faults or [f"data.mask: got '{source.recipe.mask}', expected a mask for each image."])
    scans = []
    for image, mask in zip(images.itertuples(), masks, strict=True):
        person = person_of(image.participant_id)
        session = None if not isinstance(image.session_id, str) else f"ses-{_label(bare_session(image.session_id))}"
        stem = "_".join(filter(None, (person, session)))
        if image.stem.startswith(f"{image.participant_id}_"):  # A name of BIDS: what else it says is kept.
            entities = parse_stem(image.stem)[0]
            kept = {key: value for key, value in entities.items() if key not in ("sub", "ses", "space", "desc")}
            stem = "_".join([stem, *(f"{key}-{_label(value)}" for key, value in kept.items())])
        origin = Path(os.path.relpath(image.path, source.folder)).as_posix()
        scans.append(Scan(stem, person, session, image.path, mask, origin))
    return sorted(_with_runs(scans), key=lambda scan: scan.stem)


def person_of(participant_id: str) -> str:
    """Returns the id of a person as the new folder has it.

    Example:
        >>> person_of("sub-012"), person_of("IXI012-HH-1211")
        ('sub-012', 'sub-IXI012HH1211')
    """
    return participant_id if participant_id.startswith("sub-") else f"sub-{_label(participant_id)}"


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
    """Returns a line for each person whose id is no name of a folder, or the same as another's in BIDS."""
    people = sorted(set(source.images["participant_id"]))
    labels = Counter(map(person_of, people))
    return limited(
        [
            f"{person}: got an id that is '{person_of(person)}' in BIDS, expected letters and digits that no other id "
            "has. Rename it."
            for person in people
            if labels[person_of(person)] > 1 or not re.fullmatch(r"sub-[\w.+-]+", person_of(person))
        ]
    )

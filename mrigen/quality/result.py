"""What `mrigen qc` found: measures, flags and pictures, and the files that it writes."""

import dataclasses
import html
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mrigen.imaging.figures import save_figure
from mrigen.quality.page import render_page
from mrigen.quality.pictures import plot_strips
from mrigen.quality.rules import FINE, LOOK, WRONG
from mrigen.system.files import write_table, write_text
from mrigen.system.targets import refuse_taken, writing
from mrigen.system.wording import counted, some

TABLE, PAGE, SHEET, EXCLUDE = "qc.tsv", "qc.html", "qc.png", "exclude.txt"
# Images on the picture sheet.
MOST_ON_SHEET = 40
# Images that are named when the object is shown.
MOST_NAMED = 20


@dataclasses.dataclass(frozen=True, repr=False)
class Quality:
    """What was found about the images of a cohort.

    Attributes:
        table: one row an image: scan_id, verdict ("wrong", "look" or "fine"), who it shows, and the measures.
        flags: one row an image and flag: scan_id, flag, level ("wrong" or "look"), reason and value.
        strips: scan_id -> (h, w) uint8, the three middle slices: of every image with a flag that can be shown, and of
            some of the others.
        notes: lines about the cohort. header_notes: about what headers leave open.
        faults: what keeps images from being used, one line each, as a fit raises them.
        directory: where `write` puts the files unless told otherwise.
    """

    table: pd.DataFrame
    flags: pd.DataFrame
    strips: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()
    header_notes: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    directory: Path = Path("qc")

    def to_frame(self) -> pd.DataFrame:
        """Returns the table, with a column `flags` (words) and a column `reasons` (sentences)."""
        by_image = self.flags.groupby("scan_id", sort=False)
        words = by_image["flag"].agg(lambda flags: ",".join(dict.fromkeys(flags)))
        frame = self.table.copy()
        frame.insert(2, "flags", frame["scan_id"].map(words))
        frame["reasons"] = frame["scan_id"].map(by_image["reason"].agg(" ".join))
        return frame

    @property
    def findings(self) -> list[str]:
        """Lines that say how many images are wrong or to be looked at, and which."""
        counts = self.table["verdict"].value_counts()
        lines = [
            f"{counted(len(self.table), 'image', 'images')}: {counts.get(WRONG, 0)} wrong, "
            f"{counts.get(LOOK, 0)} to be looked at, {counts.get(FINE, 0)} fine"
        ]
        for level in (WRONG, LOOK):
            own = self.table["scan_id"][self.table["verdict"] == level]
            for scan_id in own[:MOST_NAMED]:
                lines.append(f"{level}: {scan_id}: {' '.join(self.reasons(scan_id))}")
            if len(own) > MOST_NAMED:
                lines.append(f"{level}: ... and {len(own) - MOST_NAMED} more")
        return lines

    @property
    def warnings(self) -> list[str]:
        """Lines about images that can be used, but are wrong or strange, the wrong ones first."""
        known = ("unreadable", "duplicate")
        lines = []
        for level in (WRONG, LOOK):
            for scan_id in self.table["scan_id"][self.table["verdict"] == level]:
                own = self.flags[(self.flags["scan_id"] == scan_id) & ~self.flags["flag"].isin(known)]
                if len(own):
                    lines.append(f"{scan_id}: {' '.join(own.sort_values('level', ascending=False)['reason'])}")
        return lines

    def reasons(self, scan_id: str) -> list[str]:
        """Returns the sentences about an image, the gravest first."""
        own = self.flags[self.flags["scan_id"] == scan_id]
        return list(own.sort_values("level", ascending=False, kind="stable")["reason"])

    def __repr__(self) -> str:
        return "\n".join(self.findings)

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in self.findings)

    def plot(self) -> Figure:
        """Returns the picture sheet: images with flags first."""
        order = {WRONG: 0, LOOK: 1, FINE: 2}
        shown = self.table[self.table["scan_id"].isin(list(self.strips))]
        shown = shown.iloc[shown["verdict"].map(order).argsort(kind="stable")][:MOST_ON_SHEET]
        words = self.flags.groupby("scan_id")["flag"].agg(lambda flags: some(list(dict.fromkeys(flags)), 3))
        titles = [f"{name}: {words[name]}" if name in words else name for name in shown["scan_id"]]
        return plot_strips([self.strips[name] for name in shown["scan_id"]], titles, list(shown["verdict"]))

    def excluded(self) -> str:
        """Returns the list that `data.exclude` reads: people with wrong images; those to be looked at as remarks."""
        lines = [
            "# Written by mrigen qc. The recipe key `data.exclude` takes the path of this file: one id a line.",
            "# Images that are only unlike the others are remarks: remove the first # of those that you leave out.",
        ]
        people = self.table.drop_duplicates("participant_id")["participant_id"]
        for level, sign in ((WRONG, ""), (LOOK, "# ")):
            for person in people:
                scans = self.table[self.table["participant_id"] == person]
                worst = WRONG if (scans["verdict"] == WRONG).any() else LOOK
                named = scans[scans["verdict"] != FINE]
                if len(named) and worst == level:
                    several = len(scans) > 1
                    reasons = [
                        (f"{scan_id}: " if several else "") + " ".join(self.reasons(scan_id))
                        for scan_id in named["scan_id"]
                    ]
                    lines.append(f"{sign}{person}  # {' '.join(' '.join(reasons).split())}")
        return "\n".join(lines) + "\n"

    def paths(self, directory: str | os.PathLike | None = None) -> list[Path]:
        """Returns the files that `write` makes: the table, the page, the picture sheet and the list to exclude."""
        return paths_in(self.directory if directory is None else Path(directory))

    def write(self, directory: str | os.PathLike | None = None, force: bool = False) -> list[Path]:
        """Writes qc.tsv, qc.html (one file, which needs no network), qc.png and exclude.txt; returns the paths.

        The pictures of whole heads show faces: treat them as the images themselves.

        Args:
            directory: the folder; `directory` of the object by default.
            force: whether files of that name are replaced.

        Raises:
            UsageError: a file is there already.
        """
        paths = self.paths(directory)
        refuse_taken(paths, force)
        table, page, sheet, exclude = paths
        with writing(paths):
            write_table(table, self.to_frame())
            write_text(page, render_page(self))
            save_figure(self.plot(), sheet)
            write_text(exclude, self.excluded())
        return paths


def paths_in(directory: Path) -> list[Path]:
    """Returns the files that `Quality.write` makes in a folder."""
    return [directory / name for name in (TABLE, PAGE, SHEET, EXCLUDE)]

"""What `prepare` made of a cohort."""

import dataclasses
import html
from pathlib import Path

import pandas as pd

from mrigen.system.wording import counted

FINE, LOOK, FAILED = "fine", "look", "failed"
# Scans that are named when the object is shown.
MOST_NAMED = 20
# What a table on the terminal tells of each measure: name -> heading, and how the number is written.
SHOWN = {
    "brain_ml": ("brain, ml", "{:.0f}"),
    "mask_agreement": ("agreement of mirrored masks", "{:.3f}"),
    "template_overlap": ("overlap with the template", "{:.3f}"),
    "log_determinant_to_template": ("log-determinant to the template", "{:.3f}"),
    "rotation_degrees": ("turned by, degrees", "{:.1f}"),
    "bias_range": ("bias field, brightest over darkest", "{:.2f}"),
    "removed_ml": ("cut off with the face, ml", "{:.0f}"),
    "seconds": ("seconds a scan", "{:.0f}"),
}


@dataclasses.dataclass(frozen=True, repr=False)
class Derivatives:
    """What was made of the scans of a cohort.

    Attributes:
        directory: the folder, a cohort that `fit` takes: `data.root` is the folder, `data.mask` is ".".
        table: one row a scan: scan, verdict ("fine", "look" or "failed"), reasons, participant_id, session_id, source,
            image, mask, and the measures.
        num_new: how many were made now; the others were there.
        faults: why scans failed, one line each.
        notes: lines about the cohort.
    """

    directory: Path
    table: pd.DataFrame
    num_new: int
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def num_usable(self) -> int:
        """How many scans there are to fit."""
        return int((self.table["verdict"] != FAILED).sum())

    @property
    def findings(self) -> list[str]:
        """Lines that say how many scans were made, and which failed or are to be looked at."""
        counts = self.table["verdict"].value_counts()
        kept = self.num_usable - self.num_new
        lines = [
            f"{counted(len(self.table), 'scan', 'scans')}: {self.num_new} prepared, {kept} were there; "
            f"{counts.get(FINE, 0)} fine, {counts.get(LOOK, 0)} to be looked at, {counts.get(FAILED, 0)} failed"
        ]
        own = self.table[self.table["verdict"] == LOOK]
        lines += [f"look: {row.scan}: {row.reasons}" for row in own.head(MOST_NAMED).itertuples()]
        if len(own) > MOST_NAMED:
            lines.append(f"look: ... and {len(own) - MOST_NAMED} more")
        return lines

    @property
    def figures(self) -> list[str]:
        """Lines of a small table: median and range of the measures over the scans."""
        rows = [
            (heading, *(text.format(value) for value in self.table[name].quantile([0.5, 0.0, 1.0])))
            for name, (heading, text) in SHOWN.items()
            if name in self.table and self.table[name].notna().any()
        ]
        rows = [("", "median", "from", "to"), *rows] if rows else []
        widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
        return [
            "  ".join([row[0].ljust(widths[0]), *(row[column].rjust(widths[column]) for column in (1, 2, 3))])
            for row in rows
        ]

    def __repr__(self) -> str:
        return "\n".join([*self.findings, *self.figures])

    def _repr_html_(self) -> str:
        return "".join(f"<p>{html.escape(line)}</p>" for line in self.findings)

"""What a look at the machine found."""

import dataclasses
from typing import Any, Literal

State = Literal["well", "note", "fault"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: python, packages, keras, tensorflow, gpu, precision, workers, memory, disk, files, slurm or browser.
        state: "well"; "note", where something is slower or less than it could be; "fault", where a fit would stop.
        text: what is there, in words.
        remedy: what to do about a note or a fault; None where nothing is to be done.
    """

    topic: str
    state: State
    text: str
    remedy: str | None = None


@dataclasses.dataclass(frozen=True)
class Checkup:
    """All findings about a machine.

    Attributes:
        findings: in the order in which they were looked at.
        facts: what they rest on, as numbers and names: versions, GPUs, precision, bytes, partitions.
    """

    findings: tuple[Finding, ...]
    facts: dict[str, Any]

    @property
    def faults(self) -> tuple[Finding, ...]:
        """What would stop a fit."""
        return tuple(finding for finding in self.findings if finding.state == "fault")

    @property
    def is_well(self) -> bool:
        """Whether nothing would stop a fit."""
        return not self.faults

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as plain values: is_well, findings and facts."""
        findings = [dataclasses.asdict(finding) for finding in self.findings]
        return {"is_well": self.is_well, "findings": findings, "facts": self.facts}

    def __str__(self) -> str:
        """A line a finding, and one below it with what to do."""
        lines = []
        for finding in self.findings:
            lines.append(f"{finding.state:6}{finding.topic:11}{finding.text}")
            if finding.remedy is not None:
                lines.append(f"{'':17}{finding.remedy}")
        count = len(self.faults)
        lines.append("Nothing would stop a fit." if not count else f"{count} of these would stop a fit.")
        return "\n".join(lines)

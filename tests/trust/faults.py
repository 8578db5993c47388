"""Faults of machines and of people who are in a hurry: full disks, files that vanish, signals, clocks, two at once."""

import errno
import re
import signal
from dataclasses import dataclass

from tests.trust.breaking import (
    FIT,
    SAMPLE,
    Act,
    at_every_write,
    claimed,
    closed_pipe,
    failing_reads,
    full_output,
    gone_folder,
    out_of_memory,
    plain_terminal,
    read_only,
    resource_exhausted,
    run_vanishes,
    signalled,
)
from tests.trust.registry import Hidden

SOME_FILE = ((r"^\S+: (?=No space|Disk quota|Read-only|Input/output|Stale)", "<a file>: "),)
PROCESS = ((r"process \d+ on \S+?(?=[,.])", "process <number> on <host>"),)


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        what: happens, in words. done: to make it happen, in words.
        act: makes it happen, and returns how the call ended.
        status: it ends with. hidden: see `Case`.
    """

    what: str
    done: str
    act: Act
    status: int
    hidden: Hidden = ()

    def __str__(self) -> str:
        return re.sub(r"\W+", "-", self.what)


FAULTS = [
    Fault("a full disk at any write of samples", "`mrigen sample`", at_every_write(*SAMPLE), 1, SOME_FILE),
    Fault(
        "a full disk at any write of latents",
        "`mrigen encode`",
        at_every_write("encode", "--run", "run", "-o", "latents.tsv", "-q"),
        1,
        SOME_FILE,
    ),
    Fault(
        "a full disk at any write of a table of runs",
        "`mrigen compare`",
        at_every_write("compare", "run", "-o", "table.csv", "-q"),
        1,
        SOME_FILE,
    ),
    Fault(
        "a full disk at any write of a synthetic cohort",
        "`mrigen phantom`",
        at_every_write("phantom", "-n", "1", "--zooms", "8", "-o", "cohort", "-q", run=False),
        1,
        SOME_FILE,
    ),
    Fault("a full quota", "`mrigen sample`", at_every_write(*SAMPLE, number=errno.EDQUOT), 1, SOME_FILE),
    Fault(
        "a disk that fails while it is written to",
        "`mrigen sample`",
        at_every_write(*SAMPLE, number=errno.EIO),
        1,
        SOME_FILE,
    ),
    Fault(
        "a read-only run folder",
        "`mrigen sample`",
        read_only("sample", "-n", "1", "--run", "run", place="run"),
        1,
        SOME_FILE,
    ),
    Fault(
        "a run folder of somebody else",
        "`mrigen sample`",
        read_only("sample", "-n", "1", "--run", "run", place="run", number=errno.EACCES),
        1,
        ((r"^\S+: (?=Permission)", "<a file>: "),),
    ),
    Fault(
        "a read-only folder for a new run",
        "`mrigen fit`",
        read_only("fit", "smoke", "--run", "new", "-q", place="new", run=False),
        1,
        SOME_FILE,
    ),
    Fault(
        "an image that vanishes between the check and the fit",
        "`mrigen fit`",
        failing_reads(errno.ENOENT, "sub-01_T1w.nii.gz", *FIT),
        2,
    ),
    Fault("an image on a disk that fails", "`mrigen fit`", failing_reads(errno.EIO, "sub-01_T1w.nii.gz", *FIT), 2),
    Fault(
        "an image on a mount that went away",
        "`mrigen qc`",
        failing_reads(errno.ESTALE, "sub-01_T1w.nii.gz", "qc", "people", "-q"),
        0,
    ),
    Fault("a table on a disk that fails", "`mrigen fit`", failing_reads(errno.EIO, "participants.tsv", *FIT), 2),
    Fault(
        "a file of a run that vanishes between the check and its use",
        "`mrigen latents`",
        run_vanishes("latents.npz"),
        2,
    ),
    Fault("a present folder that was removed", "`mrigen runs`", gone_folder, 2),
    Fault(
        "Ctrl-C at any write of samples",
        "`mrigen sample`",
        at_every_write(*SAMPLE, raises=KeyboardInterrupt, status=130),
        130,
    ),
    Fault("Ctrl-C while a synthetic cohort is made", "`mrigen phantom`", signalled(signal.SIGINT), 130),
    Fault("SIGTERM while a synthetic cohort is made", "`mrigen phantom`", signalled(signal.SIGTERM), 143),
    Fault("a kill while a synthetic cohort is made", "`mrigen phantom`", signalled(signal.SIGKILL), -9),
    Fault(
        "two resumes of one run at once",
        "`mrigen fit --resume`, while another goes on",
        claimed("fit", "--resume", "run", "-q", whole=False),
        2,
        PROCESS,
    ),
    Fault(
        "a run that is read while it is fitted", "`mrigen sample`, while a fit goes on", claimed(*SAMPLE), 2, PROCESS
    ),
    Fault(
        "a fit on another host that was heard of a minute ago",
        "`mrigen sample`",
        claimed(*SAMPLE, seconds=60.0, host="elsewhere", name="elsewhere"),
        2,
        PROCESS,
    ),
    Fault(
        "a fit on another host that is silent for an hour",
        "`mrigen sample`",
        claimed(*SAMPLE, seconds=3600.0, host="elsewhere", name="elsewhere"),
        0,
    ),
    Fault("a fit of a process that died", "`mrigen sample`", claimed(*SAMPLE, began="1"), 0),
    Fault(
        "a clock that jumps a day ahead while a run is fitted",
        "`mrigen sample`",
        claimed(*SAMPLE, jump=86400.0),
        2,
        PROCESS,
    ),
    Fault(
        "a clock that jumps a day back while a run is fitted",
        "`mrigen sample`",
        claimed(*SAMPLE, jump=-86400.0),
        2,
        PROCESS,
    ),
    Fault("no memory for arrays", "`mrigen sample`", out_of_memory(MemoryError), 1),
    Fault("no memory on the device", "`mrigen sample`", out_of_memory(resource_exhausted), 1),
    Fault("what is printed goes to a full disk", "`mrigen recipe schema > /dev/full`", full_output, 1),
    Fault("what is printed goes to a program that has ended", "`mrigen recipe schema | true`", closed_pipe, 1),
    Fault("letters that the terminal does not know", "`mrigen recipe show my.yaml`", plain_terminal, 0),
]

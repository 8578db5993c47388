"""What the machine has to offer."""

import contextlib
import os
import resource
import sys
from pathlib import Path


def available_memory() -> int | None:
    """Returns the bytes of main memory that a new process may still take, or None where the system does not tell.

    The smaller of what Linux calls available and what the control group (a container, a SLURM job) leaves.
    """
    known = [value for value in (_meminfo(), _control_group()) if value is not None]
    if known:
        return min(known)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def total_memory() -> int | None:
    """Returns the bytes of main memory that processes may have here, or None where the system does not tell.

    The smaller of what the machine has and what the control group allows.
    """
    known = []
    with contextlib.suppress(ValueError, OSError):
        known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(ValueError, OSError):  # No control group, or its limit is "max".
            known.append(int((Path("/sys/fs/cgroup") / path).read_text()))
    return min(known, default=None)


def peak_rss_mb() -> float:
    """Returns the most main memory that this process ever held, MiB."""
    try:  # getrusage() begins with the size of the process that started this one.
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 2**10
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)


def cpu_flags() -> frozenset[str]:
    """Returns what the first core can do, by Linux's names (x86 and Arm); empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return frozenset(next(lines, "").partition(":")[2].split())


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _control_group() -> int | None:
    root = Path("/sys/fs/cgroup")
    try:
        if (root / "memory.max").is_file():
            limit, used = (root / "memory.max").read_text(), (root / "memory.current").read_text()
        else:
            limit, used = ((root / "memory" / f"memory.{name}_in_bytes").read_text() for name in ("limit", "usage"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # No control group, or its limit is "max".
        return None

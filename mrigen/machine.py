"""What the machine has to offer."""

import os
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

"""What the machine has to offer."""

import contextlib
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path


def available_memory() -> int | None:
    """Returns the bytes of main memory that a new process may still take, or None where the system does not tell.

    The smaller of what Linux calls available and what the control group (a container, a SLURM job) leaves.
    """
    known = [value for value in (free_memory(), control_group_memory()) if value is not None]
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


def usable_cores() -> int:
    """Returns the cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # Not on Linux.
        return os.cpu_count() or 1


def cpu_flags() -> frozenset[str]:
    """Returns what the first core can do, by Linux's names (x86 and Arm); empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return frozenset(next(lines, "").partition(":")[2].split())


def free_memory() -> int | None:
    """Returns the bytes of main memory that Linux calls available, or None where the system is another."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def control_group_memory(proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Returns the bytes that the tightest of the control groups of this process leaves: its own or one around it."""
    left = []
    for group, files in _memory_groups(proc, root):
        with contextlib.suppress(OSError, ValueError):  # No such file, or its limit is "max".
            limit, used = (int((group / name).read_text()) for name in files[:2])
            left.append(max(0, limit - used + _reclaimable(group / "memory.stat", files[2])))
    return min(left, default=None)


def _memory_groups(proc: Path, root: Path) -> Iterator[tuple[Path, tuple[str, str, str]]]:
    """Yields the folders of the control groups that count this process's memory, and what their files are called."""
    second = ("memory.max", "memory.current", "inactive_file")
    first = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        lines = [line.split(":", 2) for line in (proc / "self" / "cgroup").read_text().splitlines()]
    except OSError:
        lines = []
    places = [(root, second, path) for number, names, path in lines if number == "0" and not names]
    places += [(root / "memory", first, path) for _, names, path in lines if "memory" in names.split(",")]
    for folder, names, path in places or [(root, second, "/"), (root / "memory", first, "/")]:
        inner = folder / path.lstrip("/")
        # In a container the path is the host's, and the folder itself is the container's group.
        yield from ((group, names) for group in (inner, *inner.parents) if group.is_relative_to(folder))


def _reclaimable(path: Path, key: str) -> int:
    """Returns the bytes of files that were read and are kept as long as nobody needs the memory."""
    with contextlib.suppress(OSError):
        found = [line.split()[1] for line in path.read_text().splitlines() if line.startswith(f"{key} ")]
        return int(found[0]) if found else 0
    return 0

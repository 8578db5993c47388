"""Memory, disks, and whether files can be written as runs and caches need it."""

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mrigen.checkup.result import Finding
from mrigen.system.files import atomic_path, default_cache_directory, temporary_directory
from mrigen.system.machine import available_memory, control_group_memory, free_memory

# TensorFlow and the recipe smoke take 1 GiB; vae at 4 mm takes 2.1 GiB (docs/scaling.md).
LEAST_MEMORY, MODEST_MEMORY = 2**30, 3 * 2**30
# A run takes some MB; the cache of 600 people at 4 mm takes 80 MB, at 1 mm 3 GB.
LEAST_DISK, MODEST_DISK = 100 * 2**20, 5 * 2**30
# Written with every file and its rename; more than so many seconds is a file system in trouble.
SLOW_SECONDS = 2.0


def check_memory() -> Finding:
    """Returns whether the memory suffices."""
    available = available_memory()
    if available is None:
        return Finding("memory", "note", "the system does not tell", "See what it has before a large fit.")
    text = f"{_size(available)} available"
    group, free = control_group_memory(), free_memory()
    if group is not None and free is not None and group < free:
        text += f", by the limit of this job or container (the machine has {_size(free)})"
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        text += f"; ulimit -v allows {_size(limit)} of addresses"
        if limit < 16 * 2**30:
            remedy = "TensorFlow reserves more addresses than memory: ulimit -v unlimited."
            return Finding("memory", "note", text, remedy)
    if available < LEAST_MEMORY:
        remedy = "Ask for more (--mem=8G of sbatch, or the container's limit), or end other programs."
        return Finding("memory", "fault", f"{text}; the smallest fit takes {_size(LEAST_MEMORY)}", remedy)
    if available < MODEST_MEMORY:
        remedy = "mrigen check RECIPE says what a fit takes; a smaller training.batch_size takes less."
        return Finding("memory", "note", f"{text}; the recipe vae takes 2.1 GiB", remedy)
    return Finding("memory", "well", text)


def check_disks() -> Iterator[Finding]:
    """Yields whether the folders of the cache, the home, temporary files and this one have space."""
    by_disk: dict[tuple[int, int], list[str]] = {}
    spaces = {}
    for name, folder in _folders().items():
        try:
            there = nearest(folder)
            space, device = shutil.disk_usage(there), os.stat(there).st_dev
            entries = os.statvfs(there)
        except OSError as error:
            yield Finding("disk", "fault", f"{name} ({folder}): {error.strerror or error}", "Name another folder.")
            continue
        key = (device, space.total)
        by_disk.setdefault(key, []).append(f"{name} ({folder})")
        spaces[key] = (space.free, entries.f_files > 0 and entries.f_favail == 0)
    for key, names in by_disk.items():
        free, full = spaces[key]
        text = f"{_size(free)} free for {', '.join(names)}"
        remedy = "Free some, or name another disk: MRIGEN_CACHE for the cache, TMPDIR for temporary files."
        if full:
            yield Finding("disk", "fault", f"{text}, and no further file (inodes) can be made", remedy)
        elif free < LEAST_DISK:
            yield Finding("disk", "fault", text, remedy)
        else:
            state = "note" if free < MODEST_DISK else "well"
            yield Finding("disk", state, text, remedy if state == "note" else None)  # type: ignore[arg-type]


def check_writing() -> Iterator[Finding]:
    """Yields whether files can be written, as runs and caches do it: a temporary name, then renamed."""
    well = []
    for name, folder in _folders().items():
        state, remedy = "fault", "Get the right to write there, or name another folder"
        remedy += {"cache": " with MRIGEN_CACHE.", "temporary files": " with TMPDIR."}.get(name, ".")
        if name == "home":  # Keras and Matplotlib want a folder there, and do with another one.
            state, remedy = "note", "Set HOME, KERAS_HOME and MPLCONFIGDIR to a folder that you may write to."
        elif name == "this folder":
            state, remedy = (
                "note",
                "Runs go to runs/ below this folder unless you say where: change to another, or say so.",
            )
        if fault := _writing_fault(folder):
            yield Finding("files", state, f"{name} ({folder}): {fault}", remedy)  # type: ignore[arg-type]
        else:
            well.append(name)
    if well:
        yield Finding("files", "well", f"can be written: {', '.join(well)}")


def _writing_fault(folder: Path) -> str | None:
    """Returns why files cannot be written into a folder that is there, or would be made; it is left as it was."""
    try:
        there = nearest(folder)
        with temporary_directory(there, "mrigen-doctor") as inside:
            with atomic_path(inside / "file") as temporary:
                temporary.write_bytes(b"x" * 4096)
            with open(inside / "claim", "x"):
                pass
            (inside / "claim").rename(inside / "renamed")
    except OSError as error:
        return error.strerror or str(error)
    return None


def nearest(folder: Path) -> Path:
    """Returns a folder, or the nearest one above it that is there."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _folders() -> dict[str, Path]:
    return {
        "cache": default_cache_directory(),
        "home": Path.home(),
        "this folder": Path.cwd(),
        "temporary files": Path(tempfile.gettempdir()),
    }


def describe_places() -> dict[str, object]:
    """Returns the bytes of memory that are available, and of each folder its path and the free bytes of its disk."""
    disks = {
        name: {"path": str(folder), "free_bytes": shutil.disk_usage(nearest(folder)).free}
        for name, folder in _folders().items()
    }
    return {"available_memory_bytes": available_memory(), "folders": disks}


def _size(number: int) -> str:
    return f"{number / 2**30:.1f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"

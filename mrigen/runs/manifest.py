"""What a finished run consists of: digests of its files, written last, so that a flipped bit or a file of another run
is told before anything is made of it."""

import math
from pathlib import Path
from typing import Any

from mrigen.data.memo import file_digest
from mrigen.errors import RunError
from mrigen.schema import short
from mrigen.system.files import read_json, write_json

MANIFEST = "manifest.json"
# Raise it when a run of before cannot be read as it was meant.
RUN_FORMAT = 1
# What figures, samples and latents rest on. recipe.yaml and subjects.tsv hold paths, which may be put right when data
# has moved; the keys of a recipe are in run.json as well.
FILES = ("run.json", "split.tsv", "grid.json", "latents.npz", "model.weights.h5", "metrics.json")


def write_manifest(directory: Path) -> None:
    """Writes manifest.json of a run that is finished but for it."""
    digests = {name: file_digest(directory / name) for name in FILES}
    write_json(directory / MANIFEST, {"format": RUN_FORMAT, "files": digests})


def note_file(directory: Path, name: str) -> None:
    """Writes into the manifest of a finished run that one of its files is another one now."""
    if (directory / MANIFEST).is_file():
        content = read_json(directory / MANIFEST)
        content["files"][name] = file_digest(directory / name)
        write_json(directory / MANIFEST, content)


def manifest_faults(directory: Path) -> list[str]:
    """Returns what is not as the fit left it, one line a file; nothing of runs from before there were manifests."""
    path = directory / MANIFEST
    if not path.is_file():
        return []
    try:
        content = read_json(path)
        digests = dict(content["files"])
        check_format(content["format"], directory)
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{path}: cannot be read, expected digests of the run's files. Restore the file, or fit again."]
    except RunError as error:
        return list(error.faults)
    faults = []
    for name in FILES:
        if not (directory / name).is_file():
            faults.append(f"{directory}: no {name}, expected it beside {MANIFEST}. Restore the file, or fit again.")
        elif file_digest(directory / name) != digests.get(name):
            faults.append(
                f"{directory / name}: is not the file that the fit wrote (by its digest), expected that: it was "
                "changed, damaged, or belongs to another run. Restore the file, or fit again."
            )
    return faults


def check_format(found: Any, directory: Path) -> None:
    """Refuses a run of a format that this version does not know.

    Raises:
        RunError: it is newer, or no format.
    """
    if not isinstance(found, int) or not 1 <= found <= RUN_FORMAT:
        raise RunError(
            f"{directory}: got a run of format {found!r}, expected 1 to {RUN_FORMAT}: a newer mrigen made it, or its "
            "files were changed. Use the version that made it (see run.json), or restore the files."
        )


def check_grid(grid: Any, path: Path) -> None:
    """Refuses a grid that no image can have.

    Raises:
        RunError: naming the key.
    """
    wanted = {"zooms": (3, 1e-3, 1e3), "volume_shape": (3, 1, 4096), "centre": (3, -1e6, 1e6)}
    for key, (length, low, high) in wanted.items():
        values = grid.get(key)
        if not isinstance(values, list) or len(values) != length or not all(_within(v, low, high) for v in values):
            raise RunError(
                f"{path}: {key}: got {short(values)}, expected {length} numbers from {low:g} to {high:g}. "
                "Restore the file, or fit again."
            )
    # The oldest runs have no median_low.
    for key, value, low in (
        ("median_low", grid.get("median_low", 0.0), -1e30),
        ("median_scale", grid.get("median_scale"), 1e-30),
    ):
        if not _within(value, low, 1e30):
            raise RunError(f"{path}: {key}: got {short(value)}, expected a number. Restore the file, or fit again.")


def _within(value: Any, low: float, high: float) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and low <= value <= high

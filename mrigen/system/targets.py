"""Several files that one command writes: nobody's are replaced unasked, and what a killed command left of its own is no
obstacle to the next."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mrigen.errors import UsageError
from mrigen.system.claims import is_dead, this_process
from mrigen.system.files import read_json, write_json

# Begins the name of the file that says which files are being written; removed when all are there.
UNFINISHED = ".tmp-unfinished-"
# A process that cannot be seen from here has ended, if it began so many seconds ago.
LONGEST = 24 * 3600.0


def refuse_taken(paths: Iterable[Path], force: bool) -> None:
    """Raises a UsageError that names the first of `paths` that is there already, unless `force` replaces them.

    Files that a process was writing when it was killed (see `writing`) do not count.
    """
    if force:
        return
    left: dict[Path, set[str]] = {}
    for path in paths:
        if not path.exists():
            continue
        if path.parent not in left:
            left[path.parent] = _left_in(path.parent)
        if str(path.resolve()) not in left[path.parent]:
            raise UsageError(
                f"{path}: is there already, expected a new file. Name another place with `directory`, or use "
                "`force=True`."
            )


@contextlib.contextmanager
def writing(paths: Iterable[Path]) -> Iterator[None]:
    """Around the writing of several files that belong together: where the process is killed or fails meanwhile, those
    that it left do not stand in the way of the next that writes them. Where it fails before the first, nothing is
    left."""
    by_folder: dict[Path, list[str]] = {}
    for path in paths:
        own = by_folder.setdefault(path.parent, [])
        if not path.exists() or str(path.resolve()) in _left_in(path.parent):
            own.append(str(path.resolve()))
    notes: list[Path] = []
    made: list[Path] = []
    for folder, names in by_folder.items():
        if names:
            made += [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            digest = hashlib.blake2b("\n".join(names).encode(), digest_size=6).hexdigest()
            notes.append(folder / f"{UNFINISHED}{digest}.json")
            write_json(notes[-1], {"owner": json.loads(this_process(folder)), "files": names})
    try:
        yield
    except BaseException:
        if not any(os.path.exists(name) for names in by_folder.values() for name in names):
            with contextlib.suppress(OSError):
                for note in notes:
                    note.unlink(missing_ok=True)
                for folder in sorted(made, key=lambda path: -len(path.parts)):
                    folder.rmdir()
        raise
    for note in notes:
        note.unlink(missing_ok=True)
    for folder, names in by_folder.items():
        for note, content in _notes_of_dead(folder):  # What is whole now is nobody's leftover.
            content["files"] = [name for name in content["files"] if name not in names]
            if content["files"]:
                write_json(note, content)
            else:
                note.unlink(missing_ok=True)


def _left_in(folder: Path) -> set[str]:
    """Returns the files in a folder that processes which have ended were writing."""
    return {name for _, content in _notes_of_dead(folder) for name in content["files"]}


def _notes_of_dead(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    notes = []
    for note in folder.glob(f"{UNFINISHED}*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = read_json(note)
            dead, own = is_dead(json.dumps(content["owner"])), json.loads(this_process(folder))
            if dead is None:
                dead = time.time() - os.stat(note).st_mtime > LONGEST
            if (dead or content["owner"] == own) and isinstance(content["files"], list):
                notes.append((note, content))
    return notes

"""Damage to run folders, by a seed: of one file or several, of its bytes, its values or its kind."""

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from mrigen.runs.manifest import FILES, MANIFEST
from tests.trust.scene import Ended, call, check, inside, snapshot

# Verbs that open a run: what they are given, and whether they load TensorFlow.
VERBS: dict[str, tuple[tuple[str, ...], bool]] = {
    "runs": (("runs", "run"), False),
    "compare": (("compare", "run"), False),
    "compare-two": (("compare", "run", "other"), False),
    "resume": (("fit", "--resume", "run", "-q"), True),
    "sample": (("sample", "-n", "1", "--run", "run", "-o", "out", "-q"), True),
    "sample-native": (("sample", "-n", "1", "--run", "run", "-o", "out", "--native-units", "-q"), True),
    "template": (("template", "--run", "run", "-o", "out", "-q"), True),
    "traverse": (("traverse", "--run", "run", "-o", "out", "--directions", "1", "--steps", "3", "-q"), True),
    "interpolate": (
        ("interpolate", "sub-phantom0001", "sub-phantom0002", "--run", "run", "-o", "out", "--steps", "3", "-q"), True
    ),
    "encode": (("encode", "--run", "run", "-o", "latents.tsv", "-q"), True),
    "decode": (("decode", "run/latents.npz", "--run", "run", "-o", "out", "-q"), True),
    "latents": (("latents", "--run", "run", "-o", "out", "-q"), True),
    "diagnose": (("diagnose", "--run", "run", "-o", "out", "--iw", "2", "-q"), True),
    "transfer": (("transfer", "--run", "run", "-o", "out", "--given", "sex=F", "-q"), True),
    "qc": (("qc", "--run", "run", "-o", "out", "-q"), False),
    "probe": (("probe", "--run", "run", "-q"), True),
}  # fmt: skip
NAMES = (*FILES, MANIFEST, "recipe.yaml", "subjects.tsv", "history.csv")
# Values that JSON may have where something else is expected.
STRANGE = (
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**30, "", "x" * 10_000, "\x1b[2J", [], {}, [None], [[]],
    "n/a",
)  # fmt: skip
ARRAYS = (
    "nan", "inf", "huge", "removed", "fewer", "more axes", "flat", "text", "objects", "complex", "doubled", "scalar",
    "empty", "integers", "other names", "negative", "half a person",
)  # fmt: skip
CELLS = (
    "nan", "", "inf", "-1", "1e999", "../x", "\x00", '"', "=cmd()", "[", "{}", "n/a", "x" * 9999, "\x1b[2J", "é", "*a",
    "2020-13-45", "!!python/name:os.system", "train", "1e30",
)  # fmt: skip


def tamper(generator: np.random.Generator, directory: Path, other: Path) -> str:
    """Damages a run in some way, and says how.

    Args:
        generator: which decides.
        directory: of the run. other: another run.
    """
    said = []
    if generator.random() < 0.7:  # So that what the manifest guards is asked as well.
        (directory / MANIFEST).unlink(missing_ok=True)
        said.append("no manifest")
    for _ in range(1 if generator.random() < 0.8 else 2):
        names = [name for name in NAMES if (directory / name).is_file()]
        path = directory / names[generator.integers(len(names))]
        kinds: list[Callable] = [_bytes, _bytes, _whole, _swapped]
        kinds += {".json": [_values] * 6, ".npz": [_arrays] * 5, ".h5": [_weights] * 5}.get(path.suffix, [_cells] * 5)
        kind = kinds[generator.integers(len(kinds))]
        try:
            said.append(f"{path.name}: {kind(generator, path, other)}")
        except (ValueError, OSError, KeyError, UnicodeDecodeError, zipfile.BadZipFile):
            said.append(f"{path.name}: {_bytes(generator, path, other)}")  # It was damaged before.
    return "; ".join(said)


def try_verb(
    verb: str, seed: int, folder: Path, finished: Path, other: Path, seconds: float = 120.0
) -> tuple[str, Ended]:
    """Returns how a copy of a run was damaged, and how a verb ended that opens it.

    Args:
        verb: of `VERBS`. seed: of the damage. folder: to work in; it is new.
        finished: the run. other: another one, whose files may come into it.

    Raises:
        AssertionError: it ended in no line of ours, or wrote what is no number.
    """
    folder.mkdir(parents=True)
    shutil.copytree(finished, folder / "run")
    shutil.copytree(finished, folder / "other")
    said = tamper(np.random.default_rng(seed), folder / "run", other)
    arguments, tensorflow = VERBS[verb]
    before = snapshot(folder)
    try:
        with inside(folder):
            ended = call(*arguments, tensorflow=tensorflow, seconds=seconds)
        check(ended, folder, before)
    except BaseException as error:
        raise AssertionError(f"{verb}, seed {seed}: {said}: {type(error).__name__}: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return said, ended


def two_runs(folder: Path, run: Path | None = None) -> tuple[Path, Path]:
    """Returns a finished run of the recipe smoke, and one of another kind.

    Args:
        folder: where they are fitted. run: that of the recipe smoke, if there is one.
    """
    from mrigen.recipe import load_recipe
    from mrigen.training import fit

    if run is None:
        run = fit(load_recipe("smoke"), folder / "smoke").directory
    changes = ["model.kind=autoencoder", "model.latent_dim=null", "model.latent_channels=2", "training.epochs=1"]
    return run, fit(load_recipe("smoke", changes), folder / "autoencoder").directory


def _bytes(generator, path: Path, other: Path) -> str:
    content = bytearray(path.read_bytes())
    kind = ("truncated", "emptied", "flipped", "bytes put in", "zeros over it", "noise", "doubled")[
        generator.integers(7)
    ]
    at = int(generator.integers(max(len(content), 1)))
    if kind == "truncated":
        content = content[:at]
    elif kind == "emptied":
        content = bytearray()
    elif kind == "flipped" and content:
        content[at] ^= 1 << int(generator.integers(8))
    elif kind == "bytes put in":
        content[at:at] = generator.bytes(5)
    elif kind == "zeros over it":
        content[at : at + 64] = bytes(min(64, len(content) - at))
    elif kind == "noise":
        content = bytearray(generator.bytes(300))
    else:
        content = content * 2
    path.write_bytes(content)
    return f"{kind} at {at}"


def _whole(generator, path: Path, other: Path) -> str:
    kind = ("deleted", "a folder", "a link to nothing", "a link to itself", "a FIFO", "unreadable")[
        generator.integers(6)
    ]
    content = path.read_bytes()
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a link to nothing":
        path.symlink_to("gone")
    elif kind == "a link to itself":
        path.symlink_to(path.name)
    elif kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "unreadable":
        path.write_bytes(content)
        path.chmod(0)
    return kind


def _swapped(generator, path: Path, other: Path) -> str:
    theirs = [name for name in NAMES if (other / name).is_file()]
    name = (
        path.name
        if generator.random() < 0.7 and (other / path.name).is_file()
        else theirs[generator.integers(len(theirs))]
    )
    shutil.copyfile(other / name, path)
    return f"{name} of another run"


def _values(generator, path: Path, other: Path) -> str:
    content = json.loads(path.read_text(encoding="utf-8"))
    where, holders = [], []

    def walk(value, at: tuple) -> None:
        for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
            holders.append((value, key, (*at, key)))
            if isinstance(inner, (dict, list)):
                walk(inner, (*at, key))

    walk(content, ())
    where = [entry for entry in holders if len(entry[2]) <= (2 if generator.random() < 0.6 else 9)]
    holder, key, at = where[generator.integers(len(where))]
    kind = generator.integers(8)
    if kind == 0:
        del holder[key]
        said = "removed"
    elif kind == 1 and isinstance(holder[key], (int, float)):
        holder[key] = [holder[key] * 1e12, -holder[key], holder[key] + 1, 2**40][generator.integers(4)]
        said = f"became {holder[key]}"
    else:
        holder[key] = STRANGE[generator.integers(len(STRANGE))]
        said = f"became {str(holder[key])[:30]!r}"
    if generator.random() < 0.05:
        content = STRANGE[generator.integers(len(STRANGE))]
        said = f"all of it became {str(content)[:30]!r}"
    path.write_text(json.dumps(content))
    return f"{'.'.join(map(str, at))} {said}"


def _arrays(generator, path: Path, other: Path) -> str:
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = list(arrays)[generator.integers(len(arrays))]
    array = arrays[name]
    kind = ARRAYS[generator.integers(len(ARRAYS))]
    is_number = array.dtype.kind == "f"
    if kind in ("nan", "inf", "huge", "negative") and is_number:
        array = array.copy()
        array.flat[generator.integers(array.size)] = {"nan": np.nan, "inf": np.inf, "huge": 3e38, "negative": -5.0}[
            kind
        ]
    elif kind == "removed":
        array = None
    elif kind == "fewer":
        array = array[:-1]
    elif kind == "more axes":
        array = array[..., None]
    elif kind == "flat":
        array = array.ravel()
    elif kind == "text":
        array = array.astype(str)
    elif kind == "objects":
        array = np.array([{"a": 1}] * len(array), dtype=object)
    elif kind == "complex" and is_number:
        array = array.astype(complex)
    elif kind == "doubled":
        array = np.concatenate([array, array])
    elif kind == "scalar":
        array = array.ravel()[0]
    elif kind == "empty":
        array = array[:0]
    elif kind == "integers" and is_number:
        array = array.astype(np.int64)
    elif kind == "half a person" and array.ndim > 1:
        array = array[:, ::2]
    elif not is_number:
        array = np.array([f"../{value}" for value in array])
    arrays[name] = array
    stream = io.BytesIO()
    np.savez(stream, **{name: array for name, array in arrays.items() if array is not None})
    path.write_bytes(stream.getvalue())
    return f"{name} {kind}"


def _weights(generator, path: Path, other: Path) -> str:
    found: list[str] = []
    with h5py.File(path, "r+") as file:
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
        name = found[generator.integers(len(found))]
        kind = ("nan", "inf", "huge", "removed", "transposed", "text", "group", "zero")[generator.integers(8)]
        array = file[name][()]
        del file[name]
        if kind == "group":
            file.create_group(name)
        elif kind != "removed":
            if kind == "text":
                file[name] = "weights"
            elif kind == "transposed":
                file[name] = np.asarray(array)[..., None]
            else:
                file[name] = np.full_like(array, {"nan": np.nan, "inf": np.inf, "huge": 3e38, "zero": 0}[kind])
    return f"{name} {kind}"


def _cells(generator, path: Path, other: Path) -> str:
    text = path.read_text(encoding="utf-8")
    separator = {".tsv": "\t", ".csv": ","}.get(path.suffix, ": ")
    rows = [line.split(separator) for line in text.splitlines()]
    row = rows[0] if generator.random() < 0.3 else rows[generator.integers(len(rows))]
    at = int(generator.integers(len(row)))
    cell = CELLS[generator.integers(len(CELLS))]
    kind = ("cell", "cell", "cell", "row removed", "row doubled", "cell removed", "column removed")[
        generator.integers(7)
    ]
    if kind == "cell":
        row[at] = cell
    elif kind == "row removed":
        rows.remove(row)
    elif kind == "row doubled":
        rows.append(row)
    elif kind == "cell removed":
        del row[at]
    else:
        at = int(generator.integers(len(rows[0])))
        rows = [[cell for number, cell in enumerate(row) if number != at] for row in rows]
    path.write_text("".join(separator.join(row) + "\n" for row in rows), encoding="utf-8")
    return f"{kind} {at} {cell[:20]!r}"

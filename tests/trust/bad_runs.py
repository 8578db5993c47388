"""Run folders that are refused: damaged, mixed, changed, unfinished."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mrigen.runs.manifest import MANIFEST
from mrigen.system.claims import this_process
from tests.trust.registry import Case, write

HDF5 = b"\x89HDF\r\n\x1a\n"
LATENTS = {"call": "mrigen latents --run run", "tensorflow": True}
SAMPLE = "mrigen sample -n 1 --run run"


def run(what: str, build: Callable[[Path], object], call: str = SAMPLE, **options) -> Case:
    """Returns the case of a finished run that `build` damages; it is given the run's folder."""
    return Case(what, call, lambda folder: build(folder / "run"), run=True, **options)


def file(what: str, name: str, content: str | bytes, call: str = SAMPLE, **options) -> Case:
    """Returns the case of a run without a manifest one of whose files holds something else."""

    def build(directory: Path) -> None:
        (directory / MANIFEST).unlink()
        (directory / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return run(what, build, call=call, **options)


def keys(what: str, name: str, changes: dict, call: str = SAMPLE, **options) -> Case:
    """Returns the case of a run without a manifest one of whose JSON files has other values."""

    def build(directory: Path) -> None:
        (directory / MANIFEST).unlink()
        path = directory / name
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return run(what, build, call=call, **options)


def arrays(what: str, change: Callable[[dict], dict]) -> Case:
    """Returns the case of a run without a manifest that has other latents."""

    def build(directory: Path) -> None:
        (directory / MANIFEST).unlink()
        path = directory / "latents.npz"
        with np.load(path) as content:
            changed = change({name: content[name] for name in content.files})
        np.savez(path, **changed)

    return run(what, build, **LATENTS)


def without(name: str) -> Callable[[Path], object]:
    """Returns what removes a file of a run."""
    return lambda directory: (directory / name).unlink()


def flip(name: str) -> Callable[[Path], object]:
    """Returns what flips one bit of a file of a run."""

    def build(directory: Path) -> None:
        content = bytearray((directory / name).read_bytes())
        content[len(content) // 2] ^= 1
        (directory / name).write_bytes(content)

    return build


def folder_for(name: str) -> Callable[[Path], object]:
    """Returns what puts a folder in the place of a file of a run."""

    def build(directory: Path) -> None:
        (directory / name).unlink()
        (directory / name).mkdir()

    return build


def no_numbers(directory: Path) -> None:
    """Makes weights NaN."""
    import h5py

    (directory / MANIFEST).unlink()
    with h5py.File(directory / "model.weights.h5", "r+") as weights:

        def spoil(name, item):
            if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" and item.size:
                item[...] = np.nan

        weights.visititems(spoil)


def held(directory: Path) -> None:
    """Makes a run one that this very process is fitting."""
    claims = directory / ".claims"
    shutil.rmtree(claims, ignore_errors=True)
    claims.mkdir()
    (claims / "fit-000").write_text(this_process(claims))


def unfinished(directory: Path) -> None:
    """Leaves of a run what there is before its first checkpoint."""
    for name in ("metrics.json", "model.weights.h5", "latents.npz", MANIFEST):
        (directory / name).unlink()


def detail(name: str, content: str) -> Callable[[Path], object]:
    """Returns what writes a file of a network of detail into a run."""

    def build(directory: Path) -> None:
        path = directory / "detail" / name
        path.parent.mkdir(parents=True)
        path.write_text(content)

    return build


DETAIL = json.dumps({"settings": {}, "weights": "0", "model": "0"})
NEWER = {"format": 99}
CASES = [
    Case("no such run", "mrigen sample --run gone"),
    Case("no run at all", "mrigen sample"),
    Case("a file in the place of a run", "mrigen sample --run run", write("run", "")),
    Case("an empty folder in the place of a run", "mrigen sample --run run", lambda f: (f / "run").mkdir()),
    Case("a folder without runs", "mrigen runs here", lambda f: (f / "here").mkdir()),
    run("a run without weights", without("model.weights.h5")),
    run("a run without its recipe", without("recipe.yaml")),
    run("a run without its grid", without("grid.json")),
    run("a run without its latents", without("latents.npz")),
    run("a flipped bit of weights", flip("model.weights.h5")),
    run("a flipped bit of latents", flip("latents.npz")),
    run("a flipped bit of the split", flip("split.tsv")),
    run("a file of another run", lambda directory: (directory / "metrics.json").write_text('{"mse": 0.1}')),
    run("a folder in the place of a file", folder_for("latents.npz")),
    run("a manifest that is no JSON", lambda directory: (directory / MANIFEST).write_text("{")),
    run("a recipe that is none", lambda directory: (directory / "recipe.yaml").write_text("model: {knd: vae}")),
    run("a run that is being fitted", held, hidden=((r"process \d+ on \S+,", "process <number> on <host>,"),)),
    run("a run that is not finished", unfinished),
    run("an unfinished run to compare", unfinished, call="mrigen compare run"),
    keys("a run of a newer format", "run.json", NEWER),
    keys("a format that is a word", "run.json", {"format": "1"}),
    keys("a grid that is no number", "grid.json", {"zooms": [8.0, float("nan"), 8.0]}),
    keys("a grid of two axes", "grid.json", {"volume_shape": [24, 28]}),
    keys("a grid of a billion voxels a side", "grid.json", {"volume_shape": [10**9] * 3}),
    keys("a place that is a word", "grid.json", {"centre": "here"}),
    file("facts that are no JSON", "run.json", "{"),
    file("facts that are a list", "run.json", "[1, 2]"),
    file("figures that are a list", "metrics.json", "[]", call="mrigen compare run"),
    file("an empty file of figures", "metrics.json", "", call="mrigen compare run"),
    keys("a figure that is none", "metrics.json", {"heldout": {"mse": {}}}, call="mrigen compare run"),
    keys("figures of an autoencoder", "metrics.json", {"decoder_sigma": None, "residual_rmse": None},
         call="mrigen diagnose --run run", tensorflow=True),
    file("a table of the split without its columns", "split.tsv", "a\tb\n1\t2\n", call="mrigen compare run run"),
    file("a table of people that is none", "subjects.tsv", b"\x00\xff" * 100, **LATENTS),
    file("weights that are no HDF5", "model.weights.h5", b"no weights", call="mrigen compare run"),
    file("weights cut short", "model.weights.h5", HDF5 + bytes(100), call="mrigen template --run run", tensorflow=True),
    file("latents that are no archive", "latents.npz", b"PK", **LATENTS),
    file("an empty file of latents", "latents.npz", b"", **LATENTS),
    arrays("latents that are no numbers", lambda found: found | {"loc": found["loc"] * np.nan}),
    arrays("latents of another number of people", lambda found: found | {"loc": found["loc"][1:]}),
    arrays("latents of objects", lambda found: found | {"loc": np.array([{}], dtype=object)}),
    run("weights that are no numbers", no_numbers, tensorflow=True),
    run("detail of a run that has none", lambda directory: None, f"{SAMPLE} --detail", tensorflow=True),
    run("facts of detail that are no JSON", detail("detail.json", "{"), tensorflow=True),
    run("detail without its network", detail("detail.json", DETAIL), tensorflow=True),
    run("detail that is there already", detail("detail.json", DETAIL), "mrigen detail --run run"),
    run("an unfinished detail that cannot be read", detail("checkpoint/progress.json", "{"), "mrigen detail --run run"),
    run("a key of the fit for detail", lambda directory: None, "mrigen detail --run run --set model.kind=vae"),
]  # fmt: skip

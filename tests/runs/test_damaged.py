"""Runs whose files were damaged, changed or mixed: told in a line a file, by every reader, and never by a NaN."""

import json
import shutil

import h5py
import numpy as np
import pytest

from mrigen.errors import MrigenError, RunError
from mrigen.generation import sample
from mrigen.runs import Run, open_run
from mrigen.runs.listing import list_runs
from mrigen.runs.manifest import FILES, MANIFEST


@pytest.fixture
def run_copy(finished_run, tmp_path):
    return Run(shutil.copytree(finished_run.directory, tmp_path / "run"))


def read_all(run):
    """Opens a run and reads whatever of it is read without a model."""
    run = open_run(run.directory)
    _ = run.metrics, run.split, run.subjects, run.affine, run.intensities, run.collapse
    return run.load_latents()


def test_a_finished_run_is_whole(run_copy):
    assert json.loads((run_copy.directory / MANIFEST).read_text())["format"] == 1
    read_all(run_copy)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_told_and_where(run_copy, name):
    path = run_copy.directory / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"is not the file that the fit wrote|not valid JSON|cannot be read|format"):
        open_run(run_copy.directory)


def test_files_of_two_runs_are_no_run(run_copy, autoencoder_run):
    for name in ("metrics.json", "latents.npz"):
        shutil.copy(autoencoder_run.directory / name, run_copy.directory / name)
    with pytest.raises(RunError) as caught:
        open_run(run_copy.directory)
    assert len(caught.value.faults) == 2 and "belongs to another run" in caught.value.faults[0]


def test_paths_of_data_that_moved_may_be_put_right(run_copy):
    path = run_copy.directory / "recipe.yaml"
    path.write_text(path.read_text() + "\n# moved\n")
    read_all(run_copy)


def test_runs_of_before_have_no_manifest(run_copy):
    (run_copy.directory / MANIFEST).unlink()
    read_all(run_copy)


@pytest.mark.parametrize("number", [99, "1", None, True])
def test_a_format_that_nobody_knows_is_refused(run_copy, number):
    (run_copy.directory / MANIFEST).unlink()
    path = run_copy.directory / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    if number is True:
        pytest.skip("JSON's true is Python's 1")
    with pytest.raises(RunError, match="got a run of format"):
        open_run(run_copy.directory)


def damage(generator, directory):
    """Damages one file of a run in some way, and says which and how."""
    (directory / MANIFEST).unlink(missing_ok=True)  # So that what is behind it is asked.
    names = [*FILES, "recipe.yaml", "subjects.tsv", "history.csv"]
    path = directory / names[generator.integers(len(names))]
    content = path.read_bytes()
    kinds = ["empty", "truncated", "flipped", "noise", "other", "null", "huge", "nan"]
    kind = kinds[generator.integers(len(kinds))]
    at = int(generator.integers(max(len(content), 1)))
    if kind == "flipped":
        changed = content[:at] + bytes([content[at] ^ (1 << int(generator.integers(8)))]) + content[at + 1 :]
    elif kind == "nan":
        changed = content.replace(b"1", b"NaN", 1)
    else:
        changed = {
            "empty": b"", "truncated": content[:at], "noise": generator.bytes(200), "null": b"null", "other": b"[1, 2]",
            "huge": b"[" * 100_000,
        }[kind]  # fmt: skip
    path.write_bytes(changed)
    return f"{path.name} {kind} {at}"


@pytest.mark.parametrize("seed", range(60))
def test_whatever_is_damaged_ends_well_or_in_one_of_our_lines(run_copy, seed):
    said = damage(np.random.default_rng(seed), run_copy.directory)
    try:
        latents = read_all(run_copy)
        assert np.isfinite(latents["loc"]).all(), said
    except MrigenError as error:
        assert all("\n" not in fault for fault in error.faults), said
    except Exception as error:
        raise AssertionError(f"{said}: {error!r}") from error
    table = list_runs(run_copy.directory.parent)
    assert len(table) == 1, said


def test_weights_that_are_no_numbers_make_no_head(run_copy):
    (run_copy.directory / MANIFEST).unlink()
    broken = []

    def spoil(name, item):
        if isinstance(item, h5py.Dataset) and item.size and not broken:
            item[...] = np.full(item.shape, np.nan, item.dtype)
            broken.append(name)

    with h5py.File(run_copy.directory / "model.weights.h5", "r+") as file:
        file.visititems(spoil)
    with pytest.raises(RunError, match="holds values that are no numbers"):
        sample(open_run(run_copy.directory), 1)[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [("zooms", [4.0, float("nan"), 4.0]), ("volume_shape", [24, 24]), ("centre", "here"), ("median_scale", None)],
)
def test_a_grid_that_no_image_has_is_refused(run_copy, key, value):
    (run_copy.directory / MANIFEST).unlink()
    path = run_copy.directory / "grid.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(RunError, match=rf"grid\.json: {key}: got"):
        open_run(run_copy.directory)

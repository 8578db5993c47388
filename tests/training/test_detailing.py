"""Detail: learned after a fit, exactly resumed, drawn by samples, and refused where it cannot be."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from mrigen_cli.detail import detail as verb

import mrigen
from mrigen.errors import Interrupted, RunError, UsageError
from mrigen.generation import Samples
from mrigen.generation.detailing import DetailArtist
from mrigen.generation.reconstruction import reconstruct
from mrigen.recipe import DetailRecipe, load_recipe
from mrigen.runs import open_run
from mrigen.runs.detail import FACTS, WEIGHTS, detail_folder, has_detail
from mrigen.system.stopping import StopRequest
from mrigen.training import fit, learn_detail

TINY = DetailRecipe(steps=6, channels=[4, 6], blocks=1, crop=12, batch_size=2, draw_steps=2)


@pytest.fixture(scope="module")
def detailed_run(tmp_path_factory):
    """A finished morphing run with detail."""
    changes = ["model.kind=morph", "training.epochs=1", *(f"detail.{k}={v}" for k, v in TINY.model_dump().items())]
    return fit(load_recipe("smoke", changes), tmp_path_factory.mktemp("runs") / "detailed")


class _After(StopRequest):
    """Asks to stop after so many looks."""

    def __init__(self, looks):
        self.looks, self._heard = looks, False
        super().__init__()

    @property
    def asked(self):
        if self._is_heard:
            self.looks -= 1
        return self._is_heard and self.looks <= 0

    @asked.setter
    def asked(self, value):
        pass


def weights_of(run):
    import h5py

    found = {}
    with h5py.File(detail_folder(run) / WEIGHTS) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return found


def test_a_recipe_with_detail_learns_it(detailed_run):
    assert has_detail(detailed_run)
    facts = json.loads((detail_folder(detailed_run) / FACTS).read_text())
    assert facts["settings"] == TINY.model_dump(mode="json")
    assert not (detail_folder(detailed_run) / "checkpoint").exists()
    history = (detail_folder(detailed_run) / "history.tsv").read_text().splitlines()
    assert history[0].split("\t") == ["step", "loss", "val_loss"] and len(history) == 2


def test_samples_have_it_and_are_the_same_each_time(detailed_run):
    samples, smooth = Samples(detailed_run, 3), Samples(detailed_run, 3, detail=False)
    volumes = [samples.volume(index) for index in (2, 0)]
    again = Samples(detailed_run, 3)
    assert np.array_equal(volumes[1], again.volume(0)) and np.array_equal(volumes[0], again.volume(2))
    other = Samples(detailed_run, 3, seed=1)
    assert not np.allclose(volumes[1], other.volume(0), atol=1e-3)
    # Detail is added to the mean; the mean is the same as without.
    assert np.abs(volumes[1] - smooth.volume(0)).max() > 0
    assert samples.to_frame()["detail"].tolist() == ["yes"] * 3 and smooth.to_frame()["detail"].tolist() == ["no"] * 3


def test_samples_with_and_without_detail_do_not_mix(detailed_run, tmp_path):
    Samples(detailed_run, 1).write(tmp_path / "samples")
    with pytest.raises(UsageError, match="holds samples with detail"):
        Samples(detailed_run, 1, detail=False).write(tmp_path / "samples")


def test_a_break_changes_nothing(detailed_run, tmp_path):
    shutil.copytree(detailed_run.directory, tmp_path / "run")
    run = open_run(tmp_path / "run")
    with pytest.raises(Interrupted, match="after 3 of 6 steps"):
        learn_detail(run, TINY, force=True, stop=_After(5))
    assert not has_detail(run)
    with pytest.raises(UsageError, match="was begun with other settings"):
        learn_detail(run, TINY.model_copy(update={"steps": 7}))
    learn_detail(run, TINY)
    before, after = weights_of(detailed_run), weights_of(run)
    assert before.keys() == after.keys() and all(np.array_equal(before[name], after[name]) for name in before)


def test_what_is_there_is_not_replaced(detailed_run):
    with pytest.raises(UsageError, match="holds a network of detail already"):
        learn_detail(detailed_run)


def test_a_run_without_has_none_to_draw(finished_run):
    assert not Samples(finished_run, 1).detail
    with pytest.raises(UsageError, match="got a run without detail"):
        Samples(finished_run, 1, detail=True)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / WEIGHTS).write_bytes(b"no"), "is not the file that was learned"),
        (lambda folder: (folder / WEIGHTS).unlink(), "is not the file that was learned"),
        (lambda folder: (folder / FACTS).write_text("{"), "cannot be read"),
        (lambda folder: (folder.parent / "model.weights.h5").write_bytes(b"other"), "other weights"),
    ],
)
def test_damage_is_told(detailed_run, tmp_path, damage, words):
    shutil.copytree(detailed_run.directory, tmp_path / "run")
    run = open_run(tmp_path / "run")
    damage(detail_folder(run))
    with pytest.raises(RunError, match=words):
        DetailArtist(run)


def test_models_without_a_template_learn_it_too(autoencoder_run, tmp_path):
    shutil.copytree(autoencoder_run.directory, tmp_path / "run")
    run = learn_detail(open_run(tmp_path / "run"), TINY)
    volume = Samples(run, 1).volume(0)
    assert volume.shape == tuple(run.grid["volume_shape"]) and volume.min() >= 0 and volume.max() <= 1


def test_reconstructions_draw_it_beside_the_mean(detailed_run, tmp_path):
    phantom_image = detailed_run.subjects.iloc[0]["path"]
    made = reconstruct(detailed_run, [phantom_image], detail=True)
    draws = [made.detailed_volume(0, draw) for draw in range(2)]
    assert not np.array_equal(*draws) and np.array_equal(draws[0], made.detailed_volume(0))
    paths = made.write(tmp_path / "out")
    assert [path.name.partition("desc-")[2] for path in paths] == [
        "reconstruction_T1w.nii.gz",
        "residual_map.nii.gz",
        "detailed_T1w.nii.gz",
    ]
    smooth = reconstruct(detailed_run, [phantom_image])
    assert np.array_equal(made[0].get_fdata(), smooth[0].get_fdata())
    with pytest.raises(UsageError, match="without detail"):
        smooth.detailed_volume(0)


def test_python_and_the_command_line_learn_it(finished_run, tmp_path, monkeypatch):
    monkeypatch.setenv("MRIGEN_QUIET", "1")  # As --quiet does, and for this test alone.
    shutil.copytree(finished_run.directory, tmp_path / "run")
    run = mrigen.open_run(tmp_path / "run").learn_detail(**TINY.model_dump())
    assert has_detail(run)
    first = weights_of(run)
    changes = [part for key, value in TINY.model_dump().items() for part in ("--set", f"detail.{key}={value}")]
    command = ["--run", str(run.directory), *changes]
    outcome = CliRunner().invoke(verb, [*command, "-q"])
    assert isinstance(outcome.exception, UsageError) and "--force" in str(outcome.exception)
    outcome = CliRunner().invoke(verb, [*command, "--force", "-q"])
    assert outcome.exit_code == 0 and outcome.stdout == f"{run.directory}\n"
    assert all(np.array_equal(first[name], values) for name, values in weights_of(run).items())
    outcome = CliRunner().invoke(verb, ["--run", str(run.directory), "--set", "model.kind=vae"])
    assert outcome.exit_code == 2 and "expected one of detail" in outcome.output

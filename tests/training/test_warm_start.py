"""Starting a fit from a finished run: nothing is lost, nobody leaks, and a finer grid shows the same."""

import types

import numpy as np
import pytest

from mrigen.data.splits import split_subjects
from mrigen.data.synthetic import know_cohort
from mrigen.errors import UsageError
from mrigen.models import MorphingAutoencoder
from mrigen.recipe import load_recipe
from mrigen.runs import Run
from mrigen.training import fit
from mrigen.training.refusals import check_start, people_seen
from mrigen.training.warm_start import start_from


def morphing(factor, **options):
    """Returns a built model whose weights are random, on a grid `factor` times as fine as the coarsest."""
    shape = tuple(factor * side for side in (12, 16, 20))
    model = MorphingAutoencoder(
        shape, latent_dim=3, channels=(4,), patch=2 * factor, field_spacing=4 * factor, field_channels=4, **options
    )
    model.build((None, *shape, 1))
    generator = np.random.default_rng(factor)
    for variable in model.trainable_variables:
        variable.assign(0.3 * generator.standard_normal(variable.shape))
    return model


def run_of(model):
    return types.SimpleNamespace(directory="runs/coarse", load_model=lambda: model)


def test_a_finer_grid_has_the_same_latents_movements_and_heads():
    options = {"detail_penalty": 1.0, "appearance_modes": 2}
    coarse, fine = morphing(1, **options), morphing(2, **options)
    smooth = np.linspace(0, 1, 12)[:, None, None, None] + np.linspace(0, 0.5, 16)[:, None, None]
    coarse.mean.image.assign(np.broadcast_to(smooth, (12, 16, 20, 1)))
    coarse.mean.modes.assign(np.broadcast_to(smooth * [-1.0, 2.0], (12, 16, 20, 2)))
    start_from(fine, run_of(coarse))
    volumes = np.random.default_rng(0).random((2, 12, 16, 20, 1)).astype("f4")
    repeated = volumes.repeat(2, axis=1).repeat(2, axis=2).repeat(2, axis=3)
    z = coarse.encode(volumes)
    np.testing.assert_allclose(fine.encode(repeated), z, rtol=1e-4, atol=1e-4)
    ours, theirs = fine.decode_parts(z), coarse.decode_parts(z)
    np.testing.assert_allclose(ours["velocity"], theirs["velocity"], rtol=1e-4, atol=1e-4)
    blocks = ours["detail"].numpy().reshape(2, 12, 2, 16, 2, 20, 2)
    np.testing.assert_allclose(blocks.mean(axis=(2, 4, 6)), theirs["detail"][..., 0], rtol=1e-4, atol=1e-4)
    moved = ours["displacement"].numpy().reshape(2, 12, 2, 16, 2, 20, 2, 3).mean(axis=(2, 4, 6))
    # In millimetres: twice as many voxels, half as large.
    np.testing.assert_allclose(moved / 2, theirs["displacement"], atol=0.05 * np.abs(theirs["displacement"]).max())
    for name in ("image", "modes"):
        given, found = (getattr(model.mean, name).numpy()[..., -1] for model in (coarse, fine))
        found = found.reshape(12, 2, 16, 2, 20, 2).mean(axis=(1, 3, 5))
        np.testing.assert_allclose(found[2:-2, 2:-2], given[2:-2, 2:-2], atol=3e-3)


@pytest.mark.parametrize("of_the_run", [0.5, "optimal", "voxelwise"])
def test_a_sigma_that_the_recipe_fixes_stays(of_the_run):
    model, other = morphing(1, decoder_sigma=0.25), morphing(1, decoder_sigma=of_the_run)
    start_from(model, run_of(other))
    assert float(model.likelihood.decoder_sigma) == pytest.approx(0.25)
    np.testing.assert_array_equal(model.mean.image, other.mean.image)


def test_what_cannot_be_carried_over_is_told_by_name():
    with pytest.raises(UsageError, match=r"posterior/loc/kernel: got a shape of \(\d+, 3\), expected \(\d+, 5\)"):
        other = MorphingAutoencoder((12, 16, 20), latent_dim=5, channels=(4,), patch=2, field_channels=4)
        other.build((None, 12, 16, 20, 1))
        start_from(other, run_of(morphing(1)))
    with pytest.raises(UsageError, match=r"of other parts .*patch_embedding"):
        other = MorphingAutoencoder((12, 16, 20), latent_dim=3, channels=(4,), patch=1, field_channels=4)
        other.build((None, 12, 16, 20, 1))
        start_from(other, run_of(morphing(1)))


def test_a_run_that_learned_from_held_out_people_or_sees_another_field_is_refused(finished_run):
    changes = [f"training.start_from={finished_run.directory}", "data.split.seed=3"]
    recipe = load_recipe("smoke", [*changes, "model.kind=autoencoder", "preprocess.volume_shape=[24,28,20]"])
    with pytest.raises(UsageError) as caught:
        check_start(recipe, know_cohort(recipe.data), split_subjects(know_cohort(recipe.data), recipe.data.split))
    kind, field, people = caught.value.faults
    assert "got a run of the kind vae, expected autoencoder" in kind
    assert "got a field of view of 192 x 224 x 192 mm, expected 192 x 224 x 160 mm" in field
    assert "has learned from sub-" in people


def test_the_run_that_a_fit_starts_from_is_not_replaced(run_copy):
    recipe = load_recipe("smoke", [f"training.start_from={run_copy.directory}"])
    with pytest.raises(UsageError, match="which `force=True` would replace"):
        fit(recipe, run_copy.directory, force=True)
    assert run_copy.is_complete


def test_a_fit_goes_on_from_where_another_ended(finished_run, tmp_path):
    changes = [f"training.start_from={finished_run.directory}", "training.epochs=1", "training.learning_rate=1e-6"]
    run = fit(load_recipe("smoke", changes), tmp_path / "run", "smoke")
    first = finished_run.metrics["heldout"]["mse"]
    assert run.metrics["heldout"]["mse"] == pytest.approx(first, rel=0.02)
    seen = people_seen(finished_run)
    assert set(seen["participant_id"]) == set(finished_run.split.query("split != 'heldout'")["participant_id"])
    # Whoever starts from this one is told of those whom the first has seen, too.
    Run(run.directory).split.assign(split="heldout").to_csv(run.directory / "split.tsv", sep="\t", index=False)
    assert set(people_seen(Run(run.directory))["participant_id"]) == set(seen["participant_id"])

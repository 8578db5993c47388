import numpy as np
import pytest

from mrigen.analysis import rivals
from mrigen.analysis.evaluation import evaluate
from mrigen.data.dataset import open_dataset
from mrigen.data.pipeline import read_volumes, training_dataset
from mrigen.runs.encoding import decode_latents, encode_cache
from mrigen.statistics.collapse import ACTIVE_VARIANCE


@pytest.fixture(scope="module")
def dataset(finished_run):
    return open_dataset(finished_run.recipe, finished_run.split)


def test_heldout_figures_equal_a_plain_computation(finished_run, dataset):
    model = finished_run.load_model()
    rows, train = dataset.rows("heldout"), dataset.rows("train")
    volumes = read_volumes(dataset.cache, rows).astype(np.float64)
    latents = finished_run.load_latents()
    decoded = decode_latents(model, latents["loc"][rows]).astype(np.float64)
    mse = ((volumes - decoded) ** 2).mean(axis=(1, 2, 3))
    mean = read_volumes(dataset.cache, train).mean(axis=0)
    figures = finished_run.metrics["heldout"]
    assert figures["mse"] == pytest.approx(mse.mean(), rel=1e-4)
    assert figures["psnr"] == pytest.approx((10 * np.log10(1 / mse)).mean(), rel=1e-4)
    explained = 1 - ((volumes - decoded) ** 2).sum() / ((volumes - mean) ** 2).sum()
    assert figures["explained_variance"] == pytest.approx(explained, abs=1e-4)
    others = decode_latents(model, np.roll(latents["loc"][rows], 1, axis=0)).astype(np.float64)
    lost = ((volumes - others) ** 2 - (volumes - decoded) ** 2).sum(axis=(1, 2, 3)).mean()
    gap = lost / (2 * finished_run.metrics["decoder_sigma"] ** 2)
    assert figures["shuffled_gap_nats"] == pytest.approx(gap, rel=1e-3)


def test_pca_figures_equal_scikit_learn(finished_run, dataset):
    from sklearn.decomposition import PCA

    figures, recipe, rows = finished_run.metrics["pca"], finished_run.recipe, dataset.rows("train")
    assert figures["num_copies"] == recipe.training.epochs
    batches = training_dataset(
        dataset.cache, rows, 1, recipe.training.seed, 2, augment=recipe.training.augment, zooms=recipe.preprocess.zooms
    )
    train = read_volumes(dataset.cache, rows).reshape(len(rows), -1)
    changed = np.stack([batch.ravel() for batch in batches.as_numpy_iterator()])
    assert len(changed) == 2 * len(rows)
    heldout = read_volumes(dataset.cache, dataset.rows("heldout")).reshape(len(dataset.rows("heldout")), -1)
    for found, seen in ((figures["unchanged"], train), (figures, np.concatenate([train, changed]))):
        assert found["num_components"] == 8
        pca = PCA(8, svd_solver="full").fit(seen)
        mse = ((heldout - pca.inverse_transform(pca.transform(heldout))) ** 2).mean()
        assert found["mse"] == pytest.approx(mse, rel=1e-3)
        assert found["loglik_calibrated_nats"] > found["loglik_nats"]


def test_pca_figures_are_the_same_a_few_people_at_a_time(finished_run, dataset, monkeypatch):
    inside = np.ones(np.prod(dataset.cache.volume_shape), bool)
    monkeypatch.setattr(rivals, "choose_rows", lambda rows, *_: rows)
    monkeypatch.setattr(rivals, "PCA_BYTES", 16 * inside.size * 5)
    figures = rivals.pca_figures(dataset, 8, inside)
    assert figures["num_copies"] == 0
    expected = finished_run.metrics["pca"]["unchanged"]
    assert {name: figures[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_pca_sees_no_more_copies_than_are_worth_their_time(finished_run, dataset, monkeypatch):
    inside = np.ones(np.prod(dataset.cache.volume_shape), bool)
    monkeypatch.setattr(rivals, "NUM_IMAGES", 10)
    training, zooms = finished_run.recipe.training, finished_run.recipe.preprocess.zooms
    assert rivals.pca_figures(dataset, 8, inside, training, zooms)["num_copies"] == 1
    training = training.model_copy(update={"augment": None})
    assert rivals.pca_figures(dataset, 8, inside, training, zooms)["num_copies"] == 0


def test_latent_figures_are_over_training_people(finished_run, dataset):
    latents, train = finished_run.load_latents(), dataset.rows("train")
    loc, scale = (latents[name][train].astype(np.float64) for name in ("loc", "scale"))
    kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * np.log(scale)).sum(axis=1).mean()
    metrics = finished_run.metrics
    assert metrics["kl_nats"] == pytest.approx(kl, rel=1e-3)
    assert metrics["active_units"] == int((loc.var(axis=0) > ACTIVE_VARIANCE).sum())


def test_an_empty_heldout_split_gives_nulls(finished_run, dataset):
    import dataclasses

    split = dataset.split.assign(split=dataset.split["split"].replace({"heldout": "train"}))
    everyone = dataclasses.replace(dataset, split=split)
    model = finished_run.load_model()
    figures = evaluate(model, everyone, encode_cache(model, everyone.cache))
    assert set(figures["heldout"].values()) == {None}
    assert figures["pca"]["mse"] is None


def test_a_latent_decodes_the_same_in_any_company(finished_run):
    model = finished_run.load_model()
    z = np.random.default_rng(0).normal(size=(11, model.latent_size)).astype(np.float32)
    together = decode_latents(model, z)
    np.testing.assert_array_equal(together[9], decode_latents(model, z[9:10])[0])


def test_the_appearance_model_has_as_many_numbers_as_the_model_latents(finished_run):
    figures, metrics = finished_run.metrics["appearance_model"], finished_run.metrics
    assert figures["num_shapes"] + figures["num_textures"] == metrics["latent_dim"]
    assert figures["num_scored"] == metrics["num_subjects"]["heldout"]
    assert 0 < figures["mse"] < 2 * metrics["pca"]["mse"]
    assert np.isfinite(figures["elbo_nats"])


def test_moves_of_a_head_are_those_of_the_augmentation(finished_run):
    augment = finished_run.recipe.training.augment.model_copy(update={"shift": 6.0, "rotation": 4.0, "scaling": 0.0})
    moves = rivals._moves(augment, 500, (4.0, 4.0, 2.0), seed=0)
    assert np.abs(moves[:, :, 3]).max(axis=0) == pytest.approx([1.5, 1.5, 3.0], rel=0.02)
    world = np.diag([4.0, 4.0, 2.0]) @ (moves[0, :, :3] + np.eye(3)) @ np.diag([0.25, 0.25, 0.5])
    np.testing.assert_allclose(world @ world.T, np.eye(3), atol=1e-9)

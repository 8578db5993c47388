"""Similarities agree with their references, and reconstructions of a run with what the library says elsewhere."""

import numpy as np
import pytest
from scipy import ndimage

from mrigen.analysis.rivals import teach_pca
from mrigen.errors import UsageError
from mrigen.evaluation import Evaluation
from mrigen.evaluation.heads import FLOOR, MEAN, PCA, SAMPLES
from mrigen.evaluation.reconstruction import FIGURES, head_of, judge, reconstruct, score
from mrigen.evaluation.similarity import RADIUS, SCALE_WEIGHTS, num_scales, similarities, similarity_maps
from mrigen.statistics.pca import fit_pca


@pytest.fixture(scope="module")
def pair():
    """A smooth volume of unequal sides in [0, 1] and the same with noise."""
    generator = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(generator.random((48, 52, 46)), 2.0)
    volume = (volume - volume.min()) / np.ptp(volume)
    return volume, np.clip(volume + 0.05 * generator.standard_normal(volume.shape), 0.0, 1.0)


@pytest.fixture(scope="module")
def material(fit_once):
    run = fit_once(
        "many-unseen", "data.split.train=0.4", "data.split.validation=0.3", "data.split.heldout=0.3",
        "data.num_subjects=32",
    )  # fmt: skip
    return Evaluation(run).material


def interior(shape):
    inside = np.zeros(shape, bool)
    inside[tuple(slice(RADIUS, -RADIUS) for _ in shape)] = True
    return inside


def test_similarity_is_that_of_scikit_image(pair):
    from skimage.metrics import structural_similarity

    expected = structural_similarity(
        *pair, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    found = similarities(*pair, {"interior": interior(pair[0].shape)})["interior"]
    assert found[0] == pytest.approx(expected, abs=1e-6)


def test_similarity_over_scales_is_that_of_monai(pair):
    monai = pytest.importorskip("monai.metrics.regression")
    torch = pytest.importorskip("torch")
    first, second = (torch.tensor(volume, dtype=torch.float32)[None, None] for volume in pair)
    expected = monai.SSIMMetric(3, data_range=1.0)(first, second).item()
    whole, structure = similarity_maps(*pair)
    inside = interior(pair[0].shape)
    assert whole[inside].mean() == pytest.approx(expected, abs=1e-3)
    weights = np.array(SCALE_WEIGHTS[:2]) / sum(SCALE_WEIGHTS[:2])
    metric = monai.MultiScaleSSIMMetric(3, data_range=1.0, weights=tuple(weights))
    halves = [volume.reshape(24, 2, 26, 2, 23, 2).mean(axis=(1, 3, 5)) for volume in pair]
    coarse = similarity_maps(*halves)[0][interior(halves[0].shape)].mean()
    ours = structure[inside].mean() ** weights[0] * coarse ** weights[1]
    assert ours == pytest.approx(metric(first, second).item(), abs=1e-3)


def test_similarity_falls_with_noise_blur_and_brightness_and_is_one_of_the_same(pair):
    volume, noisy = pair
    masks = {"all": np.ones(volume.shape, bool), "none": np.zeros(volume.shape, bool)}
    same = similarities(volume, volume, masks)
    assert same["all"] == pytest.approx((1.0, 1.0)) and np.isnan(same["none"]).all()
    smooth = [ndimage.gaussian_filter(volume, width) for width in (0.5, 1.0, 2.0, 4.0)]
    for column in (0, 1):
        falling = [similarities(volume, each, masks)["all"][column] for each in (volume, *smooth)]
        assert all(np.diff(falling) < 0.0)
    assert similarities(volume, noisy, masks)["all"][1] < 1.0
    # Coarser scales see less of fine noise.
    assert similarities(volume, noisy, masks)["all"][0] < similarities(volume, noisy, masks)["all"][1]
    whole, structure = similarity_maps(volume, 0.5 * volume)
    assert (structure > whole).all()


def test_similarity_counts_only_what_is_inside(pair):
    volume, _ = pair
    inside = np.zeros(volume.shape, bool)
    inside[14:34, 14:38, 14:32] = True
    far = ndimage.distance_transform_edt(~inside) > 20
    other = np.where(far, 1.0 - volume, volume)
    assert far.any()
    assert similarities(volume, other, {"in": inside})["in"][0] == pytest.approx(1.0)
    assert similarities(volume, other, {"in": far})["in"][0] < 0.5


def test_small_volumes_have_one_scale_and_an_answer():
    generator = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(generator.random((9, 14, 12)), 1.0)
    assert num_scales(volume.shape) == 1
    maps = similarity_maps(volume, volume)
    assert maps[0].shape == volume.shape and maps[0] == pytest.approx(np.ones(volume.shape))
    assert num_scales((88, 96, 90)) == 4


def test_head_is_the_largest_piece_and_the_brain():
    volume = np.zeros((12, 13, 14))
    volume[2:9, 2:9, 2:9] = 0.5
    volume[4:6, 4:6, 4:6] = 0.0
    volume[11, 12, 13] = 1.0
    found = head_of(volume, np.zeros(volume.shape, bool))
    assert found.sum() == 7**3
    assert not head_of(np.zeros(volume.shape), np.zeros(volume.shape, bool)).any()


def test_figures_of_a_run_are_those_of_a_plain_computation(material):
    result = judge(material)
    rows = {(row.figure, row.of): row for row in result.rows}
    assert {figure for figure, _ in rows} == set(FIGURES)
    run, unseen = material.run, material.unseen
    latents = run.load_latents()
    places = [list(latents["scan_id"]).index(scan) for scan in unseen.people["scan_id"]]
    from mrigen.runs.encoding import decode_latents

    decoded = np.clip(decode_latents(run.load_model(), latents["loc"][places]), 0.0, 1.0)
    errors = [
        np.square(volume[brain] - other[brain]).mean()
        for volume, other, brain in zip(unseen.volumes, decoded, unseen.brains, strict=True)
    ]
    row = rows["reconstruction_mse_brain", SAMPLES]
    assert row.value == pytest.approx(np.mean(errors), rel=1e-3)
    assert row.low < row.value < row.high and row.n == len(unseen)
    assert rows["reconstruction_psnr_brain", SAMPLES].value == pytest.approx(
        -10.0 * np.mean(np.log10(errors)), rel=1e-4
    )
    for region in ("brain", "head"):
        assert rows[f"reconstruction_mse_{region}", PCA].value < rows[f"reconstruction_mse_{region}", MEAN].value
        assert rows[f"reconstruction_ssim_{region}", PCA].value > rows[f"reconstruction_ssim_{region}", MEAN].value
        ratio = rows[f"reconstruction_mse_{region}", SAMPLES].value / rows[f"reconstruction_mse_{region}", PCA].value
        assert rows[f"reconstruction_over_pca_{region}", SAMPLES].value == pytest.approx(ratio)
    assert ("reconstruction_mse_brain", FLOOR) in rows
    assert result.facts["pca"]["num_components"] == run.load_model().latent_size
    assert result.facts["pca"]["num_copies"] == run.recipe.training.epochs
    assert set(result.pictures) == {"reconstruction"}


def test_reconstructions_do_not_depend_on_who_is_beside(material):
    model = material.run.load_model()
    whole, few = reconstruct(material.run, model, material.unseen), material.unseen.take(np.array([2, 0]))
    assert reconstruct(material.run, model, few) == pytest.approx(whole[[2, 0]], abs=1e-5)


def test_better_reconstructions_score_better_and_missing_brains_are_left_out(material):
    heads = material.unseen.take(np.arange(4))
    brains = heads.brains.copy()
    brains[3] = False
    heads = type(heads)(heads.volumes, heads.people, brains)
    mean = material.taught.volumes.mean(axis=0)
    counted = np.ones(mean.shape, bool)
    found = [score(heads, share * heads.volumes + (1.0 - share) * mean, counted).values for share in (1.0, 0.7, 0.3)]
    for name, sign in (("mse", 1), ("psnr", -1), ("ssim", -1), ("ms_ssim", -1)):
        values = np.array([each[name] for each in found])
        assert (sign * np.diff(values[:, :3], axis=0) > 0.0).all(), name
        assert np.isnan(values[:, 3, 0]).all() and np.isfinite(values[:, 3, 1]).all()


def test_samples_alone_reconstruct_nobody(material):
    import dataclasses

    with pytest.raises(UsageError, match="got no run"):
        judge(dataclasses.replace(material, run=None))


def test_pca_of_volumes_is_plain_without_changes_and_larger_with_them(material):
    volumes = material.taught.volumes
    training = material.run.recipe.training
    plain, copies = teach_pca(volumes, 5)
    assert copies == 0
    expected = fit_pca(volumes.reshape(len(volumes), -1), 5)
    assert plain.eigenvalues == pytest.approx(expected.eigenvalues, rel=1e-4)
    changed, copies = teach_pca(volumes, 5, training, material.zooms)
    assert copies == training.epochs
    assert changed.eigenvalues.sum() > plain.eigenvalues.sum()
    again, _ = teach_pca(volumes, 5, training, material.zooms)
    assert np.array_equal(again.components, changed.components)
    assert teach_pca(volumes, 5, training, material.zooms, num_images=1)[1] == 1
    assert teach_pca(volumes, 500)[0].components.shape[0] <= len(volumes) - 1

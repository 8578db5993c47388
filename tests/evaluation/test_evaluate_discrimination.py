import dataclasses

import numpy as np
import pytest
from scipy import ndimage
from synthetic_heads import make_material

from mrigen.evaluation import discrimination, random_filters
from mrigen.evaluation.contenders import made_people
from mrigen.evaluation.heads import Heads, Material
from mrigen.evaluation.known_bad import _power, softened, with_shaped_noise
from mrigen.evaluation.random_filters import PatchNetwork, VolumeNetwork, coarsened, patch_corners

NETWORKS = ("told_network", "told_patches", "told_16_mm")


def rows_of(result):
    return {(row.figure, row.of): row for row in result.rows}


@pytest.fixture(scope="module")
def result(unheard):
    return discrimination.judge(make_material(unheard))


def fields(count, seed, shape=(14, 12, 13), sigma=1.0):
    """Returns heads that are nothing but smooth noise in a box."""
    noise = np.random.default_rng(seed).standard_normal((count, *shape))
    smooth = np.stack([ndimage.gaussian_filter(each, sigma) for each in noise])
    volumes = (0.5 + 0.1 * smooth / smooth.std()).astype(np.float32)
    return Heads(volumes, made_people(count, f"field{seed}"), np.ones(volumes.shape, bool))


def material_of(samples, count):
    taught = fields(2 * count, 2)
    contenders = {"samples": samples, "training": taught.take(np.arange(count))}
    return Material(fields(count, 1), taught, contenders, (8.0,) * 3, np.eye(4))


@pytest.mark.parametrize("figure", NETWORKS)
@pytest.mark.parametrize("of", ["samples", "training"])
def test_people_of_the_same_population_are_not_told(result, figure, of):
    row = rows_of(result)[figure, of]
    assert row.low <= 0.5 <= row.high
    assert row.n == 24


@pytest.mark.parametrize("figure", ["told_network", "told_patches"])
@pytest.mark.parametrize("of", ["pca", "blurred", "shaped_noise", "mean", "copies"])
def test_networks_tell_what_is_known_to_be_bad(result, figure, of):
    row = rows_of(result)[figure, of]
    assert row.value >= 0.9
    assert row.low > 0.5


def test_a_classifier_that_does_not_see_a_blur_has_no_power(result):
    rows = rows_of(result)
    assert (rows["told_linear", "samples"].value, rows["told_linear", "samples"].note) == (None, "no power")
    assert rows["told_linear", "blurred"].value < 0.9
    assert 0.0 <= result.facts["told_linear"]["tells"]["samples"]["auc"] <= 1.0
    assert not result.facts["told_linear"]["has_power"]
    assert any(note.startswith("told_linear has no power") and "blurred" in note for note in result.notes)


def test_a_grid_is_not_made_finer(result):
    row = rows_of(result)["told_8_mm", "samples"]
    assert (row.value, row.note) == (None, "the grid is no finer")


def test_a_stronger_blur_is_told_better():
    real, classifier = (
        fields(24, 1),
        discrimination.Classifier("told_patches", PatchNetwork(np.ones((14, 12, 13), bool))),
    )
    areas = []
    for sigma in (0.3, 0.38, 0.5):
        other = fields(24, 3)
        seen = [classifier.look(volumes) for volumes in (real.volumes, softened(other.volumes, sigma))]
        areas.append(discrimination.tell(classifier, *seen, real, other).auc)
    assert areas == sorted(areas)
    assert areas[-1] > 0.9


def test_one_sample_again_and_again_is_told():
    samples = fields(16, 3)
    noise = np.random.default_rng(4).standard_normal(samples.volumes.shape).astype(np.float32)
    collapsed = dataclasses.replace(samples, volumes=samples.volumes[:1] + np.float32(0.01) * noise)
    result = discrimination.judge(material_of(collapsed, 16))
    assert result.facts["told_patches"]["tells"]["samples"]["auc"] > 0.9


def test_what_is_known_to_be_bad_is_made_where_it_is_no_contender():
    result = discrimination.judge(material_of(fields(16, 3), 16))
    assert {"pca", "blurred", "shaped_noise"} <= {row.of for row in result.rows if row.figure == "told_patches"}


def test_empty_samples_are_told():
    samples = fields(10, 3)
    result = discrimination.judge(material_of(dataclasses.replace(samples, volumes=0.0 * samples.volumes), 10))
    assert result.facts["told_network"]["tells"]["samples"]["auc"] == 1.0


def test_too_few_heads_are_not_told():
    result = discrimination.judge(material_of(fields(5, 3), 5))
    assert {row.value for row in result.rows} == {None}
    assert {row.note for row in result.rows} == {"too few heads", "the grid is no finer"}
    assert any("fewer than 8 heads" in note for note in result.notes)


def test_training_people_that_are_told_are_spoken_of(monkeypatch):
    monkeypatch.setattr(discrimination, "KNOWN_BAD", {"blurred": "of which Gaussian fields have no other"})
    material = material_of(fields(16, 3), 16)
    other = fields(16, 5, sigma=1.3)
    result = discrimination.judge(dataclasses.replace(material, contenders={"samples": other, "training": other}))
    assert any("such as a site" in note for note in result.notes)


def test_relatives_are_never_on_both_sides():
    seen = []

    class Spy:
        def fit_score(self, targets, groups, train, test, seed):
            seen.append(set(groups[train]) & set(groups[test]))
            return discrimination.LogisticPredictor(np.zeros((len(targets), 1))).fit_score(
                targets, groups, train, test, 0
            )

    real, other = fields(16, 1), fields(16, 3)
    real.people["family"] = [f"family{index // 2}" for index in range(16)]
    classifier = discrimination.Classifier("told_network", lambda volumes: volumes, lambda features: Spy())
    discrimination.tell(classifier, real.volumes, other.volumes, real, other)
    assert len(seen) == discrimination.NUM_REPEATS * 4
    assert not any(seen)


def test_shaped_noise_brings_the_power_of_real_heads():
    real, drawn = fields(60, 1), fields(60, 3, sigma=2.0)
    smooth = dataclasses.replace(drawn, volumes=np.float32(0.5) + np.float32(0.3) * (drawn.volumes - np.float32(0.5)))
    before, after, wanted = (
        _power(volumes).sum(axis=(0, 1))
        for volumes in (smooth.volumes, with_shaped_noise(smooth.volumes, real.volumes), real.volumes)
    )
    assert (before < 0.5 * wanted).all()
    np.testing.assert_allclose(after, wanted, rtol=0.15)


def test_shaped_noise_is_where_real_heads_differ():
    real = fields(40, 1)
    real.volumes[:, :7] = 0.5
    drawn = np.full_like(real.volumes, 0.5)
    noise = with_shaped_noise(drawn, real.volumes) - drawn
    assert noise[:, :4].std() < 0.1 * noise[:, 10:].std()


def test_filters_of_patches_are_correlations():
    network = PatchNetwork(np.ones((10, 10, 10), bool))
    volume = np.random.default_rng(0).random((10, 10, 10), dtype=np.float32)
    [features] = network.of_patches(volume)
    half = random_filters.PATCH_FILTERS // 2
    for start, index, dilation in ((2, 5, 1), (2 + 4 * half, half + 5, 2)):
        kernel = np.zeros((2 * dilation + 1,) * 3)
        kernel[::dilation, ::dilation, ::dilation] = network._filters[index].reshape(3, 3, 3)
        inside = (slice(dilation, -dilation),) * 3
        response = ndimage.correlate(volume.astype(float), kernel)[inside]
        assert features[start + 5] == pytest.approx(np.log(np.abs(response).mean() + 1e-6), abs=1e-4)
        assert features[start + 3 * half + 5] == pytest.approx((response > 0).mean(), abs=1e-6)


def test_networks_see_each_volume_alone():
    volumes = fields(3, 1).volumes
    for network in (VolumeNetwork(7), PatchNetwork(np.ones((14, 12, 13), bool), 7)):
        np.testing.assert_array_equal(network(volumes)[1:2], network(volumes[1:2]))


def test_patches_lie_in_the_head_and_are_not_too_many():
    head = np.zeros((40, 44, 36), bool)
    head[12:30, 14:34, 10:28] = True
    corners = patch_corners(head)
    assert 30 <= len(corners) <= random_filters.MOST_PATCHES
    assert head[tuple((corners + random_filters.PATCH_SIDE // 2).T)].all()
    assert (corners >= 0).all()
    assert (corners + random_filters.PATCH_SIDE <= head.shape).all()
    assert len(patch_corners(np.zeros((6, 7, 8), bool))) == 1


def test_large_volumes_are_averaged():
    volume = np.arange(5 * 4 * 7, dtype=np.float32).reshape(5, 4, 7)
    coarse = coarsened(volume, 2)
    assert coarse.shape == (2, 2, 3)
    assert coarse[1, 0, 2] == volume[2:4, 0:2, 4:6].mean()
    assert random_filters.shrinking((96, 112, 96)) == 2
    assert random_filters.shrinking((48, 56, 48)) == 1

"""Labels carried by registration, and volumes of sets of heads whose truth is known."""

import dataclasses
import json
import types

import numpy as np
import pandas as pd
import pytest
from labelled_heads import NAMES, ZOOMS, people
from synthetic_heads import make_material, synthetic_people

from mrigen.errors import UsageError
from mrigen.evaluation import anatomy
from mrigen.evaluation.contenders import made_people, mean_volumes, moved_copies, pca_volumes
from mrigen.evaluation.heads import CONTENDERS, COPIES, FLOOR, MEAN, PCA, SAMPLES, Heads, Material
from mrigen.evaluation.labels import Labels, Segmenter, read_labels
from mrigen.evaluation.normative import NormativeTable
from mrigen.imaging.volumes import write_volume

COUNT = 24


@pytest.fixture(scope="module")
def real():
    taught, labels = people(28, 1, "taught")
    return people(COUNT, 0, "unseen"), (taught, [None] * 14 + labels[14:])


def material_of(samples, real, **changes):
    (unseen, unseen_labels), (taught, taught_labels) = real
    floor = taught.take(np.arange(COUNT))

    def heads(volumes, name):
        return Heads(volumes, made_people(len(volumes), name), np.repeat(unseen.brains[:1], len(volumes), axis=0))

    contenders = {
        SAMPLES: samples,
        FLOOR: floor,
        PCA: heads(pca_volumes(taught.volumes, COUNT, 16), PCA),
        MEAN: heads(mean_volumes(taught.volumes, COUNT), MEAN),
        COPIES: heads(moved_copies(floor, ZOOMS), COPIES),
    }
    labels = Labels(taught_labels, unseen_labels, NAMES)
    material = Material(unseen, taught, contenders, ZOOMS, np.diag([8.0, 8.0, 8.0, 1.0]), labels=labels)
    return dataclasses.replace(material, **changes)


class RememberingSegmenter(Segmenter):
    """A segmenter that segments no head twice; that is slow, and the people of all sets are the same."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._known = {}

    def segment(self, volumes):
        new = {volume.tobytes(): volume for volume in volumes if volume.tobytes() not in self._known}
        if new:
            self._known |= dict(zip(new, super().segment(np.stack(list(new.values()))), strict=True))
        return [self._known[volume.tobytes()] for volume in volumes]


@pytest.fixture(scope="module")
def of_samples(real):
    """Figures of the samples, by what they are."""
    made = []

    def teach(*arguments):
        made.append(made[0] if made else RememberingSegmenter(*arguments))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mrigen.evaluation.anatomy_study.Segmenter", teach)
        return _judged_sets(real)


def _judged_sets(real):
    young = people(COUNT, 3, "young", ages=(20.0, 35.0))[0]
    middle = people(COUNT, 4, "middle", ages=(45.0, 55.0))[0]
    asked = middle.people.assign(age=20.0 + 6.0 * (middle.people["age"] - 45.0))
    sets = {
        "same": people(COUNT, 2, "same")[0],
        "young": young,
        "compressed": Heads(middle.volumes, asked, middle.brains),
        "collapsed": Heads(mean_volumes(young.volumes[:1].repeat(COUNT, axis=0), COUNT), young.people, young.brains),
    }
    found = {}
    for name, heads in sets.items():
        material = material_of(heads, real)
        if name != "same":
            only = {each: material.contenders[each] for each in (SAMPLES, FLOOR)}
            material = dataclasses.replace(material, contenders=only)
        found[name] = anatomy.judge(material)
    return found


def value(result, figure, of=SAMPLES):
    return next(row for row in result.rows if row.figure == figure and row.of == of)


def test_labels_of_other_people_are_found(real):
    (unseen, truth), (taught, labels) = real
    segmenter = Segmenter(taught.volumes[14:], labels[14:], ZOOMS)
    found = segmenter.segment(unseen.volumes[:10])
    dice = [
        [_dice(each.labels == label, own == label) for label in NAMES] for each, own in zip(found, truth, strict=False)
    ]
    assert (np.mean(dice, axis=0) > [0.6, 0.75, 0.8, 0.7, 0.7]).all()
    volumes = np.stack([each.volumes for each in found])
    counted = np.stack([segmenter.counted(each) for each in truth[:10]])
    assert np.corrcoef(volumes[:, 3], counted[:, 3])[0, 1] > 0.85
    np.testing.assert_allclose(volumes[:, 1:].mean(axis=0), counted[:, 1:].mean(axis=0), rtol=0.15)


def _dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_the_segmenter_says_how_wrong_it_is(of_samples):
    assert value(of_samples["same"], "segmenter_dice", "unseen").value > 0.7
    assert value(of_samples["same"], "segmenter_volume_r", "unseen").value > 0.5
    assert value(of_samples["same"], "segmenter_volume_error", "unseen").value < 0.2


def test_people_of_the_same_kind_are_at_the_floor(of_samples):
    result = of_samples["same"]
    assert value(result, "region_d_median").p > 0.02
    assert value(result, "region_d_median", FLOOR).p > 0.02
    assert value(result, "region_d_median").value < 0.6
    assert value(result, "region_d_share_small").value >= 0.6
    assert 0.6 < value(result, "region_sd_ratio").value < 1.6
    assert value(result, "gate_share").value > 0.7


def test_the_young_have_other_ventricles(of_samples):
    young, same = of_samples["young"], of_samples["same"]
    ventricles = next(each for each in young.facts["regions"] if each["region"] == "ventricles")
    assert ventricles["d_samples"] < -0.8 < ventricles["d_training"]
    assert value(young, "region_d_median").value > value(same, "region_d_median").value
    assert value(young, "region_w2_median").value > value(same, "region_w2_median").value


def test_effects_of_age_that_are_compressed_are_seen(of_samples):
    same = value(of_samples["same"], "region_age_slope")
    compressed = value(of_samples["compressed"], "region_age_slope")
    assert same.low < 1.0 < same.high and 0.5 < same.value < 1.5
    assert compressed.value < 0.5 and compressed.high < same.low + 0.3


def test_collapsed_samples_have_no_spread(of_samples):
    collapsed, same = of_samples["collapsed"], of_samples["same"]
    assert value(collapsed, "region_sd_ratio").value < 0.3
    assert value(collapsed, "region_correlation_distance").value > value(same, "region_correlation_distance").value
    assert value(collapsed, "region_correlation_distance").p < 0.05


def test_every_figure_is_there_for_every_contender(of_samples):
    result = of_samples["same"]
    assert {row.figure for row in result.rows} <= set(anatomy.FIGURES)
    for name in CONTENDERS:
        assert {row.figure for row in result.rows if row.of == name} >= {"region_d_median", "gate_share"}
    json.dumps(result.facts)
    assert set(result.pictures) == {"anatomy_regions", "anatomy_labels"}
    assert value(result, "region_age_slope", MEAN).value is None


def test_heads_that_show_nothing_fail_the_gate(real):
    same = people(8, 5, "same")[0]
    (unseen, unseen_labels), (taught, taught_labels) = real
    volumes = same.volumes.copy()
    volumes[:2] = 0.0
    volumes[2] = 0.5
    brains = same.brains.copy()
    brains[:3] = False
    contenders = {SAMPLES: Heads(volumes, same.people, brains), FLOOR: taught.take(np.arange(14, 22))}
    labels = Labels(taught_labels[14:22], unseen_labels[:8], NAMES)
    few = Material(
        unseen.take(np.arange(8)), taught.take(np.arange(14, 22)), contenders, ZOOMS, np.eye(4), labels=labels
    )
    result = anatomy.judge(few)
    assert value(result, "gate_share").value <= 5 / 8
    assert any("show no brain" in note for note in result.notes)


def test_without_labels_tissues_are_compared():
    result = anatomy.judge(make_material(synthetic_people(24, 72)))
    assert any("no label images" in note for note in result.notes)
    assert [each["region"] for each in result.facts["regions"]] == ["fluid", "grey matter", "white matter"]
    assert value(result, "region_d_median").p > 0.02
    assert value(result, "gate_share").value > 0.7
    assert not any(row.figure.startswith("segmenter") for row in result.rows)


def test_centiles_of_a_table(tmp_path, real):
    path = tmp_path / "normative.tsv"
    path.write_text("region\tage\tsex\tp5\tp95\tunit\nventricles\t20\tF\t10\t20\tml\nventricles\t80\tF\t30\t40\tml\n")
    table = NormativeTable(path)
    inside, centiles = table.judge("ventricles", [50, 50, 90], ["F", "F", "F"], [25.0, 40.0, 25.0], [1e3] * 3)
    np.testing.assert_array_equal(inside, [1.0, 0.0, np.nan])
    np.testing.assert_allclose(centiles[0], 50.0)
    assert np.isnan(table.judge("ventricles", [50], ["M"], [25.0], [1e3])[0]).all()
    shares = tmp_path / "shares.csv"
    shares.write_text("region,age,sex,mean,sd,unit\n3,0,,0.04,0.01,share\n3,99,,0.04,0.01,share\n")
    np.testing.assert_allclose(NormativeTable(shares).judge("3", [50], ["M"], [50.0], [1e3])[1], 84.13, atol=0.01)


def test_a_table_of_centiles_without_columns_is_refused(tmp_path):
    path = tmp_path / "normative.tsv"
    path.write_text("region\tage\nventricles\t20\n")
    with pytest.raises(UsageError, match=r"normative.tsv: got columns region, age, expected .* p5 and p95"):
        NormativeTable(path)
    with pytest.raises(UsageError, match=r"none.tsv: no such file, expected a table\..*columns region, age, sex"):
        NormativeTable(tmp_path / "none.tsv")
    path.write_text("region\tage\tsex\tp5\tp95\nventricles\tforty\tF\t1\t2\n")
    with pytest.raises(UsageError, match=r"normative.tsv: got 'forty' in column age, expected a number"):
        NormativeTable(path)


def test_label_images_are_read_onto_the_grid(tmp_path):
    labels = np.zeros((12, 10, 8), np.int16)
    labels[2:6, 3:9, 2:6], labels[8:10, 3:9, 2:6] = 7, 9
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-11.0, -9.0, -7.0]
    folder = tmp_path / "derivatives" / "tool" / "sub-1" / "anat"
    folder.mkdir(parents=True)
    write_volume(folder / "sub-1_dseg.nii.gz", labels, affine)
    write_volume(folder / "sub-2_mask.nii.gz", (labels > 0).astype(np.uint8), affine)
    (tmp_path / "derivatives" / "tool" / "dseg.tsv").write_text("index\tname\n7\tLeft Putamen\n")
    paths = [str(folder / "sub-1_dseg.nii.gz"), str(folder / "sub-2_mask.nii.gz"), None]
    table = pd.DataFrame({"mask_path": paths, "centre_x": 0.0, "centre_y": 0.0, "centre_z": 0.0})
    dataset = types.SimpleNamespace(cache=types.SimpleNamespace(table=table, volume_shape=(6, 5, 4)))
    found, names = read_labels(dataset, [0, 1, 2], (4.0, 4.0, 4.0))
    assert found[1] is None and found[2] is None
    assert found[0].shape == (6, 5, 4) and found[0].dtype == np.int16
    assert set(np.unique(found[0])) == {0, 7, 9}
    assert 8 * np.count_nonzero(found[0] == 7) == pytest.approx(np.count_nonzero(labels == 7), rel=0.5)
    assert Labels(found, [], names).name(7) == "Left Putamen"
    assert Labels(found, [], names).name(9) == "label 9"

import dataclasses

import numpy as np
import pandas as pd
import pytest

from mrigen.evaluation import usefulness
from mrigen.evaluation.contenders import made_people, quantised
from mrigen.evaluation.heads import FLOOR, PCA, SAMPLES, Heads, Material
from mrigen.evaluation.usefulness import TARGETS, Taught, _Probe
from mrigen.probing.intervals import difference_interval

SHAPE = (9, 8, 7)
SEX, AGE = TARGETS


def people_like(count, seed, ages=1.0, sexes=1.0):
    """Returns heads in whose volumes sex and age show, by so much."""
    rng = np.random.default_rng(seed)
    maps = np.random.default_rng(0).standard_normal((2, *SHAPE))
    is_male, age = np.arange(count) % 2, rng.uniform(20.0, 80.0, count)
    signs = sexes * (2.0 * is_male - 1.0), ages * (age - 50.0) / 17.0
    noise = rng.standard_normal((count, *SHAPE))
    volumes = 0.5 + 0.04 * sum(np.multiply.outer(sign, each) for sign, each in zip(signs, maps, strict=True))
    people = made_people(count, f"person{seed}").assign(sex=np.array(["F", "M"])[is_male], age=age)
    return Heads(quantised(volumes + 0.06 * noise), people, np.ones((count, *SHAPE), bool))


def judged(samples, count=24, unseen=None):
    unseen = people_like(count, 1) if unseen is None else unseen
    taught = people_like(2 * count, 2)
    unlabelled = Heads(samples.volumes, made_people(len(samples), PCA), samples.brains)
    contenders = {SAMPLES: samples, FLOOR: taught.take(np.arange(count)), PCA: unlabelled}
    result = usefulness.judge(Material(unseen, taught, contenders, (8.0,) * 3, np.eye(4)))
    return {(row.figure, row.of): row for row in result.rows}, result


def labelled(heads, **columns):
    return dataclasses.replace(heads, people=heads.people.assign(**columns))


@pytest.fixture(scope="module", autouse=True)
def fewer_parts():
    """Each figure is learned anew without each part of the heads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(usefulness, "NUM_PARTS", 4)
        yield


@pytest.fixture(scope="module")
def honest():
    return judged(people_like(24, 3))[0]


def test_other_people_teach_what_training_people_teach(honest):
    assert honest["useful_sex_auc", SAMPLES].value > 0.85
    assert honest["useful_age_mae", SAMPLES].value < 0.7 * honest["useful_age_mae", "guess"].value
    assert honest["useful_age_r", SAMPLES].value > 0.7
    for of in (SAMPLES, FLOOR):
        for figure in ("useful_sex_auc_lead", "useful_age_mae_lead"):
            assert honest[figure, of].low <= 0.0 <= honest[figure, of].high
    assert honest["added_age_mae", SAMPLES].value < 0.0


def test_the_lead_is_the_difference_of_what_was_learned(honest):
    ours, theirs = (honest["useful_sex_auc", of].value for of in (SAMPLES, FLOOR))
    assert honest["useful_sex_auc_lead", SAMPLES].value == pytest.approx(ours - theirs)


def test_samples_of_the_other_sex_teach_the_wrong_sex():
    samples = people_like(24, 3)
    rows, _ = judged(labelled(samples, sex=samples.people["sex"].map({"F": "M", "M": "F"})))
    assert rows["useful_sex_auc", SAMPLES].high < 0.5
    assert rows["useful_sex_auc_lead", SAMPLES].high < 0.0
    assert rows["added_sex_auc", SAMPLES].value < -0.1


def test_samples_with_too_little_age_teach_the_wrong_age(honest):
    errors = [honest["useful_age_mae", SAMPLES].value]
    errors += [judged(people_like(24, 3, ages=ages))[0]["useful_age_mae", SAMPLES].value for ages in (0.5, 0.25)]
    assert errors == sorted(errors)
    assert errors[-1] > 1.3 * errors[0]


def test_noise_teaches_nothing():
    rows, _ = judged(people_like(24, 3, ages=0.0, sexes=0.0))
    row = rows["useful_sex_auc", SAMPLES]
    assert row.low <= 0.5 <= row.high
    assert rows["useful_age_r", SAMPLES].low <= 0.0 <= rows["useful_age_r", SAMPLES].high
    assert rows["useful_age_mae_lead", SAMPLES].low > 0.0


def test_samples_without_labels_have_no_figures():
    samples = people_like(24, 3)
    rows, result = judged(Heads(samples.volumes, made_people(24, SAMPLES), samples.brains))
    row = rows["useful_sex_auc", SAMPLES]
    assert row.value is None
    assert row.note.startswith("samples without labels")
    assert rows["added_age_mae", PCA].note == "no labels"
    assert any("nobody asked for a sex" in note for note in result.notes)


@pytest.mark.parametrize(
    ("columns", "figure", "note"),
    [
        ({"sex": "F"}, "useful_sex_auc", "fewer than 3 of a sex"),
        ({"age": 40.0}, "added_age_mae", "all of one age"),
        ({"age": [40.0, 41.0] + [np.nan] * 22}, "useful_age_r", "fewer than 8"),
    ],
)
def test_labels_that_teach_nothing_are_named(columns, figure, note):
    rows, _ = judged(labelled(people_like(24, 3), **columns))
    assert (rows[figure, SAMPLES].value, rows[figure, SAMPLES].note) == (None, note)


def test_people_without_labels_test_nothing():
    unseen = people_like(24, 1)
    rows, result = judged(people_like(24, 3), unseen=labelled(unseen, age=np.nan))
    assert rows["useful_age_mae", SAMPLES].value is None
    assert rows["useful_sex_auc", SAMPLES].value > 0.8
    assert [note for note in result.notes if note.startswith("age: ")]


def test_samples_that_are_all_alike_teach_nothing():
    samples = people_like(24, 3)
    rows, _ = judged(dataclasses.replace(samples, volumes=np.zeros_like(samples.volumes)))
    assert rows["useful_sex_auc", SAMPLES].value == 0.5


def test_labels_that_are_unknown_are_left_out():
    people = pd.DataFrame({"participant_id": list("abc"), "family": list("abc"), "sex": ["F", None, "M"]})
    heads = Heads(np.zeros((3, 2, 2, 2), np.float32), people, np.zeros((3, 2, 2, 2), bool))
    assert Taught.of(heads, SEX).values.tolist() == [0, 1]
    assert len(Taught.of(heads, AGE)) == 0


def test_intervals_know_that_other_heads_would_teach_otherwise():
    held = []
    for repeat in range(12):
        unseen, *sources = (Taught.of(people_like(16, 100 + 3 * repeat + index), SEX) for index in range(3))
        probe = _Probe(SEX, unseen, dict(zip(("real", "other"), sources, strict=True)), 0)
        low, high = difference_interval("roc_auc", probe.estimate("roc_auc", ("other",), ("real",)))
        held.append(low <= 0.0 <= high)
    assert sum(held) >= 10

import pytest
from synthetic_heads import make_material

from mrigen.evaluation import discrimination

NETWORKS = ("told_network", "told_patches")


def rows_of(result):
    return {(row.figure, row.of): row for row in result.rows}


@pytest.fixture(scope="module")
def honest(unheard):
    return rows_of(discrimination.judge(make_material(unheard)))


@pytest.mark.parametrize("figure", NETWORKS)
@pytest.mark.parametrize("of", ["samples", "training"])
def test_people_of_the_same_population_are_not_told(honest, figure, of):
    row = honest[figure, of]
    assert row.low <= 0.5 <= row.high
    assert row.n == 24


@pytest.mark.parametrize("figure", NETWORKS)
@pytest.mark.parametrize("of", ["pca", "blurred", "shaped_noise", "mean", "copies"])
def test_networks_tell_what_is_known_to_be_bad(honest, figure, of):
    row = honest[figure, of]
    assert row.value >= 0.9
    assert row.low > 0.5


def test_a_classifier_that_does_not_see_a_blur_has_no_power(unheard):
    result = discrimination.judge(make_material(unheard))
    row = rows_of(result)["told_linear", "samples"]
    assert (row.value, row.note) == (None, "no power")
    assert rows_of(result)["told_linear", "blurred"].value < 0.9
    assert 0.0 <= result.facts["told_linear"]["tells"]["samples"]["auc"] <= 1.0
    assert any(note.startswith("told_linear has no power") and "blurred" in note for note in result.notes)

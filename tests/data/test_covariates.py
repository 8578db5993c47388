"""Covariates as vectors, and what people type."""

import numpy as np
import pandas as pd
import pytest

from mrigen.data.covariates import Covariates, as_table, clean_given, parse_given
from mrigen.errors import CohortError, UsageError


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "participant_id": ["a", "b", "c", "d", "e"],
            "sex": ["F", "M", "F", None, "M"],
            "age": [20.0, 40.0, np.nan, 60.0, 99.0],
            "head_volume_ml": [3000.0, 4000.0, 3200.0, 3800.0, 1.0],
            "site": ["A", "B", "A", "C", "B"],
        }
    )


@pytest.fixture
def split():
    return pd.DataFrame({"participant_id": list("abcde"), "split": ["train"] * 4 + ["heldout"]})


def test_vectors_are_those_that_are_promised(table, split):
    covariates = Covariates.of(table, split, ["sex", "age", "site"])
    assert covariates.size == 1 + 2 + 3
    assert covariates.slices() == {"sex": slice(0, 1), "age": slice(1, 3), "site": slice(3, 6)}
    # The training people alone are 40 +- 20 years old.
    expected = [
        [-1, -1, 1, 1, 0, 0],
        [1, 0, 1, 0, 1, 0],
        [-1, 0, 0, 1, 0, 0],
        [0, 1, 1, 0, 0, 1],
        [1, 2.95, 1, 0, 1, 0],
    ]
    got = covariates.encode(table)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_what_is_not_in_the_table_is_unknown(table, split):
    covariates = Covariates.of(table, split, ["sex", "age", "site"])
    np.testing.assert_allclose(covariates.encode(as_table({"age": 60.0}, 2)), [[0, 1, 1, 0, 0, 0]] * 2)
    np.testing.assert_allclose(covariates.encode(as_table({"site": "Z"})), np.zeros((1, 6)))


@pytest.mark.parametrize(("name", "value"), [("sex", "F"), ("site", "A"), ("age", 30.0)])
def test_what_does_not_differ_is_refused(table, split, name, value):
    with pytest.raises(CohortError, match=f"covariate {name}: got .*expected training people who differ in it"):
        Covariates.of(table.assign(**{name: value}), split, [name])


def test_a_drawn_person_has_what_is_given_and_goes_together(table, split):
    people = pd.DataFrame(
        {
            "sex": ["F"] * 50 + ["M"] * 50,
            "age": np.tile(np.linspace(20, 70, 50), 2),
            "head_volume_ml": np.r_[np.full(50, 3000.0), np.full(50, 4000.0)],
            "participant_id": [str(number) for number in range(100)],
        }
    )
    everyone = pd.DataFrame({"participant_id": people["participant_id"], "split": "train"})
    covariates = Covariates.of(people, everyone, ["sex", "age", "head_size"])
    drawn = pd.concat([covariates.draw(people, {"sex": "F"}, np.random.default_rng(k)) for k in range(40)])
    assert set(drawn["sex"]) == {"F"} and set(drawn["head_volume_ml"]) == {3000.0}
    assert drawn["age"].std() > 10
    drawn = pd.concat([covariates.draw(people, {"head_size": 3990.0}, np.random.default_rng(k)) for k in range(40)])
    assert set(drawn["sex"]) == {"M"} and set(drawn["head_volume_ml"]) == {3990.0}
    far = covariates.draw(people, {"age": 500.0}, np.random.default_rng(0))
    assert far["age"].iloc[0] == 500.0 and far["sex"].iloc[0] in ("F", "M")
    one, other = (covariates.draw(people, {}, np.random.default_rng(5)) for _ in range(2))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("sex", "got sex, expected NAME=VALUE"),
        ("height=3", "got height=3, expected NAME=VALUE with a name of sex, age, head_size, site"),
        ("age=old", r"given=\{'age': 'old'\}: got old, expected a number \(years\)"),
        ("age=nan", "got nan, expected a number"),
        ("sex=F,sex=M", "got sex twice"),
    ],
)
def test_what_people_mistype_is_told(text, match):
    with pytest.raises(UsageError, match=match):
        parse_given(text)


def test_values_of_nobody_are_refused(table, split):
    covariates = Covariates.of(table, split, ["sex", "site"])
    covariates.check({"sex": "M", "site": "C"})
    with pytest.raises(UsageError, match=r"given=\{'site': 'Z'\}: got Z, expected one of A, B, C"):
        covariates.check({"site": "Z"})
    with pytest.raises(UsageError, match=r"given=\{'age': 3\}: got age, expected one of sex, site"):
        covariates.check({"age": 3})
    assert parse_given(None) == {} and parse_given(" sex = F , head_size=1500 ") == {"sex": "F", "head_size": 1500.0}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"height": 3}, "got height, expected some of sex, age, head_size, site"),
        ({"age": "old"}, r"got old, expected a number \(years\)"),
        ({"head_size": float("nan")}, r"got nan, expected a number \(ml\)"),
        ({"age": True}, "got True, expected a number"),
    ],
)
def test_what_is_given_is_a_covariate_and_numbers_are_numbers(given, match):
    with pytest.raises(UsageError, match=match):
        clean_given(given)
    assert clean_given({"age": np.int64(30), "sex": "F"}) == {"age": 30.0, "sex": "F"} and clean_given(None) == {}

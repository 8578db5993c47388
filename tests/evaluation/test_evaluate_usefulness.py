import dataclasses

import pytest
from synthetic_heads import make_material

from mrigen.evaluation import usefulness


def rows_of(samples):
    result = usefulness.judge(make_material(samples))
    return {(row.figure, row.of): row for row in result.rows}, result


def with_column(heads, **columns):
    return dataclasses.replace(heads, people=heads.people.assign(**columns))


@pytest.fixture(scope="module")
def honest(unheard):
    return rows_of(unheard)[0]


def test_other_people_teach_what_training_people_teach(honest):
    for figure in ("useful_sex_auc_lead", "useful_age_mae_lead"):
        row = honest[figure, "samples"]
        assert row.low < 0.0 < row.high
    for row in honest.values():
        print(row)


def test_samples_of_the_other_sex_teach_the_wrong_sex(unheard):
    swapped = unheard.people["sex"].map({"F": "M", "M": "F"})
    rows, _ = rows_of(with_column(unheard, sex=swapped))
    for row in rows.values():
        print(row)
    assert rows["useful_sex_auc", "samples"].value < 0.5
    assert rows["useful_sex_auc_lead", "samples"].high < 0.0

"""Who is in which split: whole people, whole families, alike in sex, age and site."""

import numpy as np
import pandas as pd
import pytest

from mrigen.data.splits import SPLITS, check_split, read_split, split_subjects
from mrigen.errors import CohortError
from mrigen.recipe import SplitRecipe
from mrigen.system.files import write_table


def people(number, seed=0, num_sites=1, num_families=None):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "scan_id": [f"sub-{n:04d}" for n in range(number)],
            "participant_id": [f"sub-{n:04d}" for n in range(number)],
            "sex": rng.choice(np.array(["F", "M", None], dtype=object), number, p=[0.5, 0.47, 0.03]),
            "age": np.where(rng.random(number) < 0.03, np.nan, rng.uniform(20, 82, number)),
            "site": [f"site{n}" for n in rng.integers(0, num_sites, number)],
            "family": [f"f{n}" for n in rng.integers(0, num_families, number)] if num_families else None,
            "visit": 0,
        }
    )


def sizes(split):
    return [int((split["split"] == name).sum()) for name in SPLITS]


@pytest.mark.parametrize(
    ("number", "fractions", "expected"),
    [
        (127, (0.7, 0.1, 0.2), [89, 13, 25]),
        (10, (0.7, 0.1, 0.2), [7, 1, 2]),
        (3, (0.7, 0.1, 0.2), [1, 1, 1]),
        (5, (0.98, 0.01, 0.01), [3, 1, 1]),
        (11, (0.5, 0.0, 0.5), [6, 0, 5]),
        (7, (1.0, 0.0, 0.0), [7, 0, 0]),
        (60, (1 / 3, 1 / 3, 1 / 3), [20, 20, 20]),
    ],
)
def test_sizes_are_as_near_to_the_fractions_as_can_be(number, fractions, expected):
    split = split_subjects(people(number), SplitRecipe(**dict(zip(SPLITS, fractions, strict=True))))
    assert sizes(split) == expected


def test_everybody_is_in_the_split_once_and_in_order():
    table = people(61)
    split = split_subjects(table, SplitRecipe())
    assert split.columns.tolist() == ["participant_id", "split"]
    assert split["participant_id"].tolist() == sorted(table["participant_id"])


@pytest.mark.parametrize("seed", range(10))
def test_sexes_and_ages_are_alike_in_all_splits(seed):
    table = people(127, seed=1)
    merged = table.merge(split_subjects(table, SplitRecipe(seed=seed)), on="participant_id")
    women = merged[merged["sex"].notna()].groupby("split")["sex"].agg(lambda sex: (sex == "F").mean())
    # Random draws of 13 differ by 0.14 (one standard deviation) and 5 years; these bounds would fail on most seeds.
    assert (women - (table["sex"] == "F").sum() / table["sex"].notna().sum()).abs().max() < 0.11
    assert (merged.groupby("split")["age"].mean() - table["age"].mean()).abs().max() < 6.0


def test_ages_are_alike_on_average_over_seeds():
    table = people(127, seed=1)
    spreads = []
    for seed in range(20):
        merged = table.merge(split_subjects(table, SplitRecipe(seed=seed)), on="participant_id")
        spreads.append(merged[merged["split"] == "validation"]["age"].mean() - table["age"].mean())
    assert np.std(spreads) < 0.6 * table["age"].std() / np.sqrt(13)
    assert abs(np.mean(spreads)) < 1.5


def test_sites_are_alike_in_all_splits():
    table = people(200, num_sites=8)
    merged = table.merge(split_subjects(table, SplitRecipe()), on="participant_id")
    counts = pd.crosstab(merged["site"], merged["split"])
    expected = np.outer(counts.to_numpy().sum(axis=1), [0.2, 0.7, 0.1])
    assert np.abs(counts[["heldout", "train", "validation"]].to_numpy() - expected).max() < 2.5


@pytest.mark.parametrize("seed", range(5))
def test_families_are_never_divided(seed):
    table = people(90, seed=seed, num_families=40)
    split = split_subjects(table, SplitRecipe(seed=seed))
    merged = table.merge(split, on="participant_id")
    assert merged.groupby("family")["split"].nunique().max() == 1
    assert sizes(split) == [63, 9, 18]


def test_families_are_linked_through_people_who_belong_to_two():
    table = people(30)
    table["family"] = None
    visits = pd.DataFrame(
        {
            "participant_id": ["sub-0001", "sub-0002", "sub-0002", "sub-0003"],
            "family": ["a", "a", "b", "b"],
            "visit": [1, 1, 2, 1],
            "scan_id": ["w", "x", "y", "z"],
        }
    )
    table = pd.concat([table, visits], ignore_index=True)
    for seed in range(8):
        split = split_subjects(table, SplitRecipe(seed=seed)).set_index("participant_id")["split"]
        assert len({split["sub-0001"], split["sub-0002"], split["sub-0003"]}) == 1
        assert len(split) == 30


def test_large_families_leave_no_split_empty():
    table = people(20)
    table["family"] = [f"f{n // 5}" for n in range(20)]
    for seed in range(8):
        split = split_subjects(table, SplitRecipe(seed=seed))
        assert sizes(split) == [10, 5, 5]


def test_visits_of_a_person_stay_together_and_the_first_counts():
    table = people(20)
    later = table.assign(visit=1, sex="F", age=99.0, scan_id=table["scan_id"] + "_ses-2")
    both = pd.concat([later, table], ignore_index=True)
    pd.testing.assert_frame_equal(split_subjects(both, SplitRecipe()), split_subjects(table, SplitRecipe()))


def test_split_does_not_depend_on_the_order_of_rows():
    table = people(101, num_sites=3, num_families=60)
    shuffled = table.sample(frac=1, random_state=4)
    pd.testing.assert_frame_equal(
        split_subjects(shuffled, SplitRecipe(seed=3)), split_subjects(table, SplitRecipe(seed=3))
    )


def test_split_depends_on_the_seed():
    table = people(101)
    first, second = (split_subjects(table, SplitRecipe(seed=seed)) for seed in (0, 1))
    assert (first["split"] != second["split"]).sum() > 10


def test_the_split_of_a_seed_stays_what_it_is():
    """Or an old recipe would divide people otherwise."""
    split = split_subjects(people(40), SplitRecipe(seed=0, train=0.5, validation=0.25, heldout=0.25))
    assert "".join(name[0] for name in split["split"]) == "tvhthvvtthtthhhttthvtvvvthtvhttttvtttvht"


def test_a_split_of_nobody_takes_no_part():
    with np.errstate(all="raise"):
        split = split_subjects(people(20), SplitRecipe(train=0.5, validation=0.0, heldout=0.5))
    assert sizes(split) == [10, 0, 10]


def test_everybody_is_as_likely_to_be_held_out():
    table = people(40, num_sites=4)
    heldout = sum(
        (split_subjects(table, SplitRecipe(seed=seed))["split"] == "heldout").to_numpy(int) for seed in range(150)
    )
    # 150 draws at 0.2: 30 on average, standard deviation 4.9. Rare strata must not always train.
    assert heldout.min() >= 10
    assert heldout.max() <= 60


def test_a_table_of_names_alone_is_split():
    assert sizes(split_subjects(people(20)[["participant_id"]], SplitRecipe())) == [14, 2, 4]


def test_ten_thousand_people_are_split():
    split = split_subjects(people(10_000, num_sites=30), SplitRecipe())
    assert sizes(split) == [7000, 1000, 2000]


def test_fewer_than_three_people_are_a_fault():
    with pytest.raises(CohortError, match="cohort: got 2 people, expected at least 3"):
        split_subjects(people(2), SplitRecipe())


def test_fewer_families_than_splits_are_a_fault():
    table = people(8).assign(family=list("aaaabbbb"))
    with pytest.raises(CohortError, match="got 2 families of 8 people, expected at least 3 to fill 3 splits"):
        split_subjects(table, SplitRecipe())
    assert sizes(split_subjects(table, SplitRecipe(train=0.5, validation=0.0, heldout=0.5))) == [4, 0, 4]


# ---- a split in a file


@pytest.fixture
def table():
    return people(6).assign(family=["a", "a", None, None, None, None])


WORDS = ["train", "train", "train", "validation", "heldout", "heldout"]


def write(path, ids, words):
    write_table(path, pd.DataFrame({"participant_id": ids, "split": words}))
    return path


def test_a_split_is_read_in_any_order_and_without_sub(tmp_path, table):
    ids = table["participant_id"].tolist()
    expected = pd.DataFrame({"participant_id": ids, "split": WORDS}).astype(object)
    path = write(tmp_path / "split.tsv", [name.removeprefix("sub-") for name in reversed(ids)], WORDS[::-1])
    pd.testing.assert_frame_equal(read_split(path, table), expected)
    pd.testing.assert_frame_equal(split_subjects(table, SplitRecipe(file=str(path))), expected)


def test_a_split_is_written_and_read_again(tmp_path):
    table = people(23)
    split = split_subjects(table, SplitRecipe())
    write_table(tmp_path / "split.tsv", split)
    pd.testing.assert_frame_equal(read_split(tmp_path / "split.tsv", table), split, check_dtype=False)


@pytest.mark.parametrize(
    ("ids", "words", "message"),
    [
        ("01234", WORDS[:5], r"split.tsv: got no row for sub-0005, expected one for everybody"),
        ("0123455", [*WORDS, "train"], r"split.tsv: got 2 rows for sub-0005, expected one"),
        ("0123457", [*WORDS, "train"], r"split.tsv: got 0007, who is not in the cohort"),
        ("012345", [*WORDS[:5], "valid"], r"got the split 'valid' in 1 row, .*Did you mean 'validation'\?"),
        ("012345", [*WORDS[:5], None], r"got the split 'n/a' in 1 row"),
        ("012345", ["heldout"] * 6, r"got nobody in the split train"),
        (
            "102345",
            ["validation", "heldout", *WORDS[:3], "train"],
            r"the family a divided: sub-0000 \(heldout\), sub-0001 \(validation\)",
        ),
    ],
)
def test_faults_of_a_split_file(tmp_path, table, ids, words, message):
    path = write(tmp_path / "split.tsv", [f"000{name}" for name in ids], words)
    with pytest.raises(CohortError, match=message):
        read_split(path, table)


def test_faults_of_a_split_file_come_together(tmp_path, table):
    path = write(tmp_path / "split.tsv", ["0000", "0001", "9999"], ["train", "heldout", "test"])
    with pytest.raises(CohortError) as caught:
        read_split(path, table)
    assert len(caught.value.faults) == 4
    assert "got no row for 4 people (sub-0002, sub-0003, sub-0004 and 1 more)" in caught.value.faults[1]


def test_a_split_file_without_its_columns_is_a_fault(tmp_path, table):
    (tmp_path / "split.tsv").write_text("participant_id\tset\nsub-0000\ttrain\n")
    with pytest.raises(CohortError, match="got the columns participant_id, set, expected participant_id and split"):
        read_split(tmp_path / "split.tsv", table)
    with pytest.raises(CohortError, match=r"none.tsv: no such file"):
        read_split(tmp_path / "none.tsv", table)


def test_ids_that_differ_by_sub_alone_are_two_people(tmp_path):
    table = pd.DataFrame({"participant_id": ["01", "sub-01", "sub-02"]})
    path = write(tmp_path / "split.tsv", ["01", "sub-01", "sub-02"], ["train", "heldout", "train"])
    assert read_split(path, table)["split"].tolist() == ["train", "heldout", "train"]


def test_a_sound_split_passes(table):
    check_split(table, split_subjects(table, SplitRecipe()))


def test_a_person_in_two_splits_is_a_fault(table):
    split = pd.DataFrame({"participant_id": ["sub-0003", "sub-0003"], "split": ["train", "heldout"]})
    with pytest.raises(CohortError, match="split: got sub-0003 in heldout and train"):
        check_split(table, split)


def test_a_family_in_two_splits_is_a_fault(table):
    split = pd.DataFrame({"participant_id": table["participant_id"], "split": ["train", "heldout", *WORDS[2:]]})
    with pytest.raises(CohortError, match="split: got the family a divided"):
        check_split(table, split)

"""The verb: what it gathers, keeps, takes over and writes; its parts are tried elsewhere."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from mrigen.errors import CohortError, RunError, UsageError
from mrigen.evaluation import PARTS, Evaluation, PartResult, Row, evaluate, evaluating
from mrigen.evaluation.comparing import compare_evaluations, describe_other_settings, open_evaluations
from mrigen.evaluation.contenders import blurred, moved
from mrigen.evaluation.heads import CONTENDERS, FLOOR, SAMPLES
from mrigen.evaluation.looks import count_looks
from mrigen.evaluation.parts import Part
from mrigen.generation import sample
from mrigen.recipe import load_recipe


@pytest.fixture
def run_copy(people_run, tmp_path):
    """A finished run with enough validation people, that a test may write into."""
    shutil.copytree(people_run.directory, tmp_path / "run")
    return dataclasses.replace(people_run, directory=tmp_path / "run")


@pytest.fixture(scope="module")
def people_run(fit_once):
    return fit_once(
        "many-unseen", "data.split.train=0.4", "data.split.validation=0.3", "data.split.heldout=0.3",
        "data.num_subjects=32",
    )  # fmt: skip


@pytest.fixture
def judged(monkeypatch):
    """Puts parts in place of the real ones that say what they were given, and returns the materials."""
    seen = []

    def judge(self, material):
        seen.append(material)
        if self.module == "broken":
            raise CohortError("people: got none, expected some. Add some.")
        volumes = material.contenders
        rows = [Row(f"mean_{self.module}", name, float(heads.volumes.mean())) for name, heads in volumes.items()]
        return PartResult(tuple(rows), facts={"people": len(material.unseen)})

    parts = {"one": Part("one", "One."), "two": Part("two", "Two."), "broken": Part("broken", "Broken.")}
    parts["asking"] = Part("asking", "Asks a run.", needs_run=True)
    monkeypatch.setattr(Part, "judge", judge)
    monkeypatch.setattr(Part, "figures", {})
    for name in list(PARTS):
        monkeypatch.delitem(PARTS, name)
    for name, part in parts.items():
        monkeypatch.setitem(PARTS, name, part)
    monkeypatch.setattr(evaluating, "plot_heads", lambda material: _figure())
    return seen


def _figure():
    from matplotlib.figure import Figure

    return Figure(figsize=(1, 1))


def test_people_and_contenders_of_a_run(run_copy, judged):
    evaluation = evaluate(run_copy, only=["one"])
    [material] = judged
    split = run_copy.split.set_index("participant_id")["split"]
    assert set(split[material.unseen.people["participant_id"]]) == {"validation"}
    assert set(split[material.taught.people["participant_id"]]) == {"train"}
    assert set(split[material.contenders[FLOOR].people["participant_id"]]) == {"train"}
    assert list(material.contenders) == list(CONTENDERS)
    for heads in (material.unseen, material.taught, *material.contenders.values()):
        assert heads.volumes.dtype == np.float32 and heads.volumes.min() >= 0 and heads.volumes.max() <= 1
        levels = heads.volumes * 255
        assert np.allclose(levels, np.rint(levels), atol=1e-3)
        assert heads.brains.shape == heads.volumes.shape and heads.brains.any(axis=(1, 2, 3)).all()
    drawn = sample(run_copy, len(material.unseen))
    assert np.abs(material.samples.volumes[2] - drawn[2].get_fdata()).max() <= 0.5 / 255 + 1e-6
    assert evaluation.figure("mean_one") == pytest.approx(material.samples.volumes.mean())


def test_parts_are_kept_and_taken_over(run_copy, judged):
    first = evaluate(run_copy, only=["two"])
    first.write()
    again = Evaluation(run_copy)
    assert again.take_over() == ["two"] and len(judged) == 1
    again.judge("one")
    again.write()
    content = json.loads((run_copy.directory / "evaluation" / "validation" / "evaluation.json").read_text())
    assert list(content["parts"]) == ["two", "one"] and content["parts"]["two"]["facts"]["people"] == 10
    assert again.to_frame()["part"].unique().tolist() == ["one", "two"]
    other = Evaluation(run_copy, seed=1)
    with pytest.raises(UsageError, match=r"holds an evaluation with other settings \(seed\)"):
        other.take_over()
    assert other.take_over(force=True) == []


def test_a_part_that_cannot_be_judged_says_why_and_is_asked_again(run_copy, judged):
    evaluation = evaluate(run_copy, only=["broken", "one"])
    assert evaluation.notes() == ["broken: Not judged: people: got none, expected some. Add some."]
    evaluation.write()
    assert Evaluation(run_copy).take_over() == ["one"]


def test_looks_at_heldout_people_are_counted(run_copy, judged):
    evaluate(run_copy, only=["one"])
    assert count_looks(run_copy) == 0
    assert evaluate(run_copy, only=["one"], against="heldout").looks == 1
    second = evaluate(run_copy, only=["one", "two"], against="heldout")
    assert second.looks == 2 and "looked at 2 times" in second.notes()[-1]
    second.write()
    assert (run_copy.directory / "evaluation" / "heldout" / "evaluation.json").is_file()


def test_a_folder_of_samples_is_prepared_like_people(run_copy, judged, tmp_path):
    sample(run_copy, 12, given={"sex": "F"}).write(tmp_path / "made")
    evaluation = evaluate(samples=tmp_path / "made", real=run_copy, only=["one", "asking"])
    [material] = judged
    assert material.run is None and set(material.samples.people["sex"]) == {"F"}
    assert evaluation.results["asking"].notes == ("Not judged: it asks a run, and got samples alone.",)
    paths = evaluation.write()
    assert paths[0] == tmp_path / "made-evaluation-validation" / "evaluation.json"
    recipe = load_recipe(run_copy.directory / "recipe.yaml")
    by_recipe = evaluate(samples=tmp_path / "made", real=recipe, only=["one"])
    assert by_recipe.looks is None
    np.testing.assert_array_equal(judged[1].samples.volumes, material.samples.volumes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num": 40}, "got 40, expected a number from 8 to 10, as many as there are validation people"),
        ({"num": 3}, "expected a number from 8 to 10"),
        ({"against": "everyone"}, "expected one of validation, heldout"),
        ({"only": ["won"]}, "got 'won', expected some of one, two"),
    ],
)
def test_what_does_not_fit_is_told(run_copy, judged, options, said):
    with pytest.raises(UsageError, match=said):
        evaluate(run_copy, **({"only": ["one"]} | options))


def test_samples_and_people_go_together(run_copy, judged, tmp_path):
    with pytest.raises(UsageError, match="both or neither of `run` and `samples`"):
        evaluate()
    with pytest.raises(UsageError, match="samples without real people"):
        evaluate(samples=tmp_path)
    with pytest.raises(UsageError, match="no NIfTI image"):
        evaluate(samples=tmp_path, real=run_copy)
    sample(run_copy, 2).write(tmp_path / "few")
    with pytest.raises(UsageError, match="got 2 samples, expected at least as many as never-seen people, 10"):
        evaluate(samples=tmp_path / "few", real=run_copy, only=["one"])


def test_too_few_people_are_told(finished_run, judged):
    with pytest.raises(UsageError, match=r"validation people, expected at least 8\..* data\.split\.validation"):
        evaluate(finished_run, only=["one"])


def test_evaluations_side_by_side(run_copy, judged, tmp_path):
    evaluate(run_copy, only=["one", "two"]).write()
    evaluate(run_copy, only=["one"], seed=3, num=8).write(tmp_path / "other")
    evaluations = open_evaluations([run_copy.directory, tmp_path / "other"])
    table = compare_evaluations(evaluations)
    assert table["figure"].tolist() == ["mean_one", "mean_two"] and table[["training", "pca"]].notna().all(axis=None)
    assert table[str(tmp_path / "other")].notna().tolist() == [True, False]
    assert "another number of people" in describe_other_settings(evaluations)
    (tmp_path / "other" / "evaluation.json").write_text("{}")
    with pytest.raises(RunError, match="cannot be read"):
        open_evaluations([tmp_path / "other"])
    with pytest.raises(RunError, match="no evaluation by heldout people"):
        open_evaluations([run_copy.directory], "heldout")


def test_heads_are_moved_as_is_said():
    volume = np.zeros((9, 9, 9), np.float32)
    volume[4, 4, 4] = 1.0
    assert np.argwhere(moved(volume, (2.0,) * 3, (4.0, 0.0, -2.0)) == 1).tolist() == [[6, 4, 3]]
    volume[4, 4, 4], volume[4, 8, 4] = 0.0, 1.0
    nodded = moved(volume, (1.0,) * 3, nod=90.0)
    assert np.argwhere(nodded > 0.9).tolist() == [[4, 4, 8]]
    assert blurred(volume[None], (1.0,) * 3, 3.0).max() < 1


def test_of_everything_there_is_a_name():
    assert SAMPLES in CONTENDERS and all(part.words.endswith(("?", ".")) for part in PARTS.values())

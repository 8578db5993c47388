"""Repeatability on travelling synthetic heads: truth repeats, pose moves principal components, size finds nobody."""

import dataclasses
import functools
import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from synthetic_heads import make_material, synthetic_people

from mrigen.data.dataset import open_cohort
from mrigen.data.phantom import PhantomSettings, draw_scans, write_phantom_cohort
from mrigen.data.phantom_anatomy import load_template
from mrigen.data.phantom_factors import ANATOMY, stream
from mrigen.data.phantom_scanner import scan_subject
from mrigen.errors import MrigenWarning
from mrigen.evaluation import representations
from mrigen.evaluation.agreement import agreement
from mrigen.evaluation.contenders import quantised
from mrigen.evaluation.heads import Heads
from mrigen.evaluation.repeatability import FIGURES, OF_MOVED, OF_RESCANS, judge, persons_of_heads
from mrigen.evaluation.representations import GROUPS
from mrigen.evaluation.rescans import gather_rescans
from mrigen.recipe import Recipe

PEOPLE = 16
TRUTH = ("brain_volume_true_ml", "head_width", "head_height", "sex_shape", "ventricle_expansion", "cortical_thinning")


@functools.cache
def travelling_heads() -> Heads:
    settings = PhantomSettings(num_subjects=PEOPLE, seed=3, zooms=8.0, num_scanners=2)
    template, scans = load_template(8.0), draw_scans(settings)
    volumes, brains = [], []
    for row, factors in enumerate(scans.to_dict("records")):
        volume, mask, _, _ = scan_subject(template, settings, row // 2, factors, row % 2)
        volumes.append(quantised(volume / np.percentile(volume[mask > 0], 99.5)))
        brains.append(mask > 0)
    people = scans.assign(person=scans["participant_id"], session=scans["session_id"], split="validation")
    return Heads(np.stack(volumes).astype(np.float32), people, np.stack(brains))


def truth_of(heads: Heads) -> np.ndarray:
    """The planted coefficients, and some of the random deformation's."""
    seed = PhantomSettings(seed=3)
    own = [stream(seed, ANATOMY, int(name[-4:]) - 1).standard_normal(6) for name in heads.people["participant_id"]]
    known = heads.people[list(TRUTH)].to_numpy(float)
    return np.concatenate([(known - known.mean(axis=0)) / known.std(axis=0), own], axis=1)


@dataclasses.dataclass
class PlantedRun:
    """A run whose latents are what a function makes of volumes."""

    latents: object
    untrained: object

    def load_model(self):
        return self.latents

    def build_model(self):
        return self.untrained


def blocks(volumes):
    """A network that nobody trained: random sums of voxels."""
    weights = np.random.default_rng(0).standard_normal((volumes[0].size, 12)).astype(np.float32)
    return {"loc": volumes.reshape(len(volumes), -1) @ weights}


def planted(values):
    """Returns a model that knows the truth of travelling heads, and sees blocks of any others."""

    def model(volumes):
        return {"loc": values} if len(volumes) == len(values) else blocks(volumes)

    return model


@pytest.fixture(autouse=True)
def functions_are_models(monkeypatch):
    monkeypatch.setattr(representations, "encode", lambda model, volumes: model(volumes))


@functools.cache
def material():
    return dataclasses.replace(make_material(synthetic_people(12, first=500), count=12), rescans=travelling_heads())


def judged(latents, **changes):
    return judge(dataclasses.replace(material(), run=PlantedRun(latents, blocks), **changes))


@functools.cache
def truth_is_known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(representations, "encode", lambda model, volumes: model(volumes))
        return judged(planted(truth_of(travelling_heads())))


def value(result, figure, of):
    (row,) = [row for row in result.rows if (row.figure, row.of) == (figure, of)]
    return row.value


def test_truth_repeats():
    for figure in OF_RESCANS:
        assert value(truth_is_known(), figure, "samples") == pytest.approx(1.0)


def test_principal_components_move_with_pose_and_scanner():
    result = truth_is_known()
    assert value(result, "icc_median", "pca") < 0.8
    assert value(result, "icc_whole", "pca") < 0.8
    assert value(result, "icc_worst", "pca") < value(result, "icc_median", "pca")
    heads = travelling_heads()
    scores = representations.represent(material(), heads, {"samples": blocks, "untrained": blocks})["pca"]
    change = scores[1::2] - scores[::2]
    shifts = heads.people[["shift_x", "shift_y", "shift_z"]].to_numpy(float)
    apart = np.linalg.norm(shifts[1::2] - shifts[::2], axis=1)
    assert np.corrcoef(np.linalg.norm(change, axis=1), apart)[0, 1] > 0.3


def test_size_alone_agrees_and_finds_nobody():
    result = truth_is_known()
    assert value(result, "icc_whole", "volume") > 0.97
    assert value(result, "identified", "volume") < 0.75
    assert any(note.startswith("Volume alone has an intraclass correlation of 1.00") for note in result.notes)


def test_scans_given_to_others_do_not_agree():
    heads = travelling_heads()
    others = heads.people.assign(person=np.roll(heads.people["person"], 1))
    result = judged(planted(truth_of(heads)), rescans=Heads(heads.volumes, others, heads.brains))
    assert value(result, "icc_whole", "samples") < 0.4
    assert value(result, "identified", "samples") < 0.2


def test_constant_latents_have_no_figures():
    result = judged(lambda volumes: {"loc": np.ones((len(volumes), 5), np.float32)})
    rows = [row for row in result.rows if row.of == "samples"]
    assert {row.value for row in rows} == {None}
    assert {row.note for row in rows} == {"constant"}
    assert any("5 of 5 latents are constant" in note for note in result.notes)


def test_collapsed_latents_of_a_vae_are_left_out():
    heads = travelling_heads()
    noise = 0.01 * np.random.default_rng(0).standard_normal((len(heads), 20))
    loc = np.concatenate([truth_of(heads), noise], axis=1)

    def vae(volumes):
        rows = loc if len(volumes) == len(loc) else np.zeros((len(volumes), loc.shape[1]))
        return {"loc": rows, "scale": np.ones_like(rows)}

    assert value(judged(vae), "icc_worst", "samples") == pytest.approx(1.0)
    assert len(judged(vae).facts["rescans"]["groups"]["pca"]["icc"]) == truth_of(heads).shape[1]


def test_result_is_whole():
    result = truth_is_known()
    assert {row.figure for row in result.rows} == {*OF_RESCANS, *OF_MOVED}
    assert {row.figure for row in result.rows} <= set(FIGURES)
    assert {row.of for row in result.rows} == set(GROUPS)
    assert len({(row.figure, row.of) for row in result.rows}) == len(result.rows)
    for row in result.rows:
        assert row.value is None or row.low <= row.value + 1e-9 <= row.high + 2e-9 or row.figure == "icc_worst"
    json.dumps(result.facts, allow_nan=False)
    assert list(result.pictures) == ["repeatability"]
    assert result.facts["rescans"]["splits"] == {"validation": 2 * PEOPLE}


def test_result_is_the_same_again():
    assert judged(planted(truth_of(travelling_heads()))).rows == truth_is_known().rows


def test_nobody_scanned_twice_is_said_and_moved_heads_are_judged_all_the_same():
    result = judged(blocks, rescans=None)
    assert {row.note for row in result.rows if row.figure in OF_RESCANS} == {"nobody was scanned twice"}
    assert value(result, "moved_icc_whole", "samples") is not None
    assert any("`data.same_person`" in note for note in result.notes)
    assert not result.pictures
    few = judged(blocks, rescans=travelling_heads().take(np.arange(6)))
    assert {row.note for row in few.rows if row.figure in OF_RESCANS} == {"3 people were scanned twice"}


def test_without_a_run_nothing_is_judged():
    assert {row.note for row in judge(dataclasses.replace(material(), run=None)).rows} == {"no run"}


def test_moved_heads_tell_what_sees_pose_from_what_does_not():
    result = judged(lambda volumes: {"loc": volumes.sum(axis=(1, 2, 3))[:, None]})
    assert value(result, "moved_icc_whole", "samples") > 0.9
    assert value(result, "moved_icc_whole", "voxels") < 0.75
    assert value(result, "moved_icc_whole", "pca") < 0.75


def test_people_that_were_learned_from_are_told():
    heads = travelling_heads()
    splits = np.where(np.arange(len(heads)) < 8, "train", "validation")
    result = judged(blocks, rescans=Heads(heads.volumes, heads.people.assign(split=splits), heads.brains))
    assert any(note.startswith("The run learned from 4 of 16 people") for note in result.notes)


def test_scans_years_apart_are_told():
    heads = travelling_heads()
    ages = heads.people["age"] + 3.0 * (np.arange(len(heads)) == 1)
    result = judged(blocks, rescans=Heads(heads.volumes, heads.people.assign(age=ages), heads.brains))
    assert any(note.startswith("1 of 16 people were scanned more than 1 year apart") for note in result.notes)


# ---- agreement of runs


class SavedRun(SimpleNamespace):
    def load_latents(self):
        return {"scan_id": self.subjects["scan_id"].to_numpy(dtype=str), "loc": self.loc}

    def build_model(self):
        return lambda volumes: {"loc": blocks(volumes)["loc"] @ np.diag(np.arange(1, 13.0))}


def saved(loc, name, learned):
    ids = pd.concat([material().unseen.people, material().taught.people])["participant_id"].to_numpy()
    return SavedRun(
        directory=name,
        loc=loc,
        subjects=pd.DataFrame({"participant_id": ids, "scan_id": ids}),
        split=pd.DataFrame({"participant_id": ids, "split": np.where(learned, "train", "validation")}),
        grid={"volume_shape": material().unseen.volumes.shape[1:]},
    )


def agree(monkeypatch, *locs, learned=None):
    monkeypatch.setattr("mrigen.evaluation.agreement.encode", lambda model, volumes: model(volumes))
    count = len(locs[0])
    learned = learned or [np.arange(count) >= 12] * len(locs)
    runs = [saved(loc, f"run{number}", own) for number, (loc, own) in enumerate(zip(locs, learned, strict=True))]
    return agreement(dataclasses.replace(material(), run=runs[0], others=tuple(runs[1:])))


def test_runs_that_find_the_same_agree(monkeypatch):
    rng = np.random.default_rng(0)
    loc = rng.standard_normal((36, 10))
    turned = loc @ np.linalg.qr(rng.standard_normal((10, 10)))[0]
    rows, notes, pairs = agree(monkeypatch, loc, turned)
    assert not notes
    assert {row.of: row.n for row in rows} == {"samples": 12, "pca": 12, "untrained": 12}
    assert rows[0].value == pytest.approx(1.0)
    assert pairs["samples"] == {"run1": pytest.approx(1.0)}
    assert rows[1].value == pytest.approx(1.0)
    assert rows[2].note == "one seed: the same network"


def test_runs_that_find_nothing_alike_do_not_agree(monkeypatch):
    rng = np.random.default_rng(0)
    rows, _, pairs = agree(monkeypatch, *(rng.standard_normal((36, 10)) for _ in range(3)))
    assert abs(rows[0].value) < 0.35
    assert rows[0].low < 0 < rows[0].high
    assert rows[0].note == "mean of 2 runs"
    assert set(pairs["samples"]) == {"run1", "run2"}
    json.dumps(pairs)


def test_runs_that_together_learned_from_everybody_are_compared_on_all(monkeypatch):
    loc = np.random.default_rng(0).standard_normal((36, 10))
    learned = [np.arange(36) >= 12, np.arange(36) < 24]
    rows, notes, _ = agree(monkeypatch, loc, loc, learned=learned)
    assert rows[0].n == 36
    assert notes[0].startswith("CKA is of all 36 people")
    assert rows[1].value < 1.0


# ---- which scans


@pytest.fixture(scope="module")
def recipe():
    data = {"source": "phantom", "num_subjects": 12, "phantom": {"zooms": 8.0, "num_scanners": 2}}
    preprocess = {"zooms": [16.0] * 3, "volume_shape": [12, 14, 12]}
    return Recipe.model_validate({"data": data, "preprocess": preprocess})


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRIGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run_of(recipe, ids, *sizes):
    splits = np.repeat(["train", "validation", "heldout"], sizes)
    return SimpleNamespace(recipe=recipe, split=pd.DataFrame({"participant_id": ids, "split": splits}))


def ids_of(count):
    return [f"sub-phantom{number + 1:04d}" for number in range(count)]


def test_rescans_are_all_scans_of_people_never_seen(recipe, cache):
    heads = gather_rescans(run_of(recipe, ids_of(12), 4, 6, 2), fewest=5)
    assert heads.people["split"].unique().tolist() == ["validation"]
    assert heads.people["scan_id"].tolist()[:2] == ["sub-phantom0005_ses-1", "sub-phantom0005_ses-2"]
    assert heads.people["session"].tolist()[:2] == ["ses-1", "ses-2"]
    assert heads.volumes.shape == (12, 12, 14, 12)
    assert persons_of_heads(heads).tolist() == np.repeat(ids_of(12)[4:10], 2).tolist()
    assert heads.people["brain_volume_ml"].notna().all()
    truth = heads.people.groupby("person")["brain_volume_ml"]
    assert (truth.max() / truth.min() < 1.05).all()
    assert heads.people["site"].nunique() == 2


def test_rescans_are_of_everyone_but_the_held_out_where_too_few_are_unseen(recipe, cache):
    heads = gather_rescans(run_of(recipe, ids_of(12), 4, 6, 2))
    assert heads.people["split"].value_counts().to_dict() == {"validation": 12, "train": 8}
    heads = gather_rescans(run_of(recipe, ids_of(12), 4, 6, 2), against="heldout", fewest=2)
    assert heads.people["split"].value_counts().to_dict() == {"heldout": 4}
    assert len(gather_rescans(run_of(recipe, ids_of(12), 2, 10, 0), most=4)) == 8


def test_rescans_of_a_run_of_all_visits_come_from_its_cache(recipe, cache):
    from mrigen.data.dataset import open_dataset

    every = recipe.model_copy(update={"data": recipe.data.model_copy(update={"visits": "all"})})
    run = run_of(every, ids_of(12), 2, 10, 0)
    heads = gather_rescans(run, dataset=open_dataset(every, run.split))
    again = gather_rescans(run)
    np.testing.assert_array_equal(heads.volumes, again.volumes)
    assert heads.people.equals(again.people)


def test_nobody_is_scanned_twice_by_one_scanner(recipe, cache):
    phantom = recipe.data.phantom.model_copy(update={"num_scanners": 1})
    once = recipe.model_copy(update={"data": recipe.data.model_copy(update={"phantom": phantom})})
    assert gather_rescans(run_of(once, ids_of(12), 4, 6, 2)) is None


def test_rescans_under_other_ids_are_pairs_and_broken_scans_are_left_out(recipe, cache, tmp_path):
    root = write_phantom_cohort(tmp_path / "s", PhantomSettings(num_subjects=5, zooms=8.0, num_scanners=2))
    rows = ["path\tparticipant_id\tvolunteer"]
    for number, name in enumerate(ids_of(5)):
        for session in (1, 2):
            path = root / name / f"ses-{session}" / "anat" / f"{name}_ses-{session}_T1w.nii.gz"
            rows.append(f"{path}\t{name[-1]}{'ab'[session - 1]}\tv{number}")
    path.write_bytes(b"broken")
    (tmp_path / "list.tsv").write_text("\n".join(rows) + "\n")
    data = recipe.data.model_copy(
        update={"source": "files", "root": str(tmp_path / "list.tsv"), "same_person": "volunteer"}
    )
    study = recipe.model_copy(update={"data": data})
    ids = open_cohort(data).table["participant_id"].tolist()
    with pytest.warns(MrigenWarning, match="Rescans: 1 scan left out: .*_T1w.nii.gz"):
        heads = gather_rescans(run_of(study, ids, 0, 10, 0))
    assert heads.people["participant_id"].tolist() == ["1a", "1b", "2a", "2b", "3a", "3b", "4a", "4b"]
    assert persons_of_heads(heads).tolist() == np.repeat(["1a", "2a", "3a", "4a"], 2).tolist()
    assert heads.families.tolist() == persons_of_heads(heads).tolist()

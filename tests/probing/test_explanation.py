"""What the latents know, on the whole image."""

import dataclasses

import nibabel
import numpy as np
import pandas as pd
import pytest

from mrigen.data.pipeline import read_volumes
from mrigen.errors import UsageError
from mrigen.probing import Explanation, explain
from mrigen.probing.direction import fit_direction
from mrigen.probing.explained_people import explained_people, reason_to_withhold
from mrigen.probing.explaining import maps_of_people
from mrigen.probing.explanation import Figure95
from mrigen.probing.saliency import draw_pairs, saliency
from mrigen.runs import Run
from mrigen.runs.encoding import decode_latents
from mrigen.system.files import read_json


def people(effect, num_people=400, seed=0):
    generator = np.random.default_rng(seed)
    targets = np.arange(num_people) % 2
    latents = generator.normal(size=(num_people, 4))
    latents[:, 1] += latents[:, 0]  # Latents that go together, as real ones do.
    latents[:, 0] += effect * (targets - 0.5)
    return latents, targets, np.arange(num_people).astype(str)


def test_the_direction_is_what_people_differ_in_and_not_the_weights():
    latents, targets, groups = people(3.0)
    direction = fit_direction(latents, targets, groups)
    # The probe subtracts latent 1, which only adds noise; no person changes like that.
    assert direction.weights[1] < -0.2 * direction.weights[0]
    ends = direction.at(direction.ends)
    means = np.stack([latents[targets == label].mean(axis=0) for label in (0, 1)])
    np.testing.assert_allclose(ends, means, atol=0.3)
    np.testing.assert_allclose(direction.scores(ends), direction.ends, atol=1e-9)


def test_a_probe_that_found_nothing_leads_hardly_anywhere():
    direction = fit_direction(*people(0.0))
    assert np.abs(np.diff(direction.at(direction.ends), axis=0)).max() < 0.5


def test_a_direction_is_free_of_confounds_wherever_it_is_fitted():
    latents, targets, groups = people(0.0)
    size = np.random.default_rng(1).normal(size=(len(latents), 1)) + targets[:, None]
    latents = latents + 5.0 + size * [2.0, 0.0, -1.0, 0.0]
    plain, free = (fit_direction(latents, targets, groups, 1.0, confounds) for confounds in (None, size))
    steps = [np.linalg.norm(np.diff(one.at(one.ends), axis=0)) for one in (plain, free)]
    assert steps[0] > 1.8 and steps[1] < 0.3
    # The walk leads through the people's mean, and their scores are those that the ends are means of.
    np.testing.assert_allclose(free.at([0.0])[0], latents.mean(axis=0), atol=1e-9)
    scores = free.scores(latents, size)
    np.testing.assert_allclose([scores[targets == label].mean() for label in (0, 1)], free.ends, atol=1e-9)
    one = free.scores(latents[:1] + free.confound_slopes, size[:1] + 1.0)
    np.testing.assert_allclose(one, scores[:1], atol=1e-9)


def test_files_of_a_run(finished_run, tmp_path):
    name = finished_run.subjects["participant_id"].iloc[0]
    explanation = explain(finished_run, participants=[name], num_steps=3, num_permutations=30, withhold=False)
    assert not (finished_run.directory / "explanation").exists()
    paths = explanation.write(tmp_path)
    stems = [
        *("sequence", "difference", "difference_z", "difference_strength", "difference_mask", "saliency"),
        f"{name}_counterfactual",
    ]
    assert {path.name for path in paths} == {
        *(f"{stem}.nii.gz" for stem in stems),
        *(f"{stem}.json" for stem in stems),
        *(f"{stem}.png" for stem in ("sequence", "difference", "saliency", f"{name}_counterfactual")),
        "explanation.json",
    }
    assert all(path.is_file() for path in paths)
    image, difference = (nibabel.load(tmp_path / f"{stem}.nii.gz") for stem in ("sequence", "difference"))
    np.testing.assert_array_equal(explanation.maps["difference"].get_fdata(), difference.get_fdata())
    np.testing.assert_array_equal(explanation.sequence.affine, image.affine)
    assert image.shape == (24, 28, 24, 3)
    np.testing.assert_allclose(difference.affine, finished_run.affine)
    heads = image.get_fdata()
    np.testing.assert_allclose(difference.get_fdata(), heads[..., 2] - heads[..., 0], atol=1e-5)
    assert np.abs(difference.get_fdata()).max() > 0
    pair = nibabel.load(tmp_path / f"{name}_counterfactual.nii.gz").get_fdata()
    loc = finished_run.load_latents()["loc"][:1]
    own = np.clip(decode_latents(finished_run.load_model(), loc), 0, 1)[0]
    np.testing.assert_allclose(pair[..., 0], own, atol=1e-5)
    facts = read_json(tmp_path / "explanation.json")
    assert facts["heldout_roc_auc"] == explanation.heldout_roc_auc
    assert facts["num_people"] + facts["num_heldout"] == len(finished_run.split)
    assert facts["direction"] == "women to men" and facts["withheld"] is None
    with pytest.raises(UsageError, match="is there already"):
        explanation.write(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        Explanation.check_target(finished_run, tmp_path)
    Explanation.check_target(finished_run, tmp_path, force=True)
    assert set(explanation.write(tmp_path, force=True)) == set(paths)
    with pytest.raises(UsageError, match="got 'growth', expected one of sequence, difference, saliency, sub-"):
        explanation.plot("growth")


def test_files_say_threshold_mask_units_and_direction(morph_run, tmp_path):
    explanation = explain(morph_run, confounds=["head_size", "site"], num_steps=2, num_permutations=30, withhold=False)
    assert {path.name for path in explanation.write(tmp_path)} >= {
        "growth.png",
        "growth_z.nii.gz",
        "growth_mask.nii.gz",
    }
    growth, strength, mask = (
        nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("growth", "growth_strength", "growth_mask")
    )
    values = growth.get_fdata()
    assert values.shape == (24, 28, 24) and np.isfinite(values).all() and np.abs(values).max() > 0
    facts = read_json(tmp_path / "growth.json")
    assert facts["Direction"] == "women to men" and facts["Positive"] == "more in men"
    assert facts["Units"] == "log of a ratio of volumes" and facts["Mask"] == "growth_mask.nii.gz"
    assert facts["ConfoundsTakenOut"] == ["head_size", "site"] and facts["NumPermutations"] == 30
    assert facts["Threshold"] == explanation.tests["growth"].threshold
    assert facts["ResolutionMm"] == [32.0, 32.0, 32.0] and facts["WindowMm"] == 20.0
    assert "ResolutionMm" not in read_json(tmp_path / "difference.json")
    np.testing.assert_array_equal(mask.get_fdata(), strength.get_fdata() > np.float32(facts["Threshold"]))
    assert mask.get_data_dtype() == np.uint8
    assert "women to men" in growth.header["descrip"].item().decode()
    assert growth.header.get_intent()[2] == "growth"
    assert strength.header["cal_min"] == pytest.approx(facts["Threshold"])


def test_graphs_are_made_once_for_all_explanations(morph_run):
    """A graph for every explanation stays in memory, and takes longer to make than to use."""
    people, model = explained_people(morph_run, ()), morph_run.load_model()
    volumes = read_volumes(morph_run.open_dataset().cache, np.arange(4))[..., None]
    for targets in (people.targets, people.targets[::-1]):
        others = dataclasses.replace(people, targets=targets)
        direction = others.direction()
        tests = maps_of_people(morph_run, model, others, direction, num_permutations=30)
        saliency(model, direction.weights, volumes[:2], volumes[2:])
    assert set(tests) == {"difference", "growth"}
    assert all(graph.experimental_get_tracing_count() == 1 for graph in model._graphs.values())


def test_maps_are_withheld_where_the_probe_does_not_beat_chance(run_copy, tmp_path):
    """Every other person along what latents differ in most is called a woman."""
    latents = run_copy.load_latents()
    values = latents["loc"] - latents["loc"].mean(axis=0)
    order = np.argsort(values @ np.linalg.svd(values, full_matrices=False)[2][0])
    sex = pd.Series(np.resize(["F", "M", "M", "F"], len(order)), index=latents["scan_id"][order])
    table = run_copy.subjects.assign(sex=sex[run_copy.subjects["scan_id"]].to_numpy())
    table.to_csv(run_copy.directory / "subjects.tsv", sep="\t", index=False, na_rep="n/a")
    explanation = explain(Run(run_copy.directory), num_permutations=30)
    assert "does not beat chance" in explanation.withheld and "withheld" in repr(explanation)
    assert not explanation.maps and explanation.sequence is None
    assert [path.name for path in explanation.write(tmp_path)] == ["explanation.json"]
    assert read_json(tmp_path / "explanation.json")["withheld"] == explanation.withheld
    with pytest.raises(UsageError, match="withhold: got an explanation that is withheld: the ROC AUC of the probe"):
        explanation.plot()


def test_the_reason_names_the_figure_that_decides(finished_run, told_run):
    good, bad = Figure95(0.8, 0.7, 0.9, 60, "transductive"), Figure95(0.6, 0.4, 0.8, 12, "heldout")
    figures = {"transductive": good, "heldout": bad}
    assert reason_to_withhold(finished_run, figures) is None
    # A model that was told the sex of training people may have it in their latents for that alone.
    assert "0.600 [0.400, 0.800] (12 people, heldout), does not beat chance" in reason_to_withhold(told_run, figures)
    assert "nobody of both sexes was held out" in reason_to_withhold(told_run, {"transductive": good})
    assert reason_to_withhold(told_run, {"heldout": good}) is None


def test_the_figures_are_those_of_the_probe(finished_run):
    from mrigen.probing import probe

    explanation = explain(finished_run, num_permutations=30)
    rows = {row["protocol"]: row for row in probe(finished_run).rows() if row["predictor"] == "latents"}
    for protocol, figure in explanation.figures.items():
        assert figure.roc_auc == pytest.approx(rows[protocol]["roc_auc"])
        assert [figure.low, figure.high] == pytest.approx(rows[protocol]["roc_auc_ci"])


def test_saliency_of_a_refined_run_is_of_refined_latents(fit_once):
    """Sums of short fits are far from what the score gains: what refinement makes by jumps has no gradient."""
    grid = ("data.num_subjects=48", "preprocess.zooms=16", "preprocess.volume_shape=[12, 14, 12]")
    model = ("model.kind=morph", "model.refinement_steps=4", "model.field_channels=8", "model.field_spacing=2")
    run = fit_once("refined_morph", *grid, *model, "training.epochs=40", "training.learning_rate=3e-3")
    latents, model = run.load_latents()["loc"], run.load_model()
    volumes = read_volumes(run.open_dataset().cache, np.arange(32))[..., None]
    guess = model.posterior(volumes, refined=False)["loc"].numpy()
    refined = latents[:32]
    weights = refined[16:].mean(axis=0) - refined[:16].mean(axis=0)
    weights /= np.std(refined @ weights)
    found, gained = saliency(model, weights, volumes[:16], volumes[16:])
    assert gained == pytest.approx(np.mean((refined[16:] - refined[:16]) @ weights), abs=0.1)
    assert np.isfinite(found).all() and found.any()
    # Of what the encoder says first the score is another.
    assert np.std((refined - guess) @ weights) > 0.1


def test_pairs_are_of_a_woman_and_a_man_each_once(monkeypatch):
    targets = np.array([0, 1, 1, 0, 1, 0, 1])
    women, men = draw_pairs(targets, 0)
    assert len(women) == len(men) == 3 and set(women) == {0, 3, 5} and set(men) < {1, 2, 4, 6}
    monkeypatch.setattr("mrigen.probing.saliency.MOST_PAIRS", 2)
    assert len(draw_pairs(targets, 0)[0]) == 2


def test_faults_come_together(finished_run):
    with pytest.raises(UsageError) as error:
        explain(finished_run, confounds=["weight"], participants=["sub-nobody"], num_steps=1, num_permutations=0)
    assert len(error.value.faults) == 4
    assert "confounds: got 'weight', expected age, head_size, site" in str(error.value)
    assert {fault.parameter for fault in error.value.faults} == {
        *("confounds", "participants", "num_steps", "num_permutations")
    }

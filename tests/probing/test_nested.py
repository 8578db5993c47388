"""The nested protocol: an encoder a fold, which saw nobody who is tested in it; kept, and gone on with."""

import json
import shutil

import numpy as np
import pytest

from mrigen.errors import Interrupted, UsageError
from mrigen.probing import nested, predictors
from mrigen.probing.gathering import gather_inputs
from mrigen.probing.nested import probe_nested, split_of_fold
from mrigen.runs import Run
from mrigen.system.stopping import StopNow, StopRequest


@pytest.fixture
def quick_fit(monkeypatch, finished_run):
    """Fits that copy a finished run, with another split and other latents; returns the names of those asked for. The
    second is broken off."""
    asked = []

    def fit(recipe, directory, name, stop=None):
        asked.append(directory.name)
        if len(asked) == 2:
            raise KeyboardInterrupt
        run = Run(shutil.copytree(finished_run.directory, directory))
        shutil.copy(recipe.data.split.file, directory / "split.tsv")
        latents = run.load_latents()
        generator = np.random.default_rng(len(asked))
        run.save_latents({**latents, "loc": generator.normal(size=latents["loc"].shape).astype(np.float32)})
        return run

    monkeypatch.setattr(nested, "fit", fit)
    monkeypatch.setattr(predictors, "LOGISTIC_C", (1e-2, 1.0))
    monkeypatch.setattr(predictors, "SVM_C", (0.1, 10.0))
    monkeypatch.setattr(predictors, "RBF_GAMMA_MULTIPLES", (1.0,))
    monkeypatch.setattr(predictors, "NUM_INNER_FOLDS", 2)
    return asked


def test_every_fold_has_an_encoder_of_its_own_that_is_kept(run_copy, quick_fit):
    with pytest.raises(KeyboardInterrupt):
        probe_nested(run_copy, 5)
    first = run_copy.directory / "nested" / "fold-1"
    before = (first / "latents.npz").stat().st_mtime_ns
    result = probe_nested(run_copy, 5)
    result.write()
    assert quick_fit == ["fold-1", "fold-2", "fold-2", "fold-3", "fold-4", "fold-5"]
    assert (first / "latents.npz").stat().st_mtime_ns == before
    content = json.loads((run_copy.directory / "probe.json").read_text())
    rows = {row["predictor"]: row for row in content["rows"] if row["protocol"] == "nested"}
    assert {"latents", "latents_draw", "dummy", "head_volume", "pca", "voxel_svm_linear"} <= set(rows)
    assert {row["num_subjects"] for row in rows.values()} == {24}
    for number in range(1, 6):
        encoder = Run(first.with_name(f"fold-{number}"))
        heldout = set(encoder.split.query("split == 'heldout'")["participant_id"])
        assert heldout == set(result.nested_folds.query("fold == @number - 1")["participant_id"])
        assert (encoder.split["split"] == "validation").any()
    # The folds, and whatever knows no encoder, are those of the first repeat of the transductive protocol.
    scores = result.scores.query("repeat == 0").set_index(["predictor", "protocol", "participant_id"])["score"]
    for name in ("head_volume", "pca", "voxel_svm_linear"):
        np.testing.assert_allclose(scores[name, "nested"].sort_index(), scores[name, "transductive"].sort_index())
    assert not np.allclose(scores["latents", "nested"].sort_index(), scores["latents", "transductive"].sort_index())

    with pytest.raises(UsageError, match=r"fold-1_split\.tsv: got other people than the folds that are asked for"):
        probe_nested(run_copy, 5, seed=1)


def test_a_fit_that_is_asked_to_stop_stops_the_protocol(run_copy):
    stop = StopRequest()
    stop.asked = True
    with pytest.raises((Interrupted, StopNow)):
        probe_nested(run_copy, 2, stop=stop)
    assert not (run_copy.directory / "probe.json").exists()


def test_relatives_of_tested_people_teach_no_encoder(finished_run):
    dataset = finished_run.open_dataset()
    table = dataset.cache.table.copy()
    table["family"] = [f"family-{row // 2}" for row in range(len(table))]
    table.loc[1, "sex"] = np.nan  # the sibling of row 0
    dataset.cache.__dict__["table"] = table
    inputs = gather_inputs(finished_run, dataset)
    tested = np.flatnonzero(inputs.groups == "family-0")
    train = np.flatnonzero(inputs.groups != "family-0")
    split = split_of_fold(dataset, inputs, train, tested, finished_run.recipe.data.split, 0).set_index("participant_id")
    of_row = split["split"].reindex(table["participant_id"]).tolist()
    assert of_row[0] == of_row[1] == "heldout"
    assert of_row.count("heldout") == 2
    assert all(of_row[row] == of_row[row + 1] for row in range(0, len(of_row), 2))

"""Rows that rest on latents of a collapsed posterior say so."""

import json

import pytest

from mrigen.probing import ProbePlan
from mrigen.probing.collapse_notes import collapse_notes
from mrigen.runs import Run

ROWS = (
    *("latents", "latents_draw", "dummy", "pca", "head_volume", "confounds", "latents_deconfounded"),
    *("latents_size_matched", "confounds_and_latents", "pca_deconfounded"),
)
OF_LATENTS = ["latents", "latents_deconfounded", "latents_size_matched", "confounds_and_latents"]


@pytest.fixture
def make_run(tmp_path):
    def make(name, active, kl_nats=1.0):
        (tmp_path / name).mkdir()
        figures = {"active_units": active, "latent_dim": 8, "kl_nats": kl_nats, "num_subjects": {"train": 50}}
        (tmp_path / name / "metrics.json").write_text(json.dumps(figures))
        return Run(tmp_path / name)

    return make


def test_rows_of_latents_are_marked_and_others_are_not(make_run):
    notes = collapse_notes(make_run("nothing", 0), ROWS, ProbePlan())
    assert list(notes) == OF_LATENTS
    assert "0 of 8 latent variables are active" in notes["latents"]
    assert collapse_notes(make_run("something", 8), ROWS, ProbePlan()) == {}
    assert collapse_notes(make_run("autoencoder", 0, kl_nats=None), ROWS, ProbePlan()) == {}


def test_another_run_is_marked_by_its_own_collapse(make_run):
    good, other = make_run("good", 8), make_run("other", 0)
    rows = (*ROWS, "latents_of_other")
    assert list(collapse_notes(good, rows, ProbePlan(against=str(other.directory)))) == ["latents_of_other"]
    rows = (*ROWS, "latents_of_good")
    assert list(collapse_notes(other, rows, ProbePlan(against=str(good.directory)))) == OF_LATENTS


def test_encoders_of_folds_are_counted(make_run):
    folds = [make_run(f"fold-{number}", active) for number, active in enumerate((0, 8, 8, 0, 8))]
    notes = collapse_notes(make_run("run", 8), ROWS, ProbePlan(), folds)
    assert notes["latents"] == "the encoders of 2 of 5 nested folds collapsed"

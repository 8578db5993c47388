"""Two runs of the same people, in the same folds."""

import shutil

import numpy as np
import pytest

from mrigen.errors import UsageError
from mrigen.probing import probe
from mrigen.runs import Run
from mrigen.runs.manifest import write_manifest

pytestmark = pytest.mark.usefixtures("small_grids")


@pytest.fixture
def other(run_copy, tmp_path):
    """A run whose latents are those of `run_copy`, doubled: no row that standardises them may tell the two apart."""
    run = Run(shutil.copytree(run_copy.directory, tmp_path / "other"))
    latents = run.load_latents()
    run.save_latents({**latents, "loc": 2.0 * latents["loc"]})
    return run


def test_another_run_has_a_row_in_the_same_folds_and_a_paired_comparison(run_copy, other):
    result = probe(run_copy, against=other.directory, learning_curve=True)
    rows = {row["predictor"]: row for row in result.rows() if row["protocol"] == "transductive"}
    assert rows["latents_of_other"]["roc_auc"] == pytest.approx(rows["latents"]["roc_auc"], abs=1e-6)
    compared = [row for row in result.comparisons() if row["baseline"] == "latents_of_other"]
    assert compared
    np.testing.assert_allclose([row["ci"] for row in compared if row["difference"] is not None], 0.0, atol=1e-6)
    assert {row["predictor"] for row in result.learning_curve.rows} == {"latents", "head_volume", "voxel_svm_linear"}
    assert run_copy.directory / "probe_learning_curve.png" in result.write()


def test_a_run_of_others_or_of_another_split_is_refused(run_copy, other):
    with pytest.raises(UsageError, match="got the run itself"):
        probe(run_copy, against=run_copy.directory)
    latents = other.load_latents()
    other.save_latents({name: values[1:] for name, values in latents.items()})
    table = (other.directory / "split.tsv").read_text().splitlines()
    name, split = table[-1].split("\t")
    table[-1] = f"{name}\t{'train' if split == 'heldout' else 'heldout'}"
    (other.directory / "split.tsv").write_text("\n".join(table) + "\n")
    write_manifest(other.directory)
    with pytest.raises(UsageError) as caught:
        probe(run_copy, against=other.directory)
    assert f"got no latents of {run_copy.subjects['participant_id'].iloc[0]}" in str(caught.value)
    assert f"got another split of {name}" in str(caught.value)

"""Runs that earlier versions made load, sample, encode and probe to the numbers that they had there."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(path.name for path in GOLDEN.iterdir() if (path / "expected.json").is_file())
RUNS = [
    (version, name) for version in VERSIONS for name in json.loads((GOLDEN / version / "expected.json").read_text())
]
# As parts of the spread of what is compared: other processors round otherwise, and that is carried through a network.
SHARE, SHARE_OF_SCORES = 2e-3, 2e-2


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """The golden runs, where they may be written to."""
    return Path(shutil.copytree(GOLDEN, tmp_path_factory.mktemp("golden") / "golden"))


def test_there_is_a_golden_run_of_every_kind():
    from mrigen.models.family import BUILT_IN

    kinds = {
        json.loads((GOLDEN / version / name / "run.json").read_text())["settings"]["model"]["kind"]
        for version, name in RUNS
    }
    assert kinds == {family.kind for family in BUILT_IN}
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*")) < 2**20 * len(VERSIONS)


@pytest.mark.parametrize(("version", "name"), RUNS)
@pytest.mark.filterwarnings("ignore::mrigen.errors.MrigenWarning")
def test_a_golden_run_is_what_it_was(copies, monkeypatch, version, name):
    from golden_numbers import numbers_of

    monkeypatch.chdir(copies / version)
    figures, arrays = numbers_of(name)
    expected = json.loads(Path("expected.json").read_text())[name]
    np.testing.assert_allclose(figures["sample_affine"], expected["sample_affine"], atol=1e-6)
    assert figures["density"] == expected["density"]
    assert figures["heldout_mse"] == expected["heldout_mse"]
    for row, value in expected["roc_auc"].items():  # A pair of people may change places.
        assert figures["roc_auc"][row] == pytest.approx(value, abs=0.06), row
    with np.load("expected.npz") as content:
        kept = {key.partition("/")[2]: content[key] for key in content.files if key.startswith(f"{name}/")}
    assert set(arrays) == set(kept)
    for key, values in kept.items():
        share, spread = (SHARE_OF_SCORES if key == "probe_scores" else SHARE), float(np.std(values))
        if key == "sample_means":  # Which differ little.
            spread = float(np.std(kept["samples"]))
        np.testing.assert_allclose(arrays[key], values, atol=share * max(spread, 0.01), rtol=0, err_msg=key)

"""Samples are checked in memory as they are from their files."""

import pandas as pd
import pytest

from mrigen.generation.sampling import sample
from mrigen.probing import check_samples


@pytest.mark.parametrize("native_units", [False, True])
def test_samples_in_memory_are_checked_as_their_files_are(told_run, tmp_path, native_units):
    samples = sample(told_run, 4, given={"sex": "F"}, native_units=native_units)
    found = check_samples(told_run, samples)
    again = check_samples(told_run, samples.write(tmp_path), native_units=native_units)
    pd.testing.assert_frame_equal(found.to_frame(), again.to_frame())
    assert found.to_frame()["name"].tolist() == ["sex", "age", "head_size"]
    assert found.directory == told_run.directory / "samples" and again.directory == tmp_path
    assert not (tmp_path / "check.json").exists()

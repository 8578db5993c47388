import numpy as np
import pandas as pd
import pytest

from mrigen.errors import CohortError, UsageError
from mrigen.probing.registrations import registration_log_det

PEOPLE = pd.DataFrame({"participant_id": ["sub-1", "sub-2"]})
FSL = "1.1 0 0 4\n0 1 0 -3\n0 0 2 7\n0 0 0 1\n"
ITK = "#Insight Transform File V1.0\nParameters: 0 2 0 1 0 0 0 0 0.5 9 9 9\nFixedParameters: 0 0 0\n"


def test_the_determinant_of_an_affine_is_how_much_it_enlarges(tmp_path):
    (tmp_path / "sub-1.mat").write_text(FSL)
    (tmp_path / "sub-2.mat").write_text(ITK)
    values = registration_log_det(PEOPLE, str(tmp_path / "{participant_id}.mat"))
    np.testing.assert_allclose(values, [np.log(2.2), 0.0], atol=1e-12)


def test_missing_and_broken_matrices_are_named_together(tmp_path):
    (tmp_path / "sub-1.mat").write_text("1 0 0\n0 1 0\n0 0 1\n")
    with pytest.raises(CohortError) as caught:
        registration_log_det(PEOPLE, str(tmp_path / "{participant_id}.mat"))
    assert "9 numbers in 3 rows, expected an affine" in str(caught.value)
    assert "sub-2.mat: no such file" in str(caught.value)


@pytest.mark.parametrize("pattern", ["all.mat", "{participant_id}{age}.mat"])
def test_a_pattern_that_names_nobody_or_another_is_refused(pattern):
    with pytest.raises(UsageError, match=r"registration: got .*, expected"):
        registration_log_det(PEOPLE, pattern)

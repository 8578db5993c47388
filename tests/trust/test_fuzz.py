"""Whatever is drawn ends well or in lines of ours: a few values here, ten minutes a target with --long."""

import pytest
from hypothesis import example, given, settings

from tests.trust import targets
from tests.trust.fuzzing import FEW, HEALTH, fuzz
from tests.trust.targets import TARGETS


@pytest.mark.parametrize("name", list(TARGETS))
def test_whatever_is_drawn_ends_well_or_in_lines_of_ours(name, finished_run, autoencoder_run, request, monkeypatch):
    monkeypatch.setattr(targets, "RUNS", (finished_run.directory, autoencoder_run.directory))
    target = TARGETS[name]
    if request.config.getoption("--long"):
        met, wrong = fuzz(target, minutes=10.0)
        assert not wrong, f"{len(wrong)} kinds of {met}:\n" + "\n".join(wrong)
        return
    run = given(target.values)(target.meet)
    for value in target.examples:
        run = example(value)(run)
    settings(max_examples=FEW, derandomize=True, database=None, deadline=None, suppress_health_check=HEALTH)(run)()

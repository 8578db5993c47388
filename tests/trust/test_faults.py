"""Faults of machines end in lines that docs/errors.md holds, and lose nothing that was there."""

import pytest

from tests.trust.breaking import Scene
from tests.trust.faults import FAULTS, Fault
from tests.trust.registry import plain
from tests.trust.scene import NOT_FORESEEN


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_fault_ends_as_the_page_says(fault: Fault, folder, finished_run, monkeypatch, page):
    ended = fault.act(Scene(folder, finished_run.directory, monkeypatch))
    assert ended.status == fault.status, ended.err
    assert NOT_FORESEEN not in ended.err and "Traceback" not in ended.err, ended.err
    page.holds(fault.what, fault.done, fault.status, [plain(line, folder, fault.hidden) for line in ended.faults])


def test_faults_are_many_and_different():
    names = [fault.what for fault in FAULTS]
    assert len(names) >= 20 and len(set(names)) == len(names)

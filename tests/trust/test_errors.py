"""Every kind of bad input ends in lines that docs/errors.md holds, with its exit status and nothing changed."""

import shutil

import pytest

from tests.trust.page import FAULTS, GROUPS, PATH, Page
from tests.trust.registry import Case, plain
from tests.trust.scene import call, check, snapshot

CASES = [case for cases in GROUPS.values() for case in cases]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input_ends_as_the_page_says(case: Case, folder, request, page):
    if case.run:
        shutil.copytree(request.getfixturevalue("finished_run").directory, folder / "run")
    case.build(folder)
    before = snapshot(folder)
    ended = call(*case.arguments, tensorflow=case.tensorflow)
    assert ended.status == case.status, ended.err
    check(ended, folder, before)
    assert snapshot(folder) == before
    lines = [plain(line, folder, case.hidden) for line in ended.faults]
    page.holds(case.what, f"`{case.call}`", case.status, lines)


def test_the_page_holds_all_and_only_what_there_is(page):
    if page.writes:
        pytest.skip("it is written in the end")
    assert PATH.read_text(encoding="utf-8") == Page().render()


def test_kinds_are_many_and_different():
    names = [case.what for case in CASES]
    assert len(names) >= 80 and len(set(names)) == len(names)
    assert FAULTS not in GROUPS

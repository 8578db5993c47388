"""The names of `mrigen`: all there, and light."""

import subprocess
import sys

import pytest

import mrigen


def in_a_process_of_its_own(code: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **options)


@pytest.mark.parametrize("name", mrigen.__all__)
def test_every_public_name_is_there(name):
    assert getattr(mrigen, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'smaple'"):
        _ = mrigen.smaple


def test_importing_mrigen_is_light_and_quick():
    code = """
import sys, time
began = time.process_time()
import mrigen
seconds = time.process_time() - began
heavy = {"numpy", "pandas", "tensorflow", "keras", "matplotlib", "pydantic"} & set(sys.modules)
print(seconds, *heavy)
assert not heavy and seconds < 0.05, (seconds, heavy)
"""
    done = in_a_process_of_its_own(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "names",
    ["Run, open_run, fit, resume, plan_fit, MrigenEncoder", "ProbePlan, compare, list_runs, load_recipe, sweep"],
)
def test_what_needs_no_tensorflow_loads_without_it(names):
    done = in_a_process_of_its_own(f"import sys\nfrom mrigen import {names}\nassert 'tensorflow' not in sys.modules")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("mrigen.fit('vae', '/nowhere')", "/nowhere: no such folder or table"),
        ("mrigen.fit('vae', ['/nowhere/a.nii.gz', '/nowhere/b.nii.gz'])", "there is no file"),
        ("mrigen.fit('vea', '/nowhere')", "Did you mean 'vae'"),
        ("mrigen.fit('vae', epoch=2)", "Did you mean 'epochs'"),
        ("mrigen.plan_fit('vae', '/nowhere')", "/nowhere: no such folder or table"),
    ],
)
def test_wrong_arguments_are_answered_without_tensorflow(code, message, tmp_path):
    lines = f"""
import sys, time, mrigen
try:
    {code}
except mrigen.MrigenError as error:
    print(error)
assert "tensorflow" not in sys.modules
assert time.process_time() < 2, time.process_time()
"""
    done = in_a_process_of_its_own(lines, cwd=tmp_path)
    assert done.returncode == 0 and message in done.stdout, done.stdout + done.stderr
    assert not list(tmp_path.rglob("*.*")), "a refused fit leaves nothing"


@pytest.mark.parametrize("verb", ["fit", "check"])
def test_the_commands_answer_a_wrong_path_without_tensorflow(verb, tmp_path):
    lines = f"""
import sys, time
from mrigen_cli.main import main
try:
    main(["{verb}", "vae", "--set", "data.root=/nowhere"])
except SystemExit as end:
    assert end.code == 2
assert "tensorflow" not in sys.modules
assert time.process_time() < 2, time.process_time()
"""
    done = in_a_process_of_its_own(lines, cwd=tmp_path)
    assert done.returncode == 0 and "/nowhere: no such folder or table" in done.stderr, done.stderr


def test_tensorflow_is_loaded_without_its_greeting():
    done = in_a_process_of_its_own("import mrigen, sys\nmrigen.sample\nassert 'tensorflow' in sys.modules")
    assert done.returncode == 0 and done.stderr == "" and done.stdout == "", done.stderr

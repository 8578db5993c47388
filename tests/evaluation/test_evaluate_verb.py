"""`mrigen evaluate` and `mrigen compare --evaluation`, all parts, from the command line."""

import json
import shutil

import pytest
from mrigen_cli.main import main

from mrigen.evaluation import PARTS
from mrigen.generation import sample

PICTURES = {"heads", "detail_spectra", "detail_tissue", "anatomy_regions", "copying", "reconstruction"}


@pytest.fixture
def call(capfd, monkeypatch):
    """Returns a function that runs the command line and returns (status, stdout, stderr)."""
    monkeypatch.delenv("MRIGEN_QUIET", raising=False)

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return exit_info.value.code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def people_run(fit_once):
    return fit_once(
        "many-unseen", "data.split.train=0.4", "data.split.validation=0.3", "data.split.heldout=0.3",
        "data.num_subjects=32",
    )  # fmt: skip


def test_a_session_of_all_parts(call, people_run, tmp_path):
    run = shutil.copytree(people_run.directory, tmp_path / "run")
    status, out, err = call("evaluate", "--run", run, "-n", 8)
    assert status == 0, err
    assert max(map(len, out.splitlines())) <= 100
    assert all(f"{name}: {part.words}" in " ".join(out.split()) for name, part in PARTS.items())
    assert f"{len(PARTS)}/{len(PARTS)} " in err and "\x1b" not in out
    folder = run / "evaluation" / "validation"
    content = json.loads((folder / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert set(content["parts"]) == set(PARTS)
    rows = {(row["figure"], row["of"]): row for part in content["parts"].values() for row in part["rows"]}
    assert {figure for figure, _ in rows} <= {figure for part in PARTS.values() for figure in part.figures}
    assert not [part for part in content["parts"].values() if any("Not judged" in note for note in part["notes"])]
    assert rows["copied_share", "copies"]["value"] > 0.5 > rows["copied_share", "training"]["value"]
    assert {path.stem for path in folder.glob("*.png")} >= PICTURES
    written = (folder / "evaluation.json").read_bytes()
    again = call("evaluate", "--run", run, "-n", 8)
    assert again[:2] == (0, out)
    assert f"Judged before: {', '.join(PARTS)}" in again[2] and f"1/{len(PARTS)} " not in again[2]
    assert (folder / "evaluation.json").read_bytes() == written
    status, out, _ = call("evaluate", "--run", run, "-n", 8, "--only", "usefulness", "--json")
    assert status == 0 and json.loads(out) == content
    status, _, err = call("evaluate", "--run", run, "--seed", 3)
    assert status == 2 and "evaluation with other settings (num, seed)" in err and "--force" in err

    sample(people_run, 8).write(tmp_path / "made")
    made = ("--samples", tmp_path / "made", "--real", run, "-n", 8)
    status, out, err = call("evaluate", *made, "--only", "detail,reconstruction", "-o", tmp_path / "other")
    assert status == 0 and "it asks a run, and got samples alone" in out and "1/2 detail" in err
    status, out, err = call("compare", run, tmp_path / "other", "--evaluation", "--format", "csv")
    assert status == 0 and not err
    lines = out.splitlines()
    assert lines[0].split(",")[:5] == ["part", "figure", "better", "training", "pca"]
    folding = next(line for line in lines if line.startswith("detail,folding,")).split(",")
    assert float(folding[-2]) == pytest.approx(rows["folding", "samples"]["value"], rel=0.01)
    assert call("compare", tmp_path / "nothing", "--evaluation")[0] == 2


def test_parts_are_listed_with_their_figures(call):
    status, out, _ = call("evaluate", "--parts")
    assert status == 0
    for name, part in PARTS.items():
        assert f"{name}: {part.words}" in out
        assert all(f"  {figure}: {kind.words}" in out for figure, kind in part.figures.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "RUN", "--only", "detial"], "--only: got 'detial', expected some of"),
        (["--run", "RUN", "-n", "4000"], "got 4000, expected a number from 8 to 10"),
        (["--run", "RUN", "--set", "data.num_subjects=9"], "--set changes the recipe of --real"),
        (["--samples", "EMPTY"], "got samples without real people"),
        (["--samples", "EMPTY", "--real", "RUN"], "got no NIfTI image, expected samples"),
        (["--samples", "nowhere", "--real", "RUN"], "got nowhere, which is no folder"),
        (["--real", "RUN", "--run", "RUN"], "got samples without real people, or people without samples"),
        (["--run", "nowhere"], "nowhere"),
    ],
)
def test_bad_usage_exits_with_2_and_writes_nothing(call, people_run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    names = {"RUN": str(people_run.directory), "EMPTY": str(tmp_path / "empty")}
    status, out, err = call("evaluate", *(names.get(argument, argument) for argument in arguments))
    assert (status, out) == (2, ""), err
    assert message in err and "Traceback" not in err
    assert not (people_run.directory / "evaluation").exists()

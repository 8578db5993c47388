import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mrigen_cli.main import VERBS, main

from mrigen.errors import Interrupted
from mrigen.system.stopping import StopNow


@pytest.fixture
def call(capfd, monkeypatch):
    """Returns a function that runs the command line and returns (status, stdout, stderr)."""
    monkeypatch.setenv("MRIGEN_QUIET", "")
    monkeypatch.delenv("MRIGEN_QUIET")

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return exit_info.value.code, captured.out, captured.err

    return run


def test_help_names_every_verb_and_loads_nothing_heavy():
    code = (
        "import sys; from mrigen_cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'pandas', 'pydantic', 'sklearn', 'nibabel', 'matplotlib'}\n"
        "sys.exit(len(heavy & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0
    assert all(verb in ended.stdout for verb in VERBS)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["sample", "--help"], ["runs"], ["compare"], ["recipe", "show", "vae"], ["recipe", "list"]],
    ids=" ".join,
)
def test_what_only_reads_loads_no_tensorflow(finished_run, tmp_path, arguments):
    (tmp_path / "runs").symlink_to(finished_run.directory.parent)
    code = (
        "import sys; from mrigen_cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "sys.exit(len({'tensorflow', 'keras', 'tensorflow_probability'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


def test_import_mrigen_is_light():
    code = "import sys, mrigen; sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_public_name_resolves():
    import mrigen

    assert all(getattr(mrigen, name) is not None for name in mrigen.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        mrigen.nonsense  # noqa: B018


def test_version(call):
    import mrigen

    assert call("--version") == (0, f"mrigen {mrigen.__version__}\n", "")


def test_recipe_show_prints_a_recipe_that_means_the_same(call):
    from mrigen.recipe import load_recipe, parse_recipe

    status, out, _ = call("recipe", "show", "vae", "--set", "model.latent_dim=3")
    assert status == 0
    assert parse_recipe(out) == load_recipe("vae", ["model.latent_dim=3"])


def test_recipe_list_and_schema(call):
    status, out, _ = call("recipe", "list")
    assert status == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"smoke", "autoencoder", "vae", "demo"}
    status, out, _ = call("recipe", "schema")
    assert "latent_dim" in json.dumps(json.loads(out))


def test_five_faults_give_five_lines_and_nothing_is_run(call, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(
        "model: {latent_dim: -3, kind: vea}\ntraining: {epoch: 3, batch_size: '4'}\ndata: {split: {seed: 1.5}}\n"
    )
    status, out, err = call("fit", path, "--run", tmp_path / "run")
    assert status == 2
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 5
    assert all((line.startswith(f"mrigen: {path}: ") and "expected" in line) or "unknown key" in line for line in lines)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fit"], "give a RECIPE, or --resume RUN"),
        (["fit", "vae", "--resume", "x"], "data.root: got null, expected a cohort"),
        (["fit", "--resume", "x", "--set", "a=b"], "x: no such folder, expected a run"),
        (["fit", "--resume", "x", "--run", "y"], "drop --run and --force"),
        (["fit", "vae"], "data.root: got null, expected a cohort"),
        (["fit", "nothing"], "no such file and no shipped recipe"),
        (["fit", "vae", "--set", "data.root=/nowhere"], "/nowhere"),
        (["sample", "--run", "/nowhere"], "/nowhere: no such folder"),
        (["probe", "--run", "/nowhere"], "/nowhere: no such folder"),
        (["probe", "--classifiers", "knn,tree"], "--classifiers: got tree, expected some of logistic, svm_linear"),
        (["probe", "--confounds", "age", "--target", "age"], "--confounds: got age, which is the target"),
        (["diagnose", "--run", "/nowhere"], "/nowhere: no such folder"),
        (["compare", "/nowhere"], "/nowhere: no such folder"),
        (["compare"], "runs: no complete run"),
        (["sample", "-n", "ten"], "'ten' is not a valid integer"),
        (["dance"], "No such command 'dance'"),
        (["phantom", "-n", "0", "-o", "x"], "num_subjects"),
    ],
)
def test_bad_usage_exits_with_2_and_says_why(call, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = call(*arguments)
    assert status == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_a_run_without_weights_is_told_in_one_line(call, run_copy):
    (run_copy.directory / "model.weights.h5").unlink()
    for verb in ("sample", "probe", "diagnose"):
        status, out, err = call(verb, "--run", run_copy.directory)
        assert (status, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
        assert "no model.weights.h5" in err


def test_the_session_of_the_readme(call, finished_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Path("runs") / "smoke-1"  # As `mrigen fit smoke` leaves it.
    shutil.copytree(finished_run.directory, run)
    status, out, err = call("sample", "-n", "2", "--seed", "7")
    assert status == 0
    assert f"Run: {run} (newest)" in err
    assert [Path(line).is_file() for line in out.splitlines()] == [True, True]
    status, out, _ = call("diagnose", "--iw", "8", "--quiet")
    assert status == 0
    assert out.splitlines()[-1].startswith("Verdict: ")
    assert (run / "diagnosis.png").is_file()
    status, out, _ = call("probe", "--quiet")
    assert status == 0
    rows = json.loads((run / "probe.json").read_text())["rows"]
    assert {row["predictor"] for row in rows} >= {"latents", "latents_draw", "dummy", "head_volume", "pca"}
    assert all(row["predictor"] in out and row["protocol"] in out for row in rows)
    assert max(map(len, out.splitlines())) <= 100  # A page.


def test_a_full_disk_is_told_in_one_line(call, run_copy, monkeypatch):
    import errno

    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    monkeypatch.setattr("mrigen.generation.sampling.write_table", full)
    status, _, err = call("sample", "-n", "1", "--run", run_copy.directory)
    assert status == 1
    assert "mrigen: somewhere: No space left on device. Free some space" in err


def test_what_nobody_foresaw_is_one_line_too(call, run_copy, monkeypatch):
    monkeypatch.setattr("mrigen.generation.sampling.Samples", lambda *arguments, **options: 1 / 0)
    status, out, err = call("sample", "--run", run_copy.directory)
    assert (status, out) == (1, "")
    *notes, fault = err.splitlines()  # The run collapsed, and says so.
    assert all("the posterior collapsed" in note for note in notes)
    assert fault == (
        "mrigen: ZeroDivisionError: division by zero. This was not foreseen: run again with --debug and report it."
    )


def test_a_disk_too_full_for_weights_is_told_before_hdf5_sees_it(call, finished_run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("mrigen.system.files.shutil.disk_usage", lambda path: usage._replace(free=1000))
    status, out, err = call("fit", "smoke", "--run", tmp_path / "run", "--quiet")
    assert (status, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "epoch-00001.weights.h5: No space left on device. Free some space" in err


def test_resuming_with_another_recipe_tells_each_key(call, run_copy):
    for arguments in (["smoke"], []):
        status, out, err = call(
            "fit", *arguments, "--resume", run_copy.directory, "--set", "training.epochs=5", "--set", "training.seed=7"
        )
        assert (status, out) == (2, "")
        keys = [line.split(": got ")[0] for line in err.splitlines()]
        assert sorted(keys) == [f"mrigen: the recipe given: training.{key}" for key in ("epochs", "seed")]
    assert call("fit", "smoke", "--resume", run_copy.directory)[:2] == (0, f"{run_copy.directory}\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_a_fit_and_leaves_a_run_that_resumes(tmp_path, call, number, status):
    command = [sys.executable, "-c", "from mrigen_cli.main import main; main()"]
    settings = ["fit", "smoke", "--set", "training.epochs=400", "--resume", str(tmp_path / "run")]
    process = subprocess.Popen(
        [*command, *settings],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # A shell that runs the tests in the background has its children ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "run" / "checkpoint" / "progress.json").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(number)
    said = process.communicate(timeout=120)[1].decode().splitlines()[-1]
    assert process.returncode == status
    assert ("stopped as asked, after" in said) == (status == 75)
    assert f"mrigen fit --resume {'RUN' if status == 130 else tmp_path / 'run'}." in said
    assert not list((tmp_path / "run").rglob(".tmp-*"))
    recipe = tmp_path / "run" / "recipe.yaml"
    facts = tmp_path / "run" / "run.json"
    recipe.write_text(recipe.read_text().replace("epochs: 400", "epochs: 1", 1))
    facts.write_text(facts.read_text().replace('"epochs": 400', '"epochs": 1', 1))
    assert call("fit", "--resume", tmp_path / "run")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_batch_system_can_ask_a_fit_to_stop(number):
    from mrigen_cli.fit import stoppable

    before = signal.getsignal(number)
    with stoppable() as stop, pytest.raises(StopNow), stop.heard():
        os.kill(os.getpid(), number)
        assert stop.asked
    assert signal.getsignal(number) is before
    with pytest.raises(Interrupted, match="mrigen fit --resume RUN"), stoppable():
        os.kill(os.getpid(), number)
        time.sleep(1)


def test_check_says_what_a_fit_takes(call):
    status, out, err = call("check", "smoke")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "Images", "Grid", "Model", "Precision", "Cache", "Memory", "Step", "Encoding", "Latents",
    ]  # fmt: skip
    assert "24, 17 of them for training" in out
    assert err == ""
    status, out, err = call(
        "check", "smoke", "--set", "training.batch_size=4", "--set", "model.objective=paper", "--json"
    )
    assert status == 0
    assert json.loads(out)["batch_size"] == 4
    assert json.loads(out)["forecast"]["num_directions"] == 0
    assert err.startswith("Warning: collapse: about 0 of 8 latent variables")


def test_check_of_a_wrong_recipe_is_refused(call):
    status, out, err = call("check", "smoke", "--set", "model.patch=0")
    assert (status, out) == (2, "")
    assert err.startswith("mrigen: --set model.patch=0: model.patch: got 0, expected auto, or an integer from 1 to 16.")


def test_compare_prints_one_table(call, finished_run, run_copy, monkeypatch):
    (run_copy.directory / "probe.json").unlink(missing_ok=True)
    status, out, err = call("compare", finished_run.directory, run_copy.directory)
    assert status == 0
    assert len(out.splitlines()) == 3
    assert f"mrigen probe --run {run_copy.directory}" in err
    assert "Warning" not in err
    split = (run_copy.directory / "split.tsv").read_text()
    (run_copy.directory / "split.tsv").write_text(split.replace("heldout", "train", 1))
    status, _, err = call("compare", finished_run.directory, run_copy.directory, "--quiet")
    assert status == 0
    assert err.splitlines() == [
        f"Warning: not like {finished_run.directory}: {run_copy.directory} (another split). "
        "Their figures cannot simply be compared."
    ]


def test_compare_takes_all_runs_and_writes_a_file(call, run_copy, tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    run_copy.directory.rename(tmp_path / "runs" / "one")
    monkeypatch.chdir(tmp_path)
    status, out, _ = call("compare", "--sort", "-auc", "-o", "table.csv")
    assert (status, out) == (0, "table.csv\n")
    assert (tmp_path / "table.csv").read_text().splitlines()[1].startswith("runs/one,vae,elbo,4-8,2,8,2016.0,")
    status, _, err = call("compare", "-o", "table.csv")
    assert status == 2
    assert "table.csv: is there already" in err
    assert call("compare", "-o", "table.csv", "--force", "--format", "markdown")[0] == 0
    assert (tmp_path / "table.csv").read_text().startswith("| run | model |")

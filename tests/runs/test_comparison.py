"""One table of runs: what stands in it, what is missing, and what is refused."""

import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest

from mrigen.errors import RunError, UsageError
from mrigen.recipe import dump_recipe, parse_recipe
from mrigen.runs import Run
from mrigen.runs.comparison import compare, count_weights, describe_differences, render_table, sort_table, unprobed

PEOPLE = {"sub-1": "train", "sub-2": "train", "sub-3": "heldout"}
METRICS = {
    "heldout": {"mse": 0.00659, "explained_variance": 0.403},
    "kl_nats": 177.7,
    "active_units": 7,
    "latent_dim": 8,
    "performance": {"seconds": 90.0},
}


@pytest.fixture
def make_run(tmp_path):
    """Returns a function that writes a run folder by hand: nothing is trained."""

    def make(name="a", model=None, preprocess=None, people=None, metrics=METRICS, fingerprint="x", auc=None):
        directory = tmp_path / name
        directory.mkdir()
        settings = {"volume_shape": [9, 8, 10]} | (preprocess or {})
        recipe = parse_recipe(json.dumps({"model": {"blocks": 2, **(model or {})}, "preprocess": settings}))
        dump_recipe(recipe, directory / "recipe.yaml")
        (directory / "run.json").write_text(json.dumps({"data_fingerprint": fingerprint}))
        grid = {"zooms": list(recipe.preprocess.zooms), "centre": [0.0] * 3, "median_scale": 1.0}
        grid["volume_shape"] = settings["volume_shape"]
        (directory / "grid.json").write_text(json.dumps(grid))
        lines = [f"{person}\t{split}\n" for person, split in (people or PEOPLE).items()]
        (directory / "split.tsv").write_text("".join(["participant_id\tsplit\n", *lines]))
        (directory / "metrics.json").write_text(json.dumps(metrics))
        with h5py.File(directory / "model.weights.h5", "w") as file:
            file["layers/a/vars/0"] = np.zeros((3, 4))
            file["vars/0"] = np.zeros(())
        if auc is not None:
            rows = [
                _probe_row("latents", "transductive", 0.8, auc),
                _probe_row("latents_draw", "transductive", 0.7, auc - 0.1),
                _probe_row("latents", "heldout", 0.1, 0.1),
            ]
            (directory / "probe.json").write_text(json.dumps({"rows": rows}))
        return Run(directory)

    return make


def _probe_row(predictor, protocol, accuracy, auc):
    return {
        "predictor": predictor,
        "protocol": protocol,
        "accuracy": accuracy,
        "accuracy_ci": [accuracy - 0.05, accuracy + 0.05],
        "roc_auc": auc,
        "roc_auc_ci": [auc - 0.04, auc + 0.04],
    }


def test_a_row_holds_what_the_run_does(make_run):
    run = make_run(model={"channels": [16, 32]}, auc=0.9)
    row = compare([run]).iloc[0]
    words = {"run": str(run.directory), "model": "vae", "objective": "elbo", "channels": "16-32"}
    assert {name: row[name] for name in words} == words
    figures = {
        "blocks": 2,
        "latents": 8,
        "compression": 90.0,
        "heldout_mse": 0.00659,
        "explained_variance": 0.403,
        "accuracy": 0.8,
        "auc": 0.9,
        "auc_low": 0.86,
        "auc_high": 0.94,
        "auc_draw": 0.8,
        "kl_nats": 177.7,
        "active_units": 7,
        "parameters": 13,
        "minutes": 1.5,
    }
    assert {name: row[name] for name in figures} == pytest.approx(figures)


def test_an_autoencoder_has_no_kl_and_equal_channels_are_one_number(make_run):
    run = make_run(model={"kind": "autoencoder", "channels": 16}, metrics=METRICS | {"kl_nats": None})
    row = compare([run]).iloc[0]
    assert (row["objective"], row["channels"]) == ("squared error", "16")
    assert pd.isna(row["kl_nats"]) and pd.isna(row["active_units"])


@pytest.mark.parametrize("metrics", [{}, {"heldout": {"mse": None, "explained_variance": None}}])
def test_figures_that_a_run_lacks_are_missing(make_run, metrics):
    table = compare([make_run(metrics=metrics)])
    for style in ("text", "markdown", "csv"):
        assert "n/a" in render_table(table, style)
        assert "nan" not in render_table(table, style).lower()


def test_a_probe_that_could_not_be_run_is_missing(make_run):
    run = make_run()
    row = {"predictor": "latents", "protocol": "transductive", "accuracy": None, "accuracy_ci": [None, None]}
    (run.directory / "probe.json").write_text(json.dumps({"rows": [row | {"roc_auc": None, "roc_auc_ci": [None] * 2}]}))
    assert pd.isna(compare([run]).iloc[0]["auc"])
    assert unprobed([run]) == []


def test_weights_are_counted_as_the_model_does(finished_run, morph_run):
    for run in (finished_run, morph_run):
        assert count_weights(run) == run.load_model().count_params()


def test_all_faults_come_together(make_run, tmp_path):
    unfinished = make_run("unfinished")
    (unfinished.directory / "metrics.json").unlink()
    (tmp_path / "folder").mkdir()
    runs = [make_run("good"), unfinished, Run(tmp_path / "folder"), Run(tmp_path / "missing")]
    with pytest.raises(RunError) as caught:
        compare(runs)
    lines = caught.value.faults
    assert len(lines) == 3
    assert "unfinished: got an unfinished run" in lines[0] and f"resume('{unfinished.directory}')" in lines[0]
    assert "folder: no recipe.yaml" in lines[1]
    assert "missing: no such folder" in lines[2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.weights.h5", b"nothing", r"model\.weights\.h5: cannot be read"),
        ("metrics.json", b"{", r"metrics\.json: not valid JSON"),
        ("probe.json", b"{", r"probe\.json: not valid JSON"),
        ("recipe.yaml", b"model: {kind: vea}", r"recipe\.yaml: model\.kind: got 'vea'"),
    ],
)
def test_a_damaged_file_is_told(make_run, name, content, message):
    run = make_run()
    (run.directory / name).write_bytes(content)
    with pytest.raises(RunError, match=message):
        compare([run])


def test_rows_are_sorted_and_those_without_the_figure_come_last(make_run):
    table = compare([make_run("none"), make_run("low", auc=0.6), make_run("high", auc=0.9)])

    def order(column):
        return [os.path.basename(run) for run in sort_table(table, column)["run"]]

    assert order("auc") == ["low", "high", "none"]
    assert order("-auc") == ["high", "low", "none"]
    assert order("blocks") == ["none", "low", "high"]
    with pytest.raises(UsageError, match=r"column='-auk': no such column.*Did you mean 'auc'"):
        sort_table(table, "-auk")


def test_runs_that_cannot_be_compared_are_named(make_run):
    runs = [
        make_run("first"),
        make_run("same"),
        make_run("people", people={"sub-9": "train"}, fingerprint="y"),
        make_run("split", people=PEOPLE | {"sub-2": "heldout"}),
        make_run("grid", preprocess={"zooms": 3.0}, fingerprint="z"),
        make_run("images", fingerprint="w"),
    ]
    line = describe_differences(runs)
    assert line.count("\n") == 0
    assert line.startswith(f"not like {runs[0].directory}: ")
    assert "same" not in line.replace(str(runs[0].directory.parent), "")
    for name, found in {
        "people": "other people",
        "split": "another split",
        "grid": "another grid or scale of intensities",
        "images": "other images",
    }.items():
        assert f"{name} ({found})" in line
    assert describe_differences(runs[:2]) is None


def test_the_table_for_the_eye(make_run):
    runs = [make_run("a", auc=0.9), make_run("longer", model={"objective": "paper"}, metrics={})]
    table = compare(runs)
    lines = render_table(table).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("run ") and lines[0].endswith("minutes")
    assert "0.900 [0.860, 0.940]" in lines[1] and "7/8" in lines[1] and " 90.0 " in lines[1]
    assert lines[0].index("model") == lines[1].index("vae") == lines[2].index("vae")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in render_table(table, "markdown").splitlines()]
    assert len({len(line) for line in cells}) == 1
    assert set("".join(cells[1])) == {":", "-"}
    assert cells[3][2] == "paper" and cells[3][-1] == "n/a"
    with pytest.raises(UsageError, match="got 'html', expected one of text, markdown, csv"):
        render_table(table, "html")


def test_beside_the_papers_networks_stands_what_it_found(make_run):
    model = {"kind": "autoencoder", "latent_dim": None, "channels": 32, "mean_image": False}
    table = compare([make_run("ours"), make_run("theirs", model=model)])
    assert pd.isna(table["paper_mse"][0])
    assert (table["paper_mse"][1], table["paper_accuracy"][1]) == (0.00451, 0.910)
    assert render_table(table).splitlines()[0].endswith("paper's MSE (HCP)  paper's accuracy (HCP)")


def test_csv_is_read_as_what_was_written(make_run, tmp_path):
    table = compare([make_run("a", auc=0.9), make_run("b")])
    (tmp_path / "t.csv").write_text(render_table(table, "csv"))
    again = pd.read_csv(tmp_path / "t.csv").astype(table.dtypes)
    pd.testing.assert_frame_equal(again, table)


def test_tensorflow_is_not_loaded(make_run):
    code = (
        "import sys; from mrigen_cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    command = [sys.executable, "-c", code, "compare", str(make_run().directory)]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

"""The benchmarks' parser, tables and turns; nothing is timed."""

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import cost_model
from benchmarks.contenders import Contender, Measured, alternate
from benchmarks.machine import describe_machine, version
from benchmarks.report import Section, cell, markdown_report, markdown_table
from benchmarks.scaling import expected_mb
from benchmarks.step import QUICK_TASK, TRAINERS, reference, row, trainer


@pytest.fixture
def measured_parts(monkeypatch):
    """Replaces the measurement of every part by a small table; returns (part, quick) of those asked for."""
    asked = []

    class Part:
        def __init__(self, name):
            self.name = name.removeprefix("benchmarks.")

        def measure(self, quick):
            asked.append((self.name, quick))
            return [Section(self.name, "Text.", ["", "seconds"], [["mrigen", 0.5]])]

    monkeypatch.setattr(command.importlib, "import_module", Part)
    return asked


def test_parts_are_measured_in_the_order_given_and_written(measured_parts, tmp_path):
    done = CliRunner().invoke(command.main, ["scaling", "step", "scaling", "-o", str(tmp_path / "a.md")])
    assert done.exit_code == 0
    assert measured_parts == [("scaling", False), ("step", False)]
    assert (tmp_path / "a.md").read_text() in done.output
    assert "## step\n\nText.\n\n|        | seconds |\n" in done.output


def test_quick_measures_every_part_and_keeps_the_results(measured_parts, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results.md")
    done = CliRunner().invoke(command.main, ["--quick"])
    assert measured_parts == [(part, True) for part in command.PARTS]
    assert "the figures mean nothing" in done.output
    assert not (tmp_path / "results.md").exists()


def test_an_unknown_part_is_bad_usage(measured_parts):
    done = CliRunner().invoke(command.main, ["stepp"])
    assert (done.exit_code, measured_parts) == (2, [])
    parts = "'step', 'layers', 'loader', 'memory', 'sample', 'scaling', 'preparing', 'qc', 'copies'"
    assert f"'stepp' is not one of {parts}" in done.output


@pytest.mark.parametrize(
    "value, text",
    [(None, "–"), (12, "12"), (2_250_273, "2 250 273"), (0.0123456, "0.0123"), (12345.6, "12346"), (1.0, "1.00")],
)
def test_cells_are_short(value, text):
    assert cell(value) == text


def test_tables_have_one_width_a_column():
    lines = markdown_table(["", "n"], [["a long name", 1], ["b", None]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1] == "|:------------|----:|"
    assert lines[3] == "| b           |   – |"


def test_a_report_names_the_machine_before_the_tables():
    text = markdown_report({"CPU": "abacus"}, [Section("step", "Text.", ["", "s"], [])], quick=False)
    assert text.startswith("# Benchmarks\n\n- CPU: abacus\n\n## step\n")


def test_the_machine_is_described():
    assert {"Date", "CPU", "Memory", "GPU", "Load before", "Libraries"} <= set(describe_machine())
    assert version("no-such-library") == "not installed"


def test_a_missing_peer_is_a_row():
    """Through the real worker process, which finds no such module."""
    measured = alternate([Contender("peer", "benchmarks.no_such_peer:make")], 1)[0]
    assert row(measured, None)[:3] == ["peer", None, "not installed: benchmarks.no_such_peer"]


def test_a_contender_that_fails_is_a_row():
    measured = alternate([Contender("peer", "json:dumps", {"obj": "no pair"})], 1)[0]
    assert row(measured, None)[2] == "failed"


def test_the_ratio_is_to_mrigen_in_its_automatic_precision():
    everyone = [
        Measured(trainer("mrigen vae", QUICK_TASK, "mixed_bfloat16"), {"parameters": 7, "is_automatic": False}),
        Measured(trainer("mrigen vae", QUICK_TASK, "float32"), {"parameters": 7, "is_automatic": True}),
        Measured(trainer("PyTorch", QUICK_TASK, "float32"), {"parameters": 7}),
    ]
    for each, seconds in zip(everyone, ((8.0,), (2.0, 9.0, 4.0), (1.0, 3.0, 2.0)), strict=True):
        each.rounds = [{"seconds": value, "core_seconds": 2 * value} for value in seconds]
    assert reference(everyone) is everyone[1]
    assert row(everyone[2], everyone[1]) == ["PyTorch, float32", 7, 2.0, "1 to 3", 0.5, 4.0, 0.5]


def test_every_trainer_is_given_the_same_task():
    settings = [trainer(name, QUICK_TASK, "float32").settings for name in TRAINERS]
    assert {tuple(each["volume_shape"]) for each in settings} == {QUICK_TASK.volume_shape}
    assert {each["precision"] for each in settings} == {"float32"}


def test_memory_is_expected_on_a_line():
    assert expected_mb({1000: 600.0, 2000: 700.0}, 4000) == 900.0
    assert expected_mb({1000: 600.0}, 10**9) == 0.0


def test_the_tables_of_costs_are_what_the_model_says():
    assert cost_model.tables() in cost_model.DOCUMENT.read_text(encoding="utf-8")


def test_costs_add_up():
    network = cost_model.Network(4, 1_000_000, 8, 2.0, 10, 100.0)
    prepared = 0.7 * 8000 * cost_model.AUGMENT_SECONDS[4]
    on_cores = cost_model.epoch_hours(8000, network, cost_model.Machine(1, 2.0))
    assert on_cores == pytest.approx((700 * 1.0 + prepared / 2) / 3600)
    assert cost_model.epoch_hours(8000, network, cost_model.Machine(1, 1e9, 2)) == pytest.approx(prepared / 2 / 3600)
    assert cost_model.exchange_seconds(network, 1, 1e6) == 0
    assert cost_model.exchange_seconds(network, 2, 4e6) == pytest.approx(1.0)
    assert cost_model.cache_bytes(10, 4) == 10 * 48 * 56 * 48

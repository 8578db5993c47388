"""Several devices and workers: the losses of one device, and what is refused."""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mrigen.errors import UsageError
from mrigen.training.devices import Placement
from mrigen.training.refusals import check_batch, check_precision
from mrigen.training.workers import expand_counts, find_cluster

PROGRAM = "from mrigen_cli.main import main; main()"
# Eight training people of 8 mm, two epochs of two steps: batch norm, changed images, noise, an optimal sigma.
FIT = ["fit", "smoke", "-q", "--set", "data.num_subjects=14", "--set", "training.batch_size=4"]
FIT += ["--set", "training.precision=float32"]


def start(run, *changes, config=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {} if config is None else {"TF_CONFIG": json.dumps(config)}
    arguments = [*FIT, "--run", str(run), *(word for change in changes for word in ("--set", change))]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def wait(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()


def curves(run):
    with open(run / "history.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def test_two_devices_and_two_workers_have_the_losses_of_one(tmp_path):
    wait(start(tmp_path / "one"))
    wait(start(tmp_path / "devices", "training.devices=2"))
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    workers = [
        start(tmp_path / "workers", config={"cluster": cluster, "task": {"type": "worker", "index": index}})
        for index in (0, 1)
    ]
    for worker in workers:
        wait(worker)
    expected = curves(tmp_path / "one")
    for name, devices, num_workers in (("devices", 2, 1), ("workers", 1, 2)):
        for row, other in zip(curves(tmp_path / name), expected, strict=True):
            assert list(row) == list(other)
            for figure in ("loss", "val_loss", "decoder_sigma", "val_decoder_sigma"):
                assert row[figure] == pytest.approx(other[figure], rel=1e-4), figure
        metrics = json.loads((tmp_path / name / "metrics.json").read_text())
        assert (metrics["devices"], metrics["workers"]) == (devices, num_workers)


def test_the_gradients_of_a_step_are_those_of_one_device():
    """Adam forgives a gradient that is too large or too small by a factor: losses alone would not show it."""
    program = Path(__file__).with_name("one_step.py")
    result = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, timeout=300, check=True)
    found = dict(line.split("\t") for line in result.stdout.splitlines())
    assert len(found) == 5
    for name, difference in found.items():
        assert float(difference) < 5e-4, name


def test_a_batch_that_cannot_be_divided_is_refused_with_the_nearest():
    four = Placement(num_devices=2, num_workers=2).num_replicas
    check_batch(8, 100, four)
    with pytest.raises(UsageError, match=r"batch_size: got 9, expected a multiple of the 4 .* Set 8"):
        check_batch(9, 100, four)
    with pytest.raises(UsageError, match=r"got 8, with 7 training images.* Set 4"):
        check_batch(8, 7, four)
    with pytest.raises(UsageError, match="float16"):
        check_precision("mixed_float16", four)


def test_workers_are_found_in_tf_config_and_no_others_are_made_up():
    config = {"cluster": {"chief": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}
    environment = {"TF_CONFIG": json.dumps(config)}
    found = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    assert find_cluster("auto", environment) == found
    assert find_cluster("auto", {}) is None and find_cluster(1, environment) is None
    with pytest.raises(UsageError, match=r"training.workers: got 3, expected 2"):
        find_cluster(3, environment)
    with pytest.raises(UsageError, match=r"training.workers: got 2, expected 1"):
        find_cluster(2, {})
    with pytest.raises(UsageError, match="TF_CONFIG: got"):
        find_cluster("auto", {"TF_CONFIG": "{}"})
    assert expand_counts("2(x2),1") == [2, 2, 1]

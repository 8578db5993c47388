"""`mrigen doctor`: what it says of this machine, and of others that are made up."""

import json
import os
import re
import stat

import pytest
from click.testing import CliRunner
from mrigen_cli.main import mrigen as command

import mrigen
from mrigen.checkup import Checkup, Finding, checking, devices, outside, places
from mrigen.checkup.devices import Seen, check_gpus, check_tensorflow

CPU = {
    "version": "2.21.0",
    "built_with_cuda": True,
    "cuda_version": "12.5.1",
    "gpus": [],
    "precision": "float32",
    "precision_reason": "the CPU (x86_64) has no bfloat16 arithmetic",
    "faults": {},
    "seconds": 5.0,
}
CARD = Seen(cards=1, nodes=1, open_nodes=1, driver="550.54.14", smi=("NVIDIA A100, 40960, 10",))


def put_program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder that alone is searched for programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_this_machine_is_looked_at_in_one_command():
    done = CliRunner().invoke(command, ["doctor", "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["is_well"], found["findings"]
    topics = [finding["topic"] for finding in found["findings"]]
    for topic in (
        "python",
        "packages",
        "tensorflow",
        "precision",
        "gpu",
        "memory",
        "disk",
        "files",
        "slurm",
        "browser",
    ):
        assert topic in topics
    assert found["facts"]["packages"]["mrigen"] == mrigen.__version__
    assert found["facts"]["tensorflow"]["precision"] in ("float32", "mixed_bfloat16", "mixed_float16")
    assert found["facts"]["folders"]["cache"]["path"] == os.environ["MRIGEN_CACHE"]


def test_a_fault_is_shown_with_its_remedy_and_counts_for_the_exit_status(monkeypatch):
    fault = Finding("memory", "fault", "12 MiB available", "Ask for more.")
    monkeypatch.setattr(
        checking, "_CHECKS", {"memory": lambda facts: [fault, Finding("disk", "note", "full", "Free it.")]}
    )
    done = CliRunner().invoke(command, ["doctor"])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0].split(maxsplit=2) == ["fault", "memory", "12 MiB available"]
    assert lines[1].strip() == "Ask for more." and lines[-1] == "1 of these would stop a fit."
    found = mrigen.doctor()
    assert isinstance(found, Checkup) and found.faults == (fault,) and not found.is_well


def test_what_cannot_be_looked_at_for_want_of_a_package_is_a_fault_and_the_rest_is_looked_at(monkeypatch):
    def fails(facts):
        raise ModuleNotFoundError("No module named 'packaging'")

    monkeypatch.setattr(
        checking, "_CHECKS", {"packages": fails, "disk": lambda facts: [Finding("disk", "well", "space")]}
    )
    found = mrigen.doctor()
    assert [finding.state for finding in found.findings] == ["fault", "well"]
    assert "packaging" in found.findings[0].text


@pytest.mark.parametrize(
    ("seen", "found", "said", "expected"),
    [
        (Seen(smi=(), smi_error="couldn't communicate with the driver"), {}, "", "couldn't communicate"),
        (Seen(cards=1), {}, "", "no driver"),
        (Seen(cards=1, smi=(), smi_error="Driver/library version mismatch"), {}, "", "nvidia-smi says: Driver/library"),
        (Seen(driver="550.1", cards=1), {}, "", "no /dev/nvidia0"),
        (Seen(driver="550.1", environment={"SLURM_JOB_ID": "7"}), {}, "", "this job of SLURM was given none"),
        (Seen(driver="550.1", nodes=1), {}, "", "may not be opened"),
        ({"smi": (), "smi_error": "Unable to determine the device handle"}, {}, "", "nvidia-smi says: Unable"),
        ({"environment": {"CUDA_VISIBLE_DEVICES": ""}}, {}, "", "CUDA_VISIBLE_DEVICES=''"),
        ({"environment": {"CUDA_VISIBLE_DEVICES": "-1"}}, {}, "", "CUDA_VISIBLE_DEVICES='-1'"),
        ({"environment": {"CUDA_VISIBLE_DEVICES": "1"}}, {}, "", "CUDA_VISIBLE_DEVICES='1'"),
        ({}, None, "ended by SIGILL", "TensorFlow cannot be loaded"),
        ({}, {"built_with_cuda": False, "cuda_version": None}, "", "without CUDA"),
        ({"driver": "470.82.01"}, {}, "", "470.82.01 is too old for CUDA 12.5.1, which wants 525.60"),
        ({}, {}, "W Could not load dynamic library 'libcudnn.so.9'; dlerror", r"libcudnn\.so\.9"),
        ({}, {}, "Cannot dlopen some GPU libraries. Skipping", "CUDA and cuDNN"),
        ({}, {}, "failed call to cuInit: CUDA_ERROR_UNKNOWN: unknown error", "CUDA_ERROR_UNKNOWN: unknown"),
        ({}, {}, "", "does not say why"),
    ],
)  # fmt: skip
def test_why_a_gpu_is_not_used(seen, found, said, expected):
    if isinstance(seen, dict):
        seen = Seen(**{**vars(CARD), **seen})
    finding = check_gpus(seen, None if found is None else CPU | found, said)
    assert (finding.topic, finding.state) == ("gpu", "note")
    assert re.search(expected, finding.text), finding.text
    assert finding.remedy and len(finding.remedy) > 10


def test_a_gpu_that_is_used_is_named_and_one_that_others_fill_is_noted():
    found = CPU | {"gpus": [{"name": "NVIDIA A100", "compute_capability": "8.0"}]}
    finding = check_gpus(CARD, found, "")
    assert finding.state == "well" and "NVIDIA A100 (compute capability 8.0)" in finding.text
    busy = check_gpus(Seen(nodes=1, driver="550.1", smi=("NVIDIA A100, 40960, 30000",)), found, "")
    assert busy.state == "note" and "30000 of 40960 MiB" in busy.text


def test_without_a_gpu_nothing_is_missing():
    assert check_gpus(Seen(), CPU, "").state == "well"
    assert "SLURM" in check_gpus(Seen(environment={"SLURM_JOB_ID": "7"}), CPU, "").text


@pytest.mark.parametrize(
    ("script", "smi", "error"),
    [
        ("echo 'NVIDIA A100, 40960, 10'", ("NVIDIA A100, 40960, 10",), ""),
        ("echo 'No devices were found'", (), "No devices were found"),
        ("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", (), "Failed to init"),
    ],
)  # fmt: skip
def test_nvidia_smi_is_asked(programs, script, smi, error):
    put_program(programs, "nvidia-smi", script)
    seen = devices.look_for_gpus({})
    assert seen.smi == smi and seen.smi_error.startswith(error) and bool(seen.smi_error) == bool(error)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import os; os.kill(os.getpid(), 4)", "ended by SIGILL"),
        ("raise ImportError('libstdc++.so.6: version not found')", "ImportError: libstdc++.so.6: version not found"),
    ],
)
def test_a_tensorflow_that_does_not_load_is_a_fault(programs, monkeypatch, code, said):
    program = put_program(programs, "python", f'exec {devices.sys.executable} -c "{code}"')
    monkeypatch.setattr(devices.sys, "executable", str(program))
    found, reason = devices.ask_tensorflow()
    assert found is None and said in reason
    (finding,) = check_tensorflow(found, reason)
    assert finding.state == "fault" and said in finding.text and finding.remedy


def test_what_tensorflow_refuses_is_a_fault_of_its_own():
    faults = {"precision": "training.precision: got float16 on several devices. Set training.precision=float32."}
    findings = list(check_tensorflow(CPU | {"faults": faults}, ""))
    assert [(finding.topic, finding.state) for finding in findings] == [("tensorflow", "well"), ("precision", "fault")]
    assert findings[1].remedy == "Set training.precision=float32."


def test_little_memory_is_a_fault_and_a_limit_is_named(monkeypatch):
    for available, state in ((2**29, "fault"), (2**31, "note"), (2**34, "well")):
        monkeypatch.setattr(places, "available_memory", lambda available=available: available)
        monkeypatch.setattr(places, "control_group_memory", lambda available=available: available)
        monkeypatch.setattr(places, "free_memory", lambda: 2**36)
        finding = places.check_memory()
        assert finding.state == state and "64.0 GiB" in finding.text
        assert (finding.remedy is None) == (state == "well")


def test_looking_leaves_folders_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setenv("MRIGEN_CACHE", str(tmp_path / "not" / "there"))
    monkeypatch.chdir(tmp_path)
    findings = [*places.check_writing(), *places.check_disks()]
    assert "cache" in findings[-1].text or len(findings) > 1
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "default_cache_directory", lambda: tmp_path)

    def refused(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(places, "temporary_directory", refused)
    fault = next(finding for finding in places.check_writing() if finding.state == "fault")
    assert fault.text == f"cache ({tmp_path}): Permission denied"
    assert "MRIGEN_CACHE" in fault.remedy


def test_slurm_is_absent_half_there_or_lists_its_partitions(programs, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    (absent,) = outside.check_slurm(*outside.find_partitions())
    assert absent.state == "well" and "not here" in absent.text
    put_program(programs, "sinfo", "echo 'cpu*|up|infinite|3|(null)'; echo 'gpu|up|1-00:00:00|2|gpu:a100:4'")
    put_program(programs, "sbatch", "true")
    (half,) = outside.check_slurm(*outside.find_partitions())
    assert half.state == "note" and "no srun, scontrol, squeue" in half.text
    for name in outside.SLURM:
        put_program(programs, name, "true")
    partitions, reason = outside.find_partitions()
    assert partitions[0] == {
        "name": "cpu", "is_default": True, "state": "up", "time": "infinite", "nodes": 3, "gpus": False,
    }  # fmt: skip
    (there,) = outside.check_slurm(partitions, reason)
    assert "cpu (3 nodes, infinite, the default), gpu (2 nodes, 1-00:00:00, GPUs)" in there.text
    put_program(programs, "sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1")
    (silent,) = outside.check_slurm(*outside.find_partitions())
    assert silent.state == "note" and "Unable to contact" in silent.text

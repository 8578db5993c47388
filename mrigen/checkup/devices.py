"""What computes: TensorFlow, GPUs and why they are not used, the precision of a fit."""

import dataclasses
import glob
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mrigen.checkup.result import Finding
from mrigen.system.machine import usable_cores

# Seconds that TensorFlow and nvidia-smi may take; a driver that hangs takes for ever.
PATIENCE, PATIENCE_OF_DRIVER = 180, 20
# CUDA's major version -> the oldest Linux driver that runs it (NVIDIA's table of minor version compatibility).
OLDEST_DRIVERS = {11: (450, 80), 12: (525, 60), 13: (580, 0)}
ASK_SLURM = "Ask SLURM for one: --gpus-per-node=1 of sbatch."
NVIDIA, DISPLAYS = "0x10de", "0x03"  # PCI codes of the maker, and of the kinds of device that GPUs are.


@dataclasses.dataclass(frozen=True)
class Seen:
    """What is known about GPUs, from outside and from TensorFlow.

    Attributes:
        cards: GPUs of NVIDIA on the PCI bus. nodes: their files in /dev. open_nodes: of those, which may be opened.
        driver: version of the kernel's driver; None where there is none.
        smi: what nvidia-smi printed, a line a GPU (name, memory in MiB, used); None where there is no such command.
        smi_error: what it said instead.
        environment: variables that hide GPUs.
    """

    cards: int = 0
    nodes: int = 0
    open_nodes: int = 0
    driver: str | None = None
    smi: tuple[str, ...] | None = None
    smi_error: str = ""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def is_there(self) -> bool:
        """Whether the machine has a GPU of NVIDIA, or seems to."""
        fails = bool(self.smi_error) and "no devices" not in self.smi_error.lower()
        return bool(self.cards or self.nodes or self.driver or self.smi or fails)


def look_for_gpus(environment: Mapping[str, str] = os.environ) -> Seen:
    """Returns what is known about GPUs without TensorFlow."""
    cards = 0
    for vendor in glob.glob("/sys/bus/pci/devices/*/vendor"):
        kind = Path(vendor).with_name("class")
        try:
            cards += Path(vendor).read_text().strip() == NVIDIA and kind.read_text().startswith(DISPLAYS)
        except OSError:
            continue
    nodes = [path for path in glob.glob("/dev/nvidia*") if re.fullmatch(r"/dev/nvidia\d+", path)]
    try:
        found = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", Path("/proc/driver/nvidia/version").read_text())
    except OSError:
        found = None
    smi, error = _ask_driver()
    return Seen(
        cards=cards,
        nodes=len(nodes),
        open_nodes=sum(os.access(path, os.R_OK | os.W_OK) for path in nodes),
        driver=None if found is None else found[1],
        smi=smi,
        smi_error=error,
        environment={key: environment[key] for key in _HIDERS if key in environment},
    )


_HIDERS = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_GPUS_ON_NODE")


def _ask_driver() -> tuple[tuple[str, ...] | None, str]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return None, ""
    query = [command, "--query-gpu=name,memory.total,memory.used", "--format=csv,noheader,nounits"]
    try:
        ended = subprocess.run(query, capture_output=True, text=True, timeout=PATIENCE_OF_DRIVER)
    except (OSError, subprocess.TimeoutExpired) as error:
        return (), _one_line(str(error))
    lines = tuple(line.strip() for line in ended.stdout.splitlines() if line.strip())
    if ended.returncode or (lines and "," not in lines[0]):
        return (), _one_line(ended.stderr or ended.stdout) or f"exit status {ended.returncode}"
    return lines, "" if lines else "no devices were found"


def ask_tensorflow() -> tuple[dict[str, Any] | None, str]:
    """Returns what TensorFlow sees, of `mrigen.checkup.probe`, or None; and what it said on stderr."""
    # The same mrigen, and nothing of the folder that this happens to be run in.
    paths = [str(Path(__file__).parents[2]), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-P", "-m", "mrigen.checkup.probe"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    except subprocess.TimeoutExpired:
        return None, f"no answer in {PATIENCE} s"
    if ended.returncode < 0:
        return None, f"ended by {signal.Signals(-ended.returncode).name}"
    if ended.returncode:
        last = [line for line in ended.stderr.splitlines() if line.strip()]
        return None, _one_line(last[-1] if last else f"exit status {ended.returncode}")
    return json.loads(ended.stdout.splitlines()[-1]), ended.stderr


def check_tensorflow(found: dict[str, Any] | None, said: str) -> Iterator[Finding]:
    """Yields whether TensorFlow can be loaded, and what a fit computes with.

    Args:
        found, said: of `ask_tensorflow`.
    """
    if found is None:
        if "SIGILL" in said:
            remedy = "Its wheels need a processor with AVX: use another machine, or build TensorFlow for this one."
        elif "SIGKILL" in said:
            remedy = "The system ended it, most likely for want of memory: ask for more, and look again."
        elif "no answer" in said:
            remedy = "Most often a driver or a network disk that hangs: look at nvidia-smi, or move the environment."
        else:
            remedy = "python -m pip install --force-reinstall 'tensorflow>=2.21' in this environment."
        yield Finding("tensorflow", "fault", f"cannot be loaded: {said}", remedy)
        return
    kind = f"for CUDA {found['cuda_version']}" if found["built_with_cuda"] else "without CUDA"
    cores = usable_cores()
    text = f"{found['version']}, built {kind}; loaded in {found['seconds']:.1f} s; {cores} core{'s' * (cores != 1)}"
    yield Finding("tensorflow", "well", text)
    for topic, fault in found["faults"].items():
        text, _, remedy = fault.partition(". ")
        yield Finding(topic, "fault", text, remedy)
    if "precision" not in found["faults"]:
        yield Finding("precision", "well", f"{found['precision']} by default: {found['precision_reason']}")


def check_gpus(seen: Seen, found: dict[str, Any] | None, said: str) -> Finding:
    """Returns which GPUs a fit uses, or why it uses none.

    Args:
        seen: of `look_for_gpus`.
        found, said: of `ask_tensorflow`.
    """
    if found is not None and found["gpus"]:
        return _used(seen, found)
    if not seen.is_there:
        if platform.system() == "Darwin":
            return Finding("gpu", "well", "none of NVIDIA: fits run on the CPU (tensorflow-metal was not tested)")
        if "SLURM_JOB_ID" not in seen.environment:
            return Finding("gpu", "well", "none of NVIDIA on this machine: fits run on the CPU")
        text, remedy = "this job of SLURM has none", ASK_SLURM
        return Finding("gpu", "well", f"{text}: fits run on the CPU", remedy)
    why, remedy = _why_unused(seen, found, said)
    return Finding("gpu", "note", f"of NVIDIA, and not used: {why}", remedy)


def _used(seen: Seen, found: dict[str, Any]) -> Finding:
    names = [f"{gpu['name']} (compute capability {gpu['compute_capability']})" for gpu in found["gpus"]]
    text = f"{len(names)} in use: {', '.join(dict.fromkeys(names))}"
    for line in seen.smi or ():
        name, total, used = (part.strip() for part in line.rsplit(",", 2))
        if total.isdigit() and used.isdigit() and int(used) > int(total) / 2:
            text += f"; {name}: {used} of {total} MiB are taken by other processes"
            return Finding("gpu", "note", text, "See nvidia-smi; choose another one with CUDA_VISIBLE_DEVICES.")
    return Finding("gpu", "well", text)


def _why_unused(seen: Seen, found: dict[str, Any] | None, said: str) -> tuple[str, str]:
    """Returns why a GPU that is there is not used, and what to do; the first cause from the hardware upwards."""
    hidden = seen.environment.get("CUDA_VISIBLE_DEVICES")
    count = len(seen.smi) if seen.smi else max(seen.cards, seen.nodes, 1)
    job = "SLURM_JOB_ID" in seen.environment
    if seen.driver is None and not seen.smi:
        if seen.nodes or seen.smi is None or not seen.smi_error:
            return "no driver of NVIDIA is loaded", "Install NVIDIA's driver, or ask the administrator, and start anew."
        return (
            f"nvidia-smi says: {seen.smi_error}",
            "Most often the driver was updated and the machine not started anew: do so, or ask the administrator.",
        )
    if seen.driver is not None and not seen.nodes:
        if job:
            return "this job of SLURM was given none", ASK_SLURM
        return (
            "there is no /dev/nvidia0 here",
            "In a container, start it with --gpus all (Docker, Podman) or --nv (Apptainer).",
        )
    if seen.nodes and not seen.open_nodes:
        return "/dev/nvidia0 may not be opened", "Ask the administrator for the right to use it (often a group, video)."
    if seen.smi_error:
        again = "Start the machine anew, or ask the administrator."
        return f"nvidia-smi says: {seen.smi_error}", ASK_SLURM if job else again
    if hidden is not None and not _names_a_gpu(hidden, count):
        return f"CUDA_VISIBLE_DEVICES={hidden!r} names none of them", "unset CUDA_VISIBLE_DEVICES, or set it to 0."
    if found is None:
        return "TensorFlow cannot be loaded", "See tensorflow."
    if not found["built_with_cuda"]:
        return "this TensorFlow is built without CUDA", "python -m pip install 'mrigen[cuda]' on Linux (or WSL)."
    needed = OLDEST_DRIVERS.get(int(str(found["cuda_version"] or "0").split(".")[0]))
    if needed and seen.driver and tuple(map(int, seen.driver.split(".")[:2])) < needed:
        return (
            f"the driver {seen.driver} is too old for CUDA {found['cuda_version']}, which wants "
            f"{'.'.join(map(str, needed))} or newer",
            "Update NVIDIA's driver, or ask the administrator.",
        )
    missing = re.findall(r"Could not load dynamic library '([^']+)'|dlopen.*?(lib\w+\.so[.\d]*)", said)
    if missing or "Cannot dlopen some GPU libraries" in said or "Could not find cuda drivers" in said:
        names = ", ".join(dict.fromkeys("".join(pair) for pair in missing)) or "CUDA and cuDNN"
        return f"libraries are missing ({names})", "python -m pip install 'mrigen[cuda]' in this environment."
    if line := re.search(r"(CUDA_ERROR_\w+[^\n]*)", said):
        return f"CUDA says: {_one_line(line[1])}", "See nvidia-smi; start the machine anew, or ask the administrator."
    return "TensorFlow does not say why", "See what it logs: TF_CPP_MIN_LOG_LEVEL=0 python -m mrigen.checkup.probe."


def _names_a_gpu(text: str, count: int) -> bool:
    """Returns whether CUDA_VISIBLE_DEVICES shows at least one GPU: CUDA reads up to the first that is not there."""
    first = text.split(",")[0].strip()
    return first.startswith(("GPU-", "MIG-")) or (first.isdigit() and int(first) < count)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]

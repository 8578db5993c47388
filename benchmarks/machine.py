"""What the figures were measured on."""

import datetime
import importlib.metadata
import math
import os
import platform
import shutil
import subprocess
from pathlib import Path

from mrigen.system.machine import available_memory, cpu_flags

# What decides how fast a 3-D convolution is on a CPU.
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "sve", "bf16")
LIBRARIES = ("mrigen", "tensorflow", "keras", "torch", "monai", "pythae", "numpy", "scipy", "nibabel")


def describe_machine() -> dict[str, str]:
    """Returns name -> value of what matters for speed: hardware, versions, date, and how busy the machine is."""
    return {
        "Date": datetime.datetime.now().astimezone().isoformat(" ", "minutes"),
        "CPU": f"{_cpu_model()}, {num_cores()} cores, {', '.join(_flags()) or 'none of ' + ', '.join(CPU_FLAGS)}",
        "Memory": f"{(available_memory() or math.nan) / 2**30:.1f} GiB free",
        "GPU": ", ".join(gpus()) or "none",
        "Load before": _load(),
        "System": f"{platform.platform()}, Python {platform.python_version()}",
        "Libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
    }


def num_cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_bfloat16() -> bool:
    """Whether training in bfloat16 pays here: a CPU with AVX512_BF16, AMX or Arm's bf16, or a GPU."""
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & cpu_flags() or gpus())


def gpus() -> list[str]:
    """Returns name, memory and driver of each NVIDIA GPU, without loading a framework."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    return listed.stdout.strip().splitlines() if listed.returncode == 0 else []


def version(library: str) -> str:
    """Returns the installed version of a library, or "not installed"."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _load() -> str:
    load = os.getloadavg()[0]
    if load < 0.5:
        return f"{load:.1f}"
    # Threads that wait for each other (OpenMP, as in PyTorch) lose more to other work than a pool of tasks does.
    return f"{load:.1f}: other work was running, so times are too long and their ratios uncertain"


def _cpu_model() -> str:
    models = _values("/proc/cpuinfo", "model name")
    return models[0] if models else platform.processor() or platform.machine()


def _flags() -> list[str]:
    return [flag for flag in CPU_FLAGS if flag in cpu_flags()]


def _values(path: str, name: str) -> list[str]:
    """Returns what stands after `name` and a colon in the lines of a file of /proc, if there is one."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return []
    return [line.split(":", 1)[1].strip() for line in lines if line.split(":")[0].strip() == name]

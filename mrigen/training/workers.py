"""Who the workers of a fit are, by what SLURM or TF_CONFIG says. No TensorFlow.

Why not TensorFlow's SlurmClusterResolver: it fails on nodes without GPUs, and sorts names of hosts as text, so that of
node2 and node10 (tasks 0 and 1) each gets the other's address; its ports are the same for all jobs of a node.
"""

import json
import os
import re
import subprocess
from collections.abc import Mapping

from mrigen.errors import UsageError

# Jobs on one machine take ports of their own: one of so many spans of so many, below those that systems give away.
FIRST_PORT, PORT_SPANS, PORTS_OF_A_JOB = 19200, 100, 128


def find_cluster(asked: int | str, environment: Mapping[str, str] = os.environ) -> dict | None:
    """Returns the workers of a fit in the layout of TF_CONFIG, or None for a single one.

    TF_CONFIG counts where it is set, and a step of SLURM with several tasks where it is not.

    Raises:
        UsageError: neither says what was asked for, or TF_CONFIG is malformed.
    """
    if asked == 1:
        return None
    found = None
    if environment.get("TF_CONFIG"):
        found = _of_tf_config(environment["TF_CONFIG"])
    elif int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        found = _of_slurm(environment)
    count = 1 if found is None else len(found["cluster"]["worker"])
    if asked not in ("auto", count):
        raise UsageError(
            f"training.workers: got {asked}, expected {count}, as TF_CONFIG or SLURM says. Start as many processes "
            "or set auto."
        )
    return found if count > 1 else None


def _of_tf_config(text: str) -> dict:
    try:
        config = json.loads(text)
        cluster, task = config["cluster"], config["task"]
        # The first of all is called the chief by some who write this variable, and worker 0 by others.
        workers = [*cluster.get("chief", []), *cluster.get("worker", [])]
        index = int(task["index"]) + (len(cluster.get("chief", [])) if task["type"] == "worker" else 0)
        if task["type"] not in ("chief", "worker") or not 0 <= index < len(workers):
            raise ValueError(f"task {task}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"TF_CONFIG: got {text[:200]!r} ({error}), expected cluster (worker: addresses) and task (type, index) "
            "as JSON. Correct it, or unset it."
        ) from None
    return {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}


def _of_slurm(environment: Mapping[str, str]) -> dict:
    nodes = _ask_slurm("show", "hostnames", environment["SLURM_STEP_NODELIST"]).split()
    counts = expand_counts(environment["SLURM_STEP_TASKS_PER_NODE"])
    addresses = {node: _address(node) for node in nodes}
    hosts = [addresses[node] for node, count in zip(nodes, counts, strict=True) for _ in range(count)]
    first = first_port(int(environment["SLURM_JOB_ID"]))
    workers = [f"{host}:{first + number % PORTS_OF_A_JOB}" for number, host in enumerate(hosts)]
    return {"cluster": {"worker": workers}, "task": {"type": "worker", "index": int(environment["SLURM_PROCID"])}}


def expand_counts(text: str) -> list[int]:
    """Returns the numbers of tasks of each node, as SLURM shortens them.

    Example:
        >>> expand_counts("2(x3),1")
        [2, 2, 2, 1]
    """
    counts = []
    for part in text.split(","):
        number, times = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip()).groups()
        counts += [int(number)] * int(times or 1)
    return counts


def first_port(job: int) -> int:
    """Returns the port of worker 0 of a job; those of the others follow.

    Example:
        >>> first_port(1234567)
        27776
    """
    return FIRST_PORT + job % PORT_SPANS * PORTS_OF_A_JOB


def _address(node: str) -> str:
    found = re.search(r"\bNodeAddr=(\S+)", _ask_slurm("-o", "show", "node", node))
    return found[1] if found else node


def _ask_slurm(*words: str) -> str:
    try:
        command = ["scontrol", *words]  # Found as a shell finds it: each cluster has it elsewhere.
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(
            f"scontrol {' '.join(words)}: {error}, expected what SLURM knows of the nodes. Set TF_CONFIG, or "
            "training.workers=1."
        ) from None

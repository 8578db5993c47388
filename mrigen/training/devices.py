"""Where a fit runs: one device, several, or several processes ("workers") that meet on the network.

Why not TensorFlow's SlurmClusterResolver: it fails on nodes without GPUs, and sorts names of hosts as text, so that of
node2 and node10 (tasks 0 and 1) each gets the other's address; its ports are the same for all jobs of a node.
"""

import dataclasses
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import tensorflow as tf

from mrigen.errors import Interrupted, MrigenError, UsageError
from mrigen.recipe import TrainingRecipe

Result = TypeVar("Result")
# Jobs on one machine take ports of their own: one of so many spans of so many, below those that systems give away.
FIRST_PORT, PORT_SPANS, PORTS_OF_A_JOB = 19200, 100, 128
# What TensorFlow raises when a peer is gone.
PEER_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.InternalError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.UnknownError,
)
LONGEST_TEXT = 2**16


class PeerLost(Interrupted):
    """Another worker of the fit is gone; the last checkpoint is kept."""


@dataclasses.dataclass(frozen=True)
class Placement:
    """Devices and workers of a fit.

    Attributes:
        num_devices: of this worker. num_workers: of the fit. worker: the number of this one; 0 writes.
        strategy: that of `tf.distribute`; None for a single device.
    """

    num_devices: int = 1
    num_workers: int = 1
    worker: int = 0
    strategy: tf.distribute.Strategy | None = None

    @property
    def num_replicas(self) -> int:
        """Devices of all workers."""
        return self.num_devices * self.num_workers

    @property
    def is_chief(self) -> bool:
        """Whether this worker writes the run: the first of all."""
        return self.worker == 0

    def all_reduce(self, *values: float) -> list[float]:
        """Returns the sums of numbers over the workers; every worker has to call this, and waits for the others."""
        if self.num_workers == 1:
            return [float(value) for value in values]
        return [float(value) for value in self._sum(tf.constant(values, tf.float32))]

    def broadcast(self, text: str) -> str:
        """Returns the text of worker 0; every worker has to call this."""
        if self.num_workers == 1:
            return text
        content = text.encode()
        if len(content) > LONGEST_TEXT:
            raise ValueError(f"got {len(content)} bytes, expected at most {LONGEST_TEXT}.")
        own = content if self.is_chief else b""
        return (
            bytes(int(code) for code in self._sum(tf.constant([*own.ljust(LONGEST_TEXT, b"\0")], tf.int32)))
            .rstrip(b"\0")
            .decode()
        )

    def on_chief(self, function: Callable[[], Result]) -> Result | None:
        """Returns function() of worker 0, and None on the others, which wait until it has returned.

        Raises:
            MrigenError: on all workers, if it failed on worker 0.
        """
        if not self.is_chief:
            (status,) = self.all_reduce(0.0)
            if status:
                error = MrigenError(f"worker {self.worker}: worker 0 could not go on, and says why. Correct it there.")
                error.exit_status = int(status)
                raise error
            return None
        try:
            result = function()
        except MrigenError as error:
            self.all_reduce(error.exit_status)
            raise
        self.all_reduce(0.0)
        return result

    def positions(self, batch_size: int) -> tuple[int, int, int]:
        """Returns (first, last, size) of this worker's rows in a batch of all, and of a batch of one device."""
        size = batch_size // self.num_replicas
        first = self.worker * self.num_devices
        return first * size, (first + self.num_devices) * size, size

    def _sum(self, values: tf.Tensor):
        own = self.strategy.experimental_distribute_values_from_function(
            # Of the devices of a worker, one brings the value.
            lambda context: values if context.replica_id_in_sync_group % self.num_devices == 0 else 0 * values
        )
        summed = self._summer(own)
        return self.strategy.experimental_local_results(summed)[0].numpy()

    @property
    def _summer(self):
        if "summer" not in _SUMMERS:

            @tf.function(autograph=False)
            def summer(own):
                def reduce(value):
                    here = tf.identity(value)  # An argument has no device yet.
                    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, here)

                return self.strategy.run(reduce, args=(own,))

            _SUMMERS["summer"] = summer
        return _SUMMERS["summer"]


_SUMMERS: dict[str, Any] = {}
# A process is part of one cluster at most, for as long as it lives.
_JOINED: dict[tuple, tf.distribute.Strategy] = {}


def choose_placement(training: TrainingRecipe) -> Placement:
    """Returns where a fit of these settings runs; has to come before anything is computed.

    Raises:
        UsageError: more is asked for than there is.
    """
    cluster = find_cluster(training.workers)
    gpus = tf.config.list_physical_devices("GPU")
    asked = training.devices
    if asked != "auto" and gpus and asked > len(gpus):
        raise UsageError(
            f"training.devices: got {asked}, expected at most {len(gpus)}, the GPUs that can be seen. "
            "Lower it, or set auto."
        )
    num_devices = max(1, len(gpus)) if asked == "auto" else asked
    if cluster is None:
        strategy = None
        if num_devices > 1:
            kind = "GPU" if gpus else "CPU"
            if not gpus:
                _split_cpu(num_devices)
            strategy = tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(num_devices)])
        return Placement(num_devices, strategy=strategy)
    if not gpus and num_devices > 1:
        raise UsageError(
            f"training.devices: got {asked} on CPU with several workers, expected 1. Leave it out, or use more workers."
        )
    workers, worker = cluster["cluster"]["worker"], cluster["task"]["index"]
    key = (tuple(workers), worker, num_devices)
    if key not in _JOINED:
        os.environ["TF_CONFIG"] = json.dumps(cluster)
        try:
            if gpus:
                tf.config.set_visible_devices(gpus[:num_devices], "GPU")
            _JOINED[key] = tf.distribute.MultiWorkerMirroredStrategy()
            _take_signals_back()
        except PEER_ERRORS as error:
            raise PeerLost(
                f"training.workers: the workers did not meet ({_first_line(error)}). Start all again."
            ) from None
        except RuntimeError as error:
            raise UsageError(
                f"training.workers: got {len(workers)} after this process had begun to compute ({_first_line(error)}), "
                "expected a new process. Use mrigen fit."
            ) from None
    return Placement(num_devices, len(workers), worker, _JOINED[key])


def _take_signals_back() -> None:
    """Gives SIGTERM back to Python: TensorFlow's notice of preemption takes it when workers meet."""
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGTERM)
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)


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


def _split_cpu(number: int) -> None:
    """Makes logical devices of the CPU, once a process."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    made = tf.config.get_logical_device_configuration(cpu)
    if made and len(made) >= number:
        return
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * number)
    except RuntimeError:
        raise UsageError(
            f"training.devices: got {number} after this process had begun to compute, expected 1. Use mrigen fit."
        ) from None


def check_batch(batch_size: int, num_people: int, placement: Placement) -> None:
    """Raises a UsageError where a batch cannot be divided among the devices."""
    number, size = placement.num_replicas, min(batch_size, num_people)
    if size % number:
        nearest = max(1, round(size / number)) * number
        if nearest > num_people:
            nearest -= number
        people = f", with {num_people} training images" if size < batch_size else ""
        advice = f"Set {nearest}" if nearest else "Use fewer devices or workers"
        raise UsageError(
            f"training.batch_size: got {batch_size}{people}, expected a multiple of the {number} devices of all "
            f"workers. {advice}."
        )


def check_precision(precision: str, placement: Placement) -> None:
    """Raises a UsageError where the precision is not for several devices."""
    if precision == "mixed_float16" and placement.num_replicas > 1:
        raise UsageError(
            "training.precision: got float16 (with loss scaling) on several devices, expected bfloat16 or float32. "
            "Set training.precision=float32."
        )


def lost(run: Any, error: Exception) -> PeerLost:
    """Returns the error of a peer that is gone."""
    return PeerLost(
        f"{run}: another worker is gone ({_first_line(error)}); the last checkpoint is kept. Start all workers again, "
        f"with `mrigen.resume('{run}')`."
    )


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]

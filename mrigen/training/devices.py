"""Where a fit runs: one device, several, or several processes ("workers") that meet on the network."""

import dataclasses
import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from mrigen.errors import Interrupted, MrigenError, UsageError
from mrigen.recipe import TrainingRecipe
from mrigen.training.workers import find_cluster

Result = TypeVar("Result")
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


def find_devices(training: TrainingRecipe) -> tuple[dict | None, int]:
    """Returns the workers of a fit of these settings (see `find_cluster`), and the devices of each.

    Raises:
        UsageError: more is asked for than there is.
    """
    cluster, gpus, asked = find_cluster(training.workers), tf.config.list_physical_devices("GPU"), training.devices
    if asked != "auto" and gpus and asked > len(gpus):
        raise UsageError(
            f"training.devices: got {asked}, expected at most {len(gpus)}, the GPUs that can be seen. "
            "Lower it, or set auto."
        )
    num_devices = max(1, len(gpus)) if asked == "auto" else asked
    if cluster is not None and not gpus and num_devices > 1:
        raise UsageError(
            f"training.devices: got {asked} on CPU with several workers, expected 1. Leave it out, or use more workers."
        )
    return cluster, num_devices


def choose_placement(training: TrainingRecipe) -> Placement:
    """Returns where a fit of these settings runs; has to come before anything is computed.

    Raises:
        UsageError: more is asked for than there is.
    """
    cluster, num_devices = find_devices(training)
    gpus = tf.config.list_physical_devices("GPU")
    if cluster is None:
        strategy = None
        if num_devices > 1:
            kind = "GPU" if gpus else "CPU"
            if not gpus:
                _split_cpu(num_devices)
            strategy = tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(num_devices)])
        return Placement(num_devices, strategy=strategy)
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


def lost(run: Any, error: Exception) -> PeerLost:
    """Returns the error of a peer that is gone."""
    return PeerLost(
        f"{run}: another worker is gone ({_first_line(error)}); the last checkpoint is kept. Start all workers again, "
        f"with `mrigen.resume('{run}')`."
    )


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]

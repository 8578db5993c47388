"""The same network in several frameworks, each as a factory for `benchmarks.worker` that takes the fields of `Task`."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained, and how long it is timed.

    Attributes:
        volume_shape: (x, y, z) in voxels; each side a multiple of 2 ** blocks.
        channels: of each block, from full resolution down.
        latent_dim: number of latent variables.
        batch_size: volumes a step.
        precision: "float32" or "mixed_bfloat16".
        num_warm_up: steps before the first round.
        num_steps: fewest steps a round.
        min_seconds: shortest round; on a GPU a step takes milliseconds.
    """

    volume_shape: Sequence[int] = (48, 64, 48)
    channels: Sequence[int] = (32, 32, 32)
    latent_dim: int = 64
    batch_size: int = 4
    precision: str = "float32"
    num_warm_up: int = 3
    num_steps: int = 5
    min_seconds: float = 2.0

    def random_batch(self) -> np.ndarray:
        """Returns a batch (batch, x, y, z, 1) float32 in [0, 1] that stands in for volumes."""
        return np.random.default_rng(0).random((self.batch_size, *self.volume_shape, 1), dtype=np.float32)


def timed_steps(task: Task, step: Callable[[], object], gpu_peak_mb: Callable[[], float | None]):
    """Warms `step` up and returns a function that times a round of it.

    Args:
        task: how many steps.
        step: one training step, from a batch in host memory to updated weights; returns only when it is done.
        gpu_peak_mb: returns the largest GPU memory in use so far, MiB, or None without a GPU.
    """
    for _ in range(task.num_warm_up):
        step()

    def run_round() -> dict[str, float | None]:
        seconds, core_seconds = [], []
        while len(seconds) < task.num_steps or sum(seconds) < task.min_seconds:
            started, core_started = time.perf_counter(), time.process_time()
            step()
            seconds.append(time.perf_counter() - started)
            core_seconds.append(time.process_time() - core_started)
        return {
            "seconds": statistics.median(seconds),
            "core_seconds": statistics.median(core_seconds),
            "steps": len(seconds),
            "peak_gpu_mb": gpu_peak_mb(),
        }

    return run_round

"""How a training step grows with the size of the volumes and of the batch."""

import dataclasses
import math

from benchmarks.contenders import Measured, one_by_one
from benchmarks.machine import gpus, has_bfloat16
from benchmarks.report import Section
from benchmarks.step import FULL, KERAS, LOW, TORCH, contender, shape_name
from benchmarks.trainers import Task
from mrigen.system.machine import available_memory

NAMES = {
    "mrigen vae": (f"{KERAS}:mrigen", {"kind": "vae", "model": {"patch": 1}}),
    "PyTorch": (f"{TORCH}:plain", {}),
}
SHAPES = ((32, 32, 32), (48, 64, 48), (64, 64, 64), (96, 112, 96), (160, 192, 160))
BATCHED_SHAPE = (48, 64, 48)
BATCH_SIZES = (1, 2, 4, 8, 16)
# Share of the free memory that a step may be expected to take.
MEMORY_SHARE = 0.8


def measure(quick: bool = False) -> list[Section]:
    """Returns one table for the volumes and one for the batch."""
    task = Task(batch_size=1, num_warm_up=2, num_steps=3, min_seconds=1.0)
    shapes, batch_shape, batch_sizes = SHAPES, BATCHED_SHAPE, BATCH_SIZES
    if quick:
        task = dataclasses.replace(task, channels=(4, 4, 4), num_warm_up=1, num_steps=1, min_seconds=0.0)
        shapes, batch_shape, batch_sizes = ((8, 8, 8), (16, 16, 16)), (8, 8, 8), (1, 2)
    precision = LOW if has_bfloat16() else FULL
    text = (
        f"Blocks of {', '.join(map(str, task.channels))} channels each way, {precision}, every voxel (patch 1); each "
        f"cell in a fresh process, median of at least {task.num_steps} steps. Memory is the GPU's where there is one, "
        "else the process's."
    )
    by_shape = [dataclasses.replace(task, volume_shape=shape) for shape in shapes]
    by_batch = [dataclasses.replace(task, volume_shape=batch_shape, batch_size=size) for size in batch_sizes]
    return [
        _section("scaling: size of the volumes", text, by_shape, precision),
        _section("scaling: size of the batch", text, by_batch, precision),
    ]


def _section(title: str, text: str, tasks: list[Task], precision: str) -> Section:
    columns = ["volumes", "voxels a step"]
    rows = [[f"{task.batch_size} of {shape_name(task.volume_shape)}", _num_voxels(task)] for task in tasks]
    for name in NAMES:
        columns += [f"{name}: seconds", "a million voxels", "peak memory, MiB"]
        for row, cells in zip(rows, _measured(name, tasks, precision), strict=True):
            row += cells
    return Section(title, text, columns, rows)


def _measured(name: str, tasks: list[Task], precision: str) -> list[list]:
    """Returns [seconds, seconds a million voxels, peak memory] of each task; none from the first that does not fit."""
    cells, peaks = [], {}
    for task in tasks:
        expected = expected_mb(peaks, _num_voxels(task))
        if not gpus() and expected > MEMORY_SHARE * (available_memory() or math.inf) / 2**20:
            cells.append([f"skipped: needs about {expected / 2**10:.0f} GiB", None, None])
            continue
        each = one_by_one([contender(f"{name}, {shape_name(task.volume_shape)}", *NAMES[name], task, precision)])[0]
        if each.problem is None:
            peaks[_num_voxels(task)] = each.median("peak_rss_mb")
        seconds = each.median("seconds")
        cells.append(
            [each.problem or seconds, None if each.problem else 1e6 * seconds / _num_voxels(task), _peak_mb(each)]
        )
    return cells


def expected_mb(peaks: dict[int, float], num_voxels: int) -> float:
    """Returns the memory that `num_voxels` will take, on the line through the smallest and the largest step so far.

    Args:
        peaks: voxels a step -> peak memory, MiB.
        num_voxels: of the next step.

    Example:
        >>> expected_mb({1000: 600.0, 2000: 700.0}, 4000)
        900.0
        >>> expected_mb({1000: 600.0}, 4000)  # Nothing to go by yet.
        0.0
    """
    if len(peaks) < 2:
        return 0.0
    first, last = min(peaks), max(peaks)
    slope = (peaks[last] - peaks[first]) / (last - first)
    return peaks[last] + slope * (num_voxels - last)


def _num_voxels(task: Task) -> int:
    return task.batch_size * math.prod(task.volume_shape)


def _peak_mb(each: Measured) -> float | None:
    gpu = each.median("peak_gpu_mb")
    return each.median("peak_rss_mb") if gpu is None else gpu

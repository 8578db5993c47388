"""Peak memory and seconds of a training step at full resolution."""

from benchmarks.contenders import Measured, one_by_one
from benchmarks.report import Section
from benchmarks.step import FULL, LOW, QUICK_TASK, shape_name, trainer
from benchmarks.trainers import Task

NAMES = ("mrigen vae", "plain Keras", "PyTorch", "MONAI VarAutoEncoder")
TASK = Task((160, 192, 160), (8, 16, 32, 64), 64, 1, num_warm_up=1, num_steps=3, min_seconds=0.0)


def measure(quick: bool = False) -> list[Section]:
    """Returns the table of this part."""
    task = QUICK_TASK if quick else TASK
    measured = one_by_one([trainer(name, task, precision) for name in NAMES for precision in (LOW, FULL)])
    section = Section(
        "memory: one training step at full resolution",
        f"Batch {task.batch_size} of {shape_name(task.volume_shape)} voxels, blocks of "
        f"{', '.join(map(str, task.channels))} channels each way. Each in a fresh process of its own: largest "
        f"resident memory, libraries included, and the median of {task.num_steps} steps after {task.num_warm_up}.",
        ["", "parameters", "peak memory, MiB", "peak GPU memory, MiB", "seconds"],
        [_row(each) for each in measured],
    )
    return [section]


def _row(each: Measured) -> list:
    figures = [each.median(name) for name in ("peak_rss_mb", "peak_gpu_mb", "seconds")]
    return [each.contender.name, each.facts.get("parameters"), each.problem or figures[0], *figures[1:]]

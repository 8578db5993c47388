"""Peak memory and seconds of a training step at full resolution."""

import dataclasses

from benchmarks.contenders import Measured, one_by_one
from benchmarks.report import Section
from benchmarks.step import FULL, KERAS, LOW, QUICK_TASK, TORCH, contender, shape_name
from benchmarks.trainers import Task

# Channels as in the recipe vae.
TASK = Task((160, 192, 160), (16, 32, 64), 64, 1, num_warm_up=1, num_steps=3, min_seconds=0.0)
# Channels as field.md's AutoencoderKL has them; both latents are small volumes.
RESIDUAL_CHANNELS = (16, 32, 32)
RESIDUAL = {"residual": True, "latent_dim": None, "latent_channels": 3}
EVERY_VOXEL = {"patch": 1}
# name, factory and what it takes beside the task, precisions.
MRIGEN, MONAI = f"{KERAS}:mrigen", f"{TORCH}:monai"
VAES = (
    ("mrigen vae", MRIGEN, {"kind": "vae"}, (LOW, FULL)),
    ("mrigen vae, patch 1", MRIGEN, {"kind": "vae", "model": EVERY_VOXEL}, (LOW,)),
    ("plain Keras", f"{KERAS}:plain", {}, (LOW,)),
    ("PyTorch", f"{TORCH}:plain", {}, (LOW,)),
    ("MONAI VarAutoEncoder, halving at once", MONAI, {"at_full_resolution": False}, (LOW, FULL)),
    ("MONAI VarAutoEncoder", MONAI, {}, (LOW,)),
)
RESIDUAL_VAES = (
    ("mrigen vae", MRIGEN, {"kind": "vae", "model": RESIDUAL}, (LOW, FULL)),
    ("mrigen vae, patch 1", MRIGEN, {"kind": "vae", "model": RESIDUAL | EVERY_VOXEL}, (LOW, FULL)),
    ("MONAI AutoencoderKL", f"{TORCH}:monai_kl", {}, (LOW, FULL)),
)


def measure(quick: bool = False) -> list[Section]:
    """Returns a table of plain VAEs and one of residual blocks."""
    task = QUICK_TASK if quick else TASK
    residual = task if quick else dataclasses.replace(task, channels=RESIDUAL_CHANNELS)
    return [
        _section("memory: one training step at full resolution", VAES, task),
        _section("memory: the same with residual blocks and a spatial latent", RESIDUAL_VAES, residual),
    ]


def _section(title: str, trainers, task: Task) -> Section:
    contenders = [
        contender(name, factory, settings, task, precision)
        for name, factory, settings, precisions in trainers
        for precision in precisions
    ]
    return Section(
        title,
        f"Batch {task.batch_size} of {shape_name(task.volume_shape)} voxels, blocks of "
        f"{', '.join(map(str, task.channels))} channels each way. Each in a fresh process of its own: largest "
        f"resident memory, libraries included, and the median of {task.num_steps} steps after {task.num_warm_up}. "
        "At this size mrigen's blocks are given patches of 4 voxels a side (`model.patch: auto`); patch 1 gives them "
        "every voxel, as the peers do that do not halve at once.",
        ["", "parameters", "peak memory, MiB", "peak GPU memory, MiB", "seconds"],
        [_row(each) for each in one_by_one(contenders)],
    )


def _row(each: Measured) -> list:
    figures = [each.median(name) for name in ("peak_rss_mb", "peak_gpu_mb", "seconds")]
    return [each.contender.name, each.facts.get("parameters"), each.problem or figures[0], *figures[1:]]

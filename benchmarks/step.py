"""Seconds a training step of the paper's network, in mrigen and elsewhere."""

import dataclasses

from benchmarks.contenders import Contender, Measured, alternate
from benchmarks.report import Section
from benchmarks.trainers import Task

LOW, FULL = "mixed_bfloat16", "float32"
KERAS, TORCH = "benchmarks.trainers.keras_vae", "benchmarks.trainers.torch_vae"
# name -> factory, and what it takes beside the task.
TRAINERS = {
    "mrigen vae": (f"{KERAS}:mrigen", {"kind": "vae"}),
    "mrigen vae, not deterministic": (f"{KERAS}:mrigen", {"kind": "vae", "deterministic": False}),
    "mrigen autoencoder": (f"{KERAS}:mrigen", {"kind": "autoencoder"}),
    "plain Keras": (f"{KERAS}:plain", {}),
    "PyTorch": (f"{TORCH}:plain", {}),
    "MONAI VarAutoEncoder": (f"{TORCH}:monai", {}),
    "pythae VAE": (f"{TORCH}:pythae", {}),
}
TASK = Task()
QUICK_TASK = Task((16, 24, 16), (4, 4, 4), 8, 2, num_warm_up=1, num_steps=2, min_seconds=0.0)


def trainer(name: str, task: Task, precision: str) -> Contender:
    """Returns one of `TRAINERS`, set to train `task` in `precision`."""
    factory, settings = TRAINERS[name]
    task = dataclasses.replace(task, precision=precision)
    return Contender(f"{name}, {precision}", factory, {**dataclasses.asdict(task), **settings})


def measure(quick: bool = False) -> list[Section]:
    """Returns the table of this part."""
    task, num_rounds = (QUICK_TASK, 1) if quick else (TASK, 3)
    contenders = [trainer(name, task, precision) for name in TRAINERS for precision in (LOW, FULL)]
    measured = alternate(contenders, num_rounds)
    section = Section(
        "step: seconds a training step",
        f"Forward, backward and Adam, batch {task.batch_size} of {shape_name(task.volume_shape)} voxels; blocks of "
        f"{', '.join(map(str, task.channels))} channels each way, {task.latent_dim} latent variables. Median (and "
        f"range) of {num_rounds} alternating rounds of at least {task.num_steps} steps after {task.num_warm_up} to "
        "warm up. The ratio is to mrigen's vae in the precision that mrigen picks on this machine. In bfloat16, "
        "PyTorch and pythae run on channels_last_3d; MONAI's network cannot.",
        ["", "parameters", "seconds", "fastest to slowest round", "times mrigen's"],
        [row(each, reference(measured)) for each in measured],
    )
    return [section]


def reference(measured: list[Measured]) -> float | None:
    """Returns the seconds a step of mrigen as a user gets it: the first contender in the automatic precision."""
    return next((each.median("seconds") for each in measured if each.facts.get("is_automatic")), None)


def row(each: Measured, reference_seconds: float | None) -> list:
    """Returns the cells of one contender."""
    if each.problem or not each.rounds:
        return [each.contender.name, None, each.problem, None, None]
    seconds, rounds = each.median("seconds"), each.values("seconds")
    ratio = seconds / reference_seconds if reference_seconds else None
    return [each.contender.name, each.facts["parameters"], seconds, f"{min(rounds):.3g} to {max(rounds):.3g}", ratio]


def shape_name(volume_shape) -> str:
    """Returns a shape as people write it.

    Example:
        >>> shape_name((48, 64, 48))
        '48x64x48'
    """
    return "x".join(map(str, volume_shape))

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
    "the convolutions alone": (f"{KERAS}:convolutions", {}),
}
# In bfloat16 and in float32 each, but for two that say nothing more.
CONTENDERS = [
    (name, precision)
    for name in TRAINERS
    for precision in (LOW, FULL)
    if (name, precision) not in {("mrigen vae, not deterministic", FULL), ("pythae VAE", LOW)}
]
TASK = Task()
QUICK_TASK = Task((16, 24, 16), (4, 4, 4), 8, 2, num_warm_up=1, num_steps=2, min_seconds=0.0)


def trainer(name: str, task: Task, precision: str) -> Contender:
    """Returns one of `TRAINERS`, set to train `task` in `precision`."""
    return contender(name, *TRAINERS[name], task, precision)


def contender(name: str, factory: str, settings: dict, task: Task, precision: str) -> Contender:
    """Returns the contender that trains `task` in `precision`, with the factory's own `settings` beside it."""
    task = dataclasses.replace(task, precision=precision)
    return Contender(f"{name}, {precision}", factory, {**dataclasses.asdict(task), **settings})


def measure(quick: bool = False) -> list[Section]:
    """Returns the table of this part."""
    task, num_rounds = (QUICK_TASK, 1) if quick else (TASK, 3)
    contenders = [trainer(name, task, precision) for name, precision in CONTENDERS]
    measured = alternate(contenders, num_rounds)
    section = Section(
        "step: seconds a training step",
        f"Forward, backward and Adam, batch {task.batch_size} of {shape_name(task.volume_shape)} voxels; blocks of "
        f"{', '.join(map(str, task.channels))} channels each way, {task.latent_dim} latent variables. Median (and "
        f"range) of {num_rounds} alternating rounds of at least {task.num_steps} steps after {task.num_warm_up} to "
        "warm up. Ratios are to mrigen's vae in the precision that mrigen picks on this machine. Core seconds are the "
        "sum over all cores: they bear other work on the machine better than seconds do, but count the waiting "
        "of OpenMP's threads (PyTorch). In bfloat16 PyTorch runs on channels_last_3d; MONAI's network cannot. The last "
        "rows are plain Keras's convolutions, forward and backward, with nothing around them: a floor of this machine.",
        ["", "parameters", "seconds", "range", "times mrigen's", "core seconds", "times mrigen's"],
        [row(each, reference(measured)) for each in measured],
    )
    return [section]


def reference(measured: list[Measured]) -> Measured | None:
    """Returns mrigen as a user gets it: the first contender in the automatic precision that has figures."""
    return next((each for each in measured if each.facts.get("is_automatic") and each.rounds), None)


def row(each: Measured, mrigen: Measured | None) -> list:
    """Returns the cells of one contender, beside those of `mrigen`."""
    if each.problem or not each.rounds:
        return [each.contender.name, None, each.problem, *[None] * 4]
    rounds = each.values("seconds")
    cells = [each.contender.name, each.facts["parameters"]]
    for figure, more in (("seconds", [f"{min(rounds):.3g} to {max(rounds):.3g}"]), ("core_seconds", [])):
        value = each.median(figure)
        cells += [value, *more, value / mrigen.median(figure) if mrigen else None]
    return cells


def shape_name(volume_shape) -> str:
    """Returns a shape as people write it.

    Example:
        >>> shape_name((48, 64, 48))
        '48x64x48'
    """
    return "x".join(map(str, volume_shape))

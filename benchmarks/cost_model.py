"""What a cohort takes, computed from measured constants: python -m benchmarks.cost_model (seconds)

Prints the tables of docs/scaling.md; a test compares them. `--measure` prints the constants of this machine instead of
computing with those below (minutes).
"""

import dataclasses
import json
import math
import tempfile
import time
from pathlib import Path

import click

from benchmarks.report import markdown_table

GRIDS = {4: (48, 56, 48), 2: (96, 112, 96), 1: (160, 192, 160)}
DOCUMENT = Path(__file__).parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- python -m benchmarks.cost_model -->", "<!-- end -->"


@dataclasses.dataclass(frozen=True)
class Network:
    """A recipe on one core.

    Attributes:
        zooms: of its grid, mm.
        parameters: number.
        batch_size: volumes a step.
        step_seconds: of a training step of that batch, one core, float32.
        epochs: of the recipe.
        peak_mib: memory of the process after three steps.
    """

    zooms: int
    parameters: int
    batch_size: int
    step_seconds: float
    epochs: int
    peak_mib: float

    @property
    def megavoxels(self) -> float:
        """Millions of voxels a step."""
        return self.batch_size * math.prod(GRIDS[self.zooms]) / 1e6


# Core seconds a person: to prepare an image of 1 mm, and to read and change it for a training step.
PREPARE_SECONDS = {4: 0.16, 2: 0.19, 1: 0.24}
AUGMENT_SECONDS = {4: 0.023, 2: 0.158, 1: 0.713}
NETWORKS = {
    "vae": Network(4, 3_802_900, 8, 1.28, 60, 2106),
    "morph-2mm": Network(2, 2_433_764, 4, 0.46, 120, 1791),
    "vae-1mm": Network(1, 7_797_572, 4, 1.51, 60, 2249),
}
GIGABIT = 1e9 / 8  # bytes a second
TRAINING_SHARE = 0.7


@dataclasses.dataclass(frozen=True)
class Machine:
    """What a fit runs on; assumed, not measured.

    Attributes:
        devices: that share a batch; each takes as many volumes as the recipe says.
        speed: of a device, in cores of the measurement.
        cores: for the data, of all together; 0 where the devices are the cores.
        bandwidth: bytes a second between devices.
    """

    devices: int
    speed: float
    cores: int = 0
    bandwidth: float = math.inf


MACHINES = {
    "one core": Machine(1, 1),
    "a node of 64 cores": Machine(1, 64),
    "8 such nodes, 10 Gbit/s": Machine(8, 64, 0, 10 * GIGABIT),
    "8 such nodes, 1 Gbit/s": Machine(8, 64, 0, GIGABIT),
    "8 GPUs in a node of 64 cores": Machine(8, 1000, 64, 800 * GIGABIT),
}


def cache_bytes(people: int, zooms: int) -> int:
    """Returns the size of a cache: one byte a voxel (a record's frame is 40 bytes)."""
    return people * math.prod(GRIDS[zooms])


def build_hours(people: int, zooms: int, cores: int) -> float:
    """Returns how long so many cores prepare the images for."""
    return people * PREPARE_SECONDS[zooms] / cores / 3600


def epoch_terms(people: int, network: Network, machine: Machine) -> dict[str, float]:
    """Returns the hours of an epoch by term: step, augmentation, exchange.

    `TRAINING_SHARE` of the people are seen. Where the devices are the cores, the terms add up; else the data is made
    ready beside the steps, and the longer of the two counts.
    """
    seen = TRAINING_SHARE * people / 3600
    cores = machine.cores or machine.devices * machine.speed
    steps = seen / (network.batch_size * machine.devices)
    return {
        "step": steps * network.step_seconds / machine.speed,
        "augmentation": seen * AUGMENT_SECONDS[network.zooms] / cores,
        "exchange": steps * exchange_seconds(network, machine.devices, machine.bandwidth),
    }


def epoch_hours(people: int, network: Network, machine: Machine) -> float:
    """Returns the hours of an epoch; see `epoch_terms`."""
    terms = epoch_terms(people, network, machine)
    if machine.cores:
        return max(terms["step"] + terms["exchange"], terms["augmentation"])
    return sum(terms.values())


def exchange_seconds(network: Network, devices: int, bandwidth: float) -> float:
    """Returns how long a ring takes to add up the gradients: 2 (n - 1) / n of their bytes over one link."""
    return 2 * (devices - 1) / devices * 4 * network.parameters / bandwidth


def probe_bytes(people: int, zooms: int) -> int:
    """Returns what `mrigen probe` holds of the volumes: all of them, float32."""
    return 4 * cache_bytes(people, zooms)


def tables() -> str:
    """Returns the tables of docs/scaling.md."""
    grids = [
        [
            f"{zooms} mm, {'x'.join(map(str, shape))}", f"{cache_bytes(1, zooms) / 2**20:.2f}", PREPARE_SECONDS[zooms],
            AUGMENT_SECONDS[zooms], _size(cache_bytes(40_000, zooms)), f"{build_hours(40_000, zooms, 1):.1f}",
            f"{build_hours(40_000, zooms, 64):.2f}", _size(probe_bytes(40_000, zooms)),
        ]
        for zooms, shape in GRIDS.items()
    ]  # fmt: skip
    networks = [
        [
            f"`{name}`, {network.zooms} mm", f"{network.parameters:,}", f"{4 * network.parameters / 2**20:.1f}",
            network.batch_size, network.step_seconds, network.step_seconds / network.megavoxels,
            f"{network.peak_mib / 1024:.1f}",
        ]
        for name, network in NETWORKS.items()
    ]  # fmt: skip
    hours = [_cohort_row(name, network, machine) for name, network in NETWORKS.items() for machine in MACHINES]
    columns = (
        ["grid", "MiB a person", "prepare, core s", "augment, core s", "cache of 40,000", "build on 1 core, hours",
         "on 64, hours", "all volumes in float32"],
        ["recipe", "parameters", "gradients, MiB", "batch", "step, s", "s a million voxels", "memory, GiB"],
        ["recipe", "machine", "hours an epoch", "of all epochs", "read, MB/s", "steps", "augmentation", "exchange",
         "longest term"],
    )  # fmt: skip
    titles = ("Grids", "Networks", "A cohort of 40,000, 28,000 of them for training")
    parts = zip(titles, columns, (grids, networks, hours), strict=True)
    return "\n".join(f"## {title}\n\n{markdown_table(names, rows)}" for title, names, rows in parts)


def _cohort_row(name: str, network: Network, machine: str) -> list:
    terms = epoch_terms(40_000, network, MACHINES[machine])
    hours = epoch_hours(40_000, network, MACHINES[machine])
    rate = TRAINING_SHARE * cache_bytes(40_000, network.zooms) / hours / 3600
    return [
        f"`{name}`", machine, f"{hours:.3g}", f"{hours * network.epochs:.3g}", f"{rate / 1e6:.3g}",
        *(f"{value:.2g}" for value in terms.values()), max(terms, key=terms.get),
    ]  # fmt: skip


def _size(number: float) -> str:
    return f"{number / 1e12:.2f} TB" if number >= 1e12 else f"{number / 1e9:.1f} GB"


def measure() -> dict:
    """Returns the constants of this machine: core seconds of one thread; synthetic heads of 1 mm."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    found = {"prepare_seconds": {}, "augment_seconds": {}, "networks": {}}
    with tempfile.TemporaryDirectory() as folder:
        _measure_data(Path(folder), found)
    for name in NETWORKS:
        found["networks"][name] = _measure_network(name)
    return found


def _measure_network(name: str, steps: int = 2) -> dict:
    import numpy as np

    from mrigen.models import build_model
    from mrigen.recipe import load_recipe
    from mrigen.training.epochs import make_optimizer

    recipe = load_recipe(name)
    model = build_model(recipe.model, recipe.preprocess.volume_shape, "float32", 0)
    model.compile(optimizer=make_optimizer(recipe.training, steps), jit_compile=False)
    size, seconds = recipe.training.batch_size, []
    volumes = np.random.default_rng(0).random((size, *model.volume_shape, 1), dtype=np.float32)
    for _ in range(steps + 1):  # The first traces.
        began = time.process_time()
        model.train_on_batch(volumes)
        seconds.append(time.process_time() - began)
    figures = {"parameters": model.count_params(), "batch_size": size, "epochs": recipe.training.epochs}
    return {**figures, "step_seconds": round(min(seconds[1:]), 2)}


def _measure_data(folder: Path, found: dict, people: int = 6) -> None:
    import numpy as np

    from mrigen.data.cache import open_cache
    from mrigen.data.dataset import open_cohort
    from mrigen.data.phantom import PhantomSettings, write_phantom_cohort
    from mrigen.data.pipeline import training_dataset
    from mrigen.recipe import AugmentRecipe, DataRecipe, PreprocessRecipe

    root = write_phantom_cohort(folder / "files", PhantomSettings(num_subjects=people, zooms=1.0), num_workers=1)
    for zooms, shape in GRIDS.items():
        settings = PreprocessRecipe(zooms=zooms, volume_shape=shape)
        began = time.process_time()
        cache = open_cache(
            open_cohort(DataRecipe(root=str(root))), settings, directory=folder / f"cache-{zooms}", num_workers=1
        )
        found["prepare_seconds"][zooms] = round((time.process_time() - began) / people, 3)
        batches = training_dataset(cache, np.arange(people), 2, 0, 5, augment=AugmentRecipe(), zooms=(zooms,) * 3)
        began = time.process_time()
        count = sum(len(batch) for batch in batches)
        found["augment_seconds"][zooms] = round((time.process_time() - began) / count, 4)


@click.command()
@click.option("--measure", "again", is_flag=True, help="Measure the constants of this machine.")
@click.option("--write", is_flag=True, help="Put the tables into docs/scaling.md.")
def main(again: bool, write: bool) -> None:
    """Prints the tables of docs/scaling.md, or the constants of this machine."""
    if again:
        click.echo(json.dumps(measure(), indent=2))
        return
    if write:
        text = DOCUMENT.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        DOCUMENT.write_text(f"{head}{BEGIN}\n\n{tables()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    click.echo(tables(), nl=False)


if __name__ == "__main__":
    main()

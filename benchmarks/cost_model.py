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
        peak_mib: memory of the process.
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


# CONSTANTS
PREPARE_SECONDS = {4: 0.0, 2: 0.0, 1: 0.0}
AUGMENT_SECONDS = {4: 0.0, 2: 0.0, 1: 0.0}
FILE_BYTES = 0
NETWORKS: dict[str, Network] = {}

# Bytes a second; not measured.
GIGABIT = 1e9 / 8
SHARES = {"train": 0.7, "validation": 0.1, "heldout": 0.2}


def cache_bytes(people: int, zooms: int) -> int:
    """Returns the size of a cache: one byte a voxel (a record's frame is 40 bytes)."""
    return people * math.prod(GRIDS[zooms])


def build_hours(people: int, zooms: int, cores: int) -> float:
    """Returns how long so many cores prepare the images for."""
    return people * PREPARE_SECONDS[zooms] / cores / 3600


def epoch_hours(people: int, network: Network, speed: float, devices: int = 1, bandwidth: float = math.inf) -> float:
    """Returns the hours of an epoch over the training people.

    Args:
        people: of the cohort; `SHARES["train"]` of them are seen.
        network: the recipe.
        speed: of one device, in cores of the measurement.
        devices: that share the batch, each with `network.batch_size` volumes.
        bandwidth: bytes a second between any two of them.
    """
    step = network.step_seconds / speed + exchange_seconds(network, devices, bandwidth)
    return SHARES["train"] * people / (network.batch_size * devices) * step / 3600


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
    hours = [
        _cohort_row(name, network, speed, devices)
        for name, network in NETWORKS.items()
        for speed, devices in ((1, 1), (64, 1), (64, 8), (1000, 8))
    ]
    columns = (
        ["grid", "MiB a person", "prepare, core s", "augment, core s", "cache of 40,000", "build on 1 core, hours",
         "on 64, hours", "all volumes in float32"],
        ["recipe", "parameters", "gradients, MiB", "batch", "step, s", "s a million voxels", "memory, GiB"],
        ["recipe", "devices", "speed of each, cores", "hours an epoch", "days, all epochs", "read, MB/s",
         "cores that augment", "exchange by 1 Gbit/s, of a step", "by 10 Gbit/s"],
    )  # fmt: skip
    titles = ("Grids", "Networks", "A cohort of 40,000, 28,000 of them for training")
    parts = zip(titles, columns, (grids, networks, hours), strict=True)
    return "\n".join(f"### {title}\n\n{markdown_table(names, rows)}" for title, names, rows in parts)


def _cohort_row(name: str, network: Network, speed: float, devices: int) -> list:
    hours = epoch_hours(40_000, network, speed, devices, 10 * GIGABIT)
    step = network.step_seconds / speed
    exchanges = [exchange_seconds(network, devices, link * GIGABIT) / step for link in (1, 10)]
    rate = network.batch_size * devices / (step + exchanges[1] * step)  # volumes a second
    return [
        f"`{name}`", devices, speed, f"{hours:.2f}", f"{hours * network.epochs / 24:.1f}",
        f"{rate * math.prod(GRIDS[network.zooms]) / 1e6:.1f}", f"{rate * AUGMENT_SECONDS[network.zooms]:.1f}",
        *(f"{100 * share:.1f} %" if devices > 1 else "–" for share in exchanges),
    ]  # fmt: skip


def _size(number: float) -> str:
    return f"{number / 1e12:.2f} TB" if number >= 1e12 else f"{number / 1e9:.1f} GB"


def measure() -> dict:
    """Returns the constants of this machine: one thread; synthetic heads of 1 mm."""
    from mrigen.recipe import load_recipe
    from mrigen.training import plan_fit

    found = {"prepare_seconds": {}, "augment_seconds": {}, "networks": {}}
    with tempfile.TemporaryDirectory() as folder:
        _measure_data(Path(folder), found)
    for name in NETWORKS:
        recipe = load_recipe(name, ["training.precision=float32"])
        plan = plan_fit(recipe)
        found["networks"][name] = {
            "parameters": plan.num_parameters, "batch_size": plan.batch_size, "epochs": recipe.training.epochs,
            "step_seconds": round(plan.step_seconds, 3), "peak_mib": round(plan.peak_bytes / 2**20),
        }  # fmt: skip
    return found


def _measure_data(folder: Path, found: dict, people: int = 6) -> None:
    import numpy as np

    from mrigen.data.cache import open_cache
    from mrigen.data.dataset import open_cohort
    from mrigen.data.phantom import PhantomSettings, write_phantom_cohort
    from mrigen.data.pipeline import training_dataset
    from mrigen.recipe import AugmentRecipe, DataRecipe, PreprocessRecipe

    root = write_phantom_cohort(folder / "files", PhantomSettings(num_subjects=people, zooms=1.0), num_workers=1)
    files = list(root.glob("sub-*/**/*_T1w.nii*"))
    found["file_bytes"] = round(sum(path.stat().st_size for path in files) / len(files))
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

"""How well the forecast of collapse fits what training finds: python -m benchmarks.collapse

Fits ten small VAEs of one synthetic cohort, whose decoders are sure of themselves to very different degrees (half of
them within a factor of 4 of the variance from which on nothing survives), and prints the forecast beside the active
latent variables of each.

The forecast is of the optimum, and near that variance a fit from nothing does not come to it in any time that a
benchmark has: its start is a saddle, and weak directions are worth less than a nat. So the fits are a chain: the first
has the surest decoder and finds every direction, and each of the others starts from the one before it
(`training.start_from`), and gives up what does not pay any more.

Beside the active latent variables stand the active directions: principal directions of the posterior means along which
they vary by as much. A direction that lies across several variables makes each of them active, at a price of a fraction
of a nat, and is one direction all the same; of such it is that the forecast speaks.
"""

import math
import tempfile
from pathlib import Path

import click
import numpy as np

from mrigen.analysis.diagnosis import forecast_of
from mrigen.data.dataset import open_dataset
from mrigen.data.pipeline import read_volumes
from mrigen.recipe import parse_recipe
from mrigen.statistics.collapse import count_active
from mrigen.training import fit

RECIPE = """
data: {source: phantom, num_subjects: 120, phantom: {zooms: 8}, split: {train: 0.8, validation: 0.1, heldout: 0.1}}
preprocess: {zooms: 12, volume_shape: [16, 20, 16]}
model: {kind: vae, latent_dim: 16, blocks: 2, channels: [8, 16], patch: 2}
training:
  {epochs: 150, kl_warmup_epochs: 50, early_stopping_epochs: 150, learning_rate: 3e-3, augment: null,
   precision: float32}
"""
# Of the fits that start from another one: the KL counts whole from the first epoch.
LATER = ("training.kl_warmup_epochs=0", "training.epochs=100", "training.early_stopping_epochs=100")
# Decoder variances, as multiples of the critical one, in the order of the chain.
MULTIPLES = (0.0003, 0.003, 0.03, 0.1, 0.25, 0.4, 0.6, 1.5, 3.0, 10.0)


def main() -> None:
    """Prints a line for each setting, and how many forecasts are within a factor of 2."""
    with tempfile.TemporaryDirectory() as folder:
        _compare(Path(folder))


def _compare(runs: Path) -> None:
    dataset = open_dataset(parse_recipe(RECIPE))
    people = read_volumes(dataset.cache, dataset.rows("train"))
    critical = forecast_of(parse_recipe(RECIPE).model, people, 16)[0].critical_variance
    hits, hits_of_variables = 0, 0
    for number, multiple in enumerate(MULTIPLES):
        changes = [f"model.decoder_sigma={math.sqrt(multiple * critical):.8g}"]
        if number:
            changes += [f"training.start_from={runs / str(number - 1)}", *LATER]
        recipe = parse_recipe(RECIPE, overrides=changes)
        forecast = forecast_of(recipe.model, people, recipe.model.latent_dim)[0].num_directions
        run = fit(recipe, runs / str(number))
        active, directions = run.metrics["active_units"], active_directions(run.load_latents("train")["loc"])
        hits += is_near(forecast, directions)
        hits_of_variables += is_near(forecast, active)
        click.echo(
            f"{multiple:g} times critical: forecast {forecast}, active directions {directions}, active variables "
            f"{active}, KL {run.metrics['kl_nats']:.2f} nats{'' if is_near(forecast, directions) else ' (missed)'}"
        )
    click.echo(
        f"{hits} of {len(MULTIPLES)} within a factor of 2; of the forecast and active variables {hits_of_variables}"
    )


def active_directions(locations: np.ndarray) -> int:
    """Returns how many principal directions of the posterior means (people, latent) are active, as variables are.

    Example: one direction that lies across two variables.
        >>> active_directions(np.array([[1.0, 1.0], [-1.0, -1.0]]))
        1
    """
    axes = np.linalg.eigh(np.cov(locations.T, bias=True))[1]
    return count_active(locations @ axes)


def is_near(forecast: int, found: int) -> bool:
    """Whether a forecast is within a factor of 2; none but none is within any factor of none.

    Example:
        >>> is_near(1, 2), is_near(1, 0), is_near(0, 0)
        (True, False, True)
    """
    return 0.5 * found <= forecast <= 2.0 * found


if __name__ == "__main__":
    main()

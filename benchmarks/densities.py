"""What each density is worth: python -m benchmarks.densities RUN

Prints, for every density that samples of the run can be drawn from, the mean log-density of posterior draws of held-out
people (of a run that was told covariates: for people with theirs), what is gained over the standard normal, and the
MS-SSIM of random pairs of samples beside that of the training heads.
"""

import sys
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.samples import NUM_SAMPLES, mean_ms_ssim
from mrigen.data.pipeline import read_volumes
from mrigen.generation.densities import DENSITIES, choose_density, posterior_draws
from mrigen.runs import open_run
from mrigen.runs.encoding import decode_latents


def main() -> None:
    """Prints the table."""
    run = open_run(Path(sys.argv[1]))
    dataset, model = run.open_dataset(), run.load_model()
    draws, conditions = posterior_draws(run, model, "heldout", covariates=run.covariates)
    normal = stats.norm.logpdf(draws.astype(float)).sum(axis=1).mean()
    real = read_volumes(dataset.cache, dataset.rows("train"))
    print(f"standard normal: {normal:.1f} nats; MS-SSIM of training heads {_ms_ssim(real):.3f}")
    chosen = choose_density(run, model, covariates=run.covariates).name
    for name in DENSITIES[1:]:
        density = choose_density(run, model, name, covariates=run.covariates)
        value = density.log_density(draws, conditions).mean()
        generator = np.random.default_rng(0)
        told = None
        if conditions is not None:  # Of people as the held-out ones are.
            told = conditions[generator.choice(len(conditions), NUM_SAMPLES)]
        latents = np.stack(
            [density.draw(generator, 1.0, None if told is None else told[number]) for number in range(NUM_SAMPLES)]
        )
        heads = np.clip(decode_latents(model, latents, told), 0.0, 1.0)
        print(
            f"{name}: {value:.1f} nats ({value - normal:+.1f}), MS-SSIM {_ms_ssim(heads):.3f}"
            f"{' (auto)' if name == chosen else ''}"
        )


def _ms_ssim(volumes: np.ndarray) -> float:
    return mean_ms_ssim(volumes, np.random.default_rng(0))


if __name__ == "__main__":
    main()

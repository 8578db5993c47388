"""What every density over latents can do, and the one that needs no fit."""

import abc

import numpy as np
import tensorflow as tf
from scipy import stats

from mrigen.distributions import NormalPrior, Prior


class Density(abc.ABC):
    """Where the latents of samples are drawn from.

    Attributes:
        name: for tables.
        effects: (condition, latent), what covariates add to the latents of a person; None where they add nothing.
    """

    name: str
    effects: np.ndarray | None = None

    def draw(self, generator: np.random.Generator, temperature: float = 1.0, condition=None) -> np.ndarray:
        """Returns one latent vector (latent,) float32.

        Args:
            generator: of the noise.
            temperature: multiplies the deviation from the middle.
            condition: covariates (condition,); None where nothing is known.
        """
        z = self.draw_base(generator, temperature)
        if self.effects is not None and condition is not None:
            z = z + condition @ self.effects
        return z.astype(np.float32)

    def log_density(self, latents: np.ndarray, condition=None) -> np.ndarray:
        """Returns the log-density of `latents` (n, latent), (n,) nats; `condition` as in `draw`, (n, condition)."""
        latents = np.asarray(latents, dtype=np.float64)
        if self.effects is not None and condition is not None:
            latents = latents - np.asarray(condition, dtype=np.float64) @ self.effects
        return self.base_log_density(latents)

    @abc.abstractmethod
    def draw_base(self, generator: np.random.Generator, temperature: float) -> np.ndarray:
        """Returns what `draw` returns, for someone of whom nothing is known."""

    @abc.abstractmethod
    def base_log_density(self, latents: np.ndarray) -> np.ndarray:
        """Returns what `log_density` returns, for people of whom nothing is known."""


class PriorDensity(Density):
    """The prior of a VAE: of people with these covariates, where it is conditional."""

    name = "prior"

    def __init__(self, prior: Prior):
        self.prior = prior

    def draw(self, generator, temperature=1.0, condition=None):
        if isinstance(self.prior, NormalPrior) and not self.prior.condition_size:
            return (temperature * generator.standard_normal(self.prior.latent_size)).astype(np.float32)
        seed = generator.integers(2**31, size=2, dtype=np.int32)
        condition = None if condition is None else tf.constant(condition[None], tf.float32)
        return self.prior.draw(1, seed, condition, temperature)[0].numpy()

    def log_density(self, latents, condition=None):
        if isinstance(self.prior, NormalPrior) and not self.prior.condition_size:
            return self.base_log_density(np.asarray(latents, dtype=np.float64))
        condition = None if condition is None else tf.constant(condition, tf.float32)
        return self.prior(tf.constant(latents, tf.float32), condition).numpy().astype(np.float64)

    def draw_base(self, generator, temperature):
        return self.draw(generator, temperature)

    def base_log_density(self, latents):
        return stats.norm.logpdf(latents).sum(axis=1)

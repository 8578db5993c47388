"""What the training of a VAE minimises: ways to put likelihood and prior together, in nats per subject."""

import dataclasses
import math

import tensorflow as tf

from mrigen.distributions import pairwise_log_density
from mrigen.losses import mean_discrepancy


@dataclasses.dataclass(frozen=True)
class Terms:
    """What a step found, for draws * batch rows: all people once for the first draw, again for the second, ...

    Attributes:
        nll: (rows,) -log p(x given z). mse: (rows,) mean squared error of a voxel.
        kl: (rows,) KL of posterior and prior, in closed form or by the draw.
        kl_per_dimension: (rows, latent), or None where it is no sum over latent variables.
        log_ratio: (rows,) log q(z given x) - log p(z) at the draws.
        z, loc, scale: (rows, latent), the draws and the parameters of the posteriors.
        prior_draws: (rows + kept, latent), draws from the prior.
        num_draws: draws a person. num_people: training people.
        kept: what `Memory` has of the people before (z, or loc and scale, and is_kept), or None.
    """

    nll: tf.Tensor
    mse: tf.Tensor
    kl: tf.Tensor
    kl_per_dimension: tf.Tensor | None
    log_ratio: tf.Tensor
    z: tf.Tensor
    loc: tf.Tensor
    scale: tf.Tensor
    prior_draws: tf.Tensor
    num_draws: int
    num_people: int
    kept: dict[str, tf.Tensor] | None = None


@dataclasses.dataclass(frozen=True)
class Objective:
    """An objective of `OBJECTIVES` and its numbers.

    Attributes:
        name: which.
        beta: weight of the KL term.
        free_bits: nats of each latent variable's KL, mean over the batch, that cost nothing ("elbo").
        capacity_nats: the KL that is aimed at ("capacity").
        mmd_weight: nats for a unit of the maximum mean discrepancy ("mmd").
        tc_weight: weight of the total correlation ("tc").

    References:
        elbo: Kingma and Welling 2014; beta: Higgins et al. 2017; free bits: Kingma et al. 2016, appendix C.8.
        capacity: Burgess et al. 2018, equation 8. mmd: Zhao et al. 2019, InfoVAE; Tolstikhin et al. 2018, section 4.
        tc: Chen et al. 2018, Isolating sources of disentanglement, equation 4. iw: Burda et al. 2016, equation 8.
    """

    name: str = "elbo"
    beta: float = 1.0
    free_bits: float = 0.0
    capacity_nats: float = 100.0
    mmd_weight: float = 1000.0
    tc_weight: float = 4.0

    def get_config(self) -> dict:
        """Returns what `VariationalAutoencoder` takes."""
        return {"objective" if name == "name" else name: value for name, value in vars(self).items()}

    @property
    def looks_across(self) -> bool:
        """Whether the loss is no mean of one value a person, so that it takes the whole batch to know it."""
        return self.name in ("capacity", "mmd", "tc") or (self.name == "elbo" and self.free_bits > 0.0)

    @property
    def kept(self) -> tuple[str, ...]:
        """What the loss has to know of the people before, by the names of `Terms`."""
        return {"mmd": ("z",), "tc": ("loc", "scale")}.get(self.name, ())

    def loss(self, terms: Terms, kl_weight):
        """Returns the mean loss of a subject, a scalar.

        Args:
            terms: of the step.
            kl_weight: from 0 to 1, by the KL schedule.
        """
        return OBJECTIVES[self.name](self, terms, kl_weight)


def elbo(objective: Objective, terms: Terms, kl_weight):
    """Returns nll + beta * kl, with free bits."""
    return tf.reduce_mean(terms.nll) + kl_weight * objective.beta * freed_kl(terms, objective.free_bits)


def paper(objective: Objective, terms: Terms, kl_weight):
    """Returns voxel-mean squared error + summed KL: the term paper's loss, which collapses."""
    return tf.reduce_mean(terms.mse + kl_weight * terms.kl)


def capacity(objective: Objective, terms: Terms, kl_weight):
    """Returns nll + beta * |kl - capacity|; the capacity rises with the KL schedule."""
    distance = tf.abs(tf.reduce_mean(terms.kl) - kl_weight * objective.capacity_nats)
    return tf.reduce_mean(terms.nll) + objective.beta * distance


def mmd(objective: Objective, terms: Terms, kl_weight):
    """Returns the ELBO's loss + the discrepancy between the posteriors of all people together and the prior.

    It is that of the draws of this batch and those kept of the batches before; a few draws alone would say little.
    """
    z, weights = terms.z, None
    if terms.kept is not None:
        z = tf.concat([z, terms.kept["z"]], axis=0)
        weights = tf.concat([tf.ones_like(terms.nll), tf.cast(terms.kept["is_kept"], tf.float32)], axis=0)
        # Only the batch can move, and is a small part of what the value is of: its gradient is that of all.
        share = tf.reduce_sum(weights) / tf.cast(tf.shape(terms.nll)[0], tf.float32)
    discrepancy = mean_discrepancy(z, terms.prior_draws, weights)
    if weights is not None:
        discrepancy += (share - 1.0) * (discrepancy - tf.stop_gradient(discrepancy))
    return elbo(objective, terms, kl_weight) + kl_weight * objective.mmd_weight * discrepancy


def tc(objective: Objective, terms: Terms, kl_weight):
    """Returns nll + KL, whose part that is total correlation of the latents weighs `tc_weight`; see
    `log_aggregate`. With a weight of 1 the loss is the ELBO's."""
    joint, product = log_aggregate(terms)
    penalty = terms.log_ratio + (objective.tc_weight - 1.0) * (joint - product)
    return tf.reduce_mean(terms.nll + kl_weight * objective.beta * penalty)


def log_aggregate(terms: Terms):
    """Returns the log-density of the draws under the posteriors of all people together, and under the product of its
    margins, (rows,) nats both; the mean of the difference is the total correlation of the latents.

    A draw's own posterior counts as that of one person, those of the others in the batch and of the people kept from
    the batches before stand for all the rest. (Of a batch of 8 alone the estimate is off by several times the total
    correlation itself.) No gradient goes through these posteriors: in the mean over draws from the aggregate there is
    none, as the densities integrate to one, whatever their parameters.
    """
    batch = tf.shape(terms.z)[0] // terms.num_draws
    loc, scale = (tf.stop_gradient(values[:batch]) for values in (terms.loc, terms.scale))
    is_own = tf.tile(tf.eye(batch, dtype=tf.bool), [terms.num_draws, 1])
    is_other = ~is_own
    if terms.kept is not None:
        is_kept = tf.broadcast_to(terms.kept["is_kept"][None], [tf.shape(terms.z)[0], tf.shape(terms.kept["loc"])[0]])
        loc = tf.concat([loc, terms.kept["loc"]], axis=0)
        # Where nothing is kept yet, any scale does.
        scale = tf.concat([scale, tf.where(terms.kept["is_kept"][:, None], terms.kept["scale"], 1.0)], axis=0)
        is_own, is_other = tf.concat([is_own, is_kept & False], axis=1), tf.concat([is_other, is_kept], axis=1)
    others = tf.reduce_sum(tf.cast(is_other, tf.float32), axis=1, keepdims=True)
    own_share = tf.where(others > 0.0, 1.0 / max(terms.num_people, 1), 1.0)
    shares = tf.where(is_own, own_share, tf.where(is_other, (1.0 - own_share) / tf.maximum(others, 1.0), 0.0))
    pairs = pairwise_log_density(terms.z, loc, scale)
    log_shares = tf.math.log(shares)
    joint = tf.reduce_logsumexp(log_shares + tf.reduce_sum(pairs, axis=-1), axis=1)
    return joint, tf.reduce_sum(tf.reduce_logsumexp(log_shares[..., None] + pairs, axis=1), axis=-1)


def iw(objective: Objective, terms: Terms, kl_weight):
    """Returns minus the importance-weighted bound of `num_draws` draws; with one draw it is the ELBO."""
    log_weights = -(terms.nll + kl_weight * objective.beta * terms.log_ratio)
    log_weights = tf.reshape(log_weights, [terms.num_draws, -1])
    return -tf.reduce_mean(tf.reduce_logsumexp(log_weights, axis=0)) + math.log(terms.num_draws)


OBJECTIVES = {"elbo": elbo, "paper": paper, "capacity": capacity, "mmd": mmd, "tc": tc, "iw": iw}


def freed_kl(terms: Terms, free_bits: float):
    """Returns the mean KL, in which no latent variable counts for less than `free_bits` (all together, where the KL is
    no sum over them)."""
    if not free_bits:
        return tf.reduce_mean(terms.kl)
    if terms.kl_per_dimension is None:
        return tf.maximum(tf.reduce_mean(terms.kl), free_bits * terms.z.shape[-1])
    return tf.reduce_sum(tf.maximum(tf.reduce_mean(terms.kl_per_dimension, axis=0), free_bits))

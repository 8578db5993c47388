"""The variational autoencoder: posterior, prior, likelihood and objective, each of which can be chosen."""

import functools

import keras
import tensorflow as tf

from mrigen.distributions import LIKELIHOODS, POSTERIORS, PRIORS, NormalPrior, VampPrior, has_closed_form, kl_nats
from mrigen.layers import Erasure, Predictability
from mrigen.layers.replicas import draw_at_position, rows_of_all
from mrigen.models.base import LatentModel
from mrigen.models.batches import split_inputs
from mrigen.models.vae import adaptation
from mrigen.models.vae.keys import VAERecipe, find_conflict
from mrigen.models.vae.memory import Memory
from mrigen.models.vae.objectives import Objective, Terms
from mrigen.models.vae.refinement import Refinement
from mrigen.schema import check_arguments

# Arguments of the model, and keys of a recipe, that an autoencoder does not have.
OPTIONS = (
    "objective",
    "beta",
    "free_bits",
    "capacity_nats",
    "mmd_weight",
    "tc_weight",
    "num_draws",
    "likelihood",
    "decoder_sigma",
    "posterior",
    "posterior_rank",
    "prior",
    "prior_components",
    "invariance_weight",
)
# Share of the people of a training step whose covariates are withheld, so that the model can do without.
WITHHELD_SHARE = 0.1
# People of the batches before that objectives know of that are of all people: of spatial latents fewer.
MOST_KEPT = 512
KEPT_NUMBERS = 2**20


@keras.saving.register_keras_serializable(package="mrigen")
class VariationalAutoencoder(LatentModel):
    """Maximises the evidence lower bound of volumes, in nats per subject, or another `Objective`.

    Args:
        objective, beta, free_bits, capacity_nats, mmd_weight, tc_weight: see `Objective`.
        num_draws: draws from each posterior in a training step; the "iw" objective takes several.
        likelihood: "gaussian", "laplace" or "student"; decoder_sigma: its `sigma`; masked: see `Likelihood`.
        posterior: "diagonal" or "low_rank", with `posterior_rank` directions.
        prior: "normal", "mixture" or "vamp", of `prior_components`, or "flow".
        invariant: columns of the covariates that latents should not predict; invariance_weight: nats that predicting
            all of them costs a subject (see `Predictability`); what is left, `erasure` takes out after training.
        refinement_steps: by which inference improves on the encoder's guess, after training; see `Refinement`.
        See `LatentModel` for the others and for shapes. The output also holds "scale" and "z" (and "factor" with a
        low-rank posterior). With a `condition_size`, the input is {"volumes", "condition": (batch, condition_size)}.

    References:
        Kingma and Welling 2014, Auto-encoding variational Bayes; Rybkin et al. 2021 (the decoder's sigma).
    """

    def __init__(
        self,
        *args,
        objective="elbo",
        beta=1.0,
        free_bits=0.0,
        capacity_nats=100.0,
        mmd_weight=1000.0,
        tc_weight=4.0,
        num_draws=1,
        likelihood="gaussian",
        decoder_sigma="optimal",
        masked=False,
        posterior="diagonal",
        posterior_rank=4,
        prior="normal",
        prior_components=16,
        invariant=(),
        invariance_weight=100.0,
        refinement_steps=0,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        # What the configuration holds beside the objective's numbers.
        self.parts = {
            "likelihood": likelihood,
            "decoder_sigma": decoder_sigma,
            "posterior": posterior,
            "posterior_rank": posterior_rank,
            "prior": prior,
            "prior_components": prior_components,
        }
        self.objective = Objective(objective, beta, free_bits, capacity_nats, mmd_weight, tc_weight)
        settings = {
            **self.objective.get_config(),
            **self.parts,
            "num_draws": num_draws,
            "invariance_weight": invariance_weight,
            "refinement_steps": refinement_steps,
        }
        check_arguments(VAERecipe, settings)
        given = "the covariates of condition_size" if self.condition_size else ""
        conflict = find_conflict(latent_dim=self.latent_dim, given=given, **settings)
        if conflict is not None:
            raise ValueError(conflict)
        self.refinement_steps = refinement_steps
        self.invariant = tuple(invariant)
        self.invariance_weight = invariance_weight
        self.num_draws = num_draws
        self.masked = masked
        options = {"rank": posterior_rank} if posterior == "low_rank" else {}
        self.to_posterior = POSTERIORS[posterior](
            self.latent_dim, self.latent_channels, seed=self.seed + 400, name="posterior", **options
        )
        options = {"num_components": prior_components} if prior in ("mixture", "vamp") else {}
        if prior == "vamp":
            options["volume_shape"] = self.volume_shape
        self.prior = PRIORS[prior](self.latent_size, self.condition_size, seed=self.seed + 700, name="prior", **options)
        if isinstance(self.prior, VampPrior):
            self.prior.encode = functools.partial(self.posterior, refined=False)
        self.likelihood = LIKELIHOODS[likelihood](decoder_sigma, masked, name="likelihood")
        # Keys the noise of a training step, and is saved with the weights, so a resumed fit draws what it would have.
        self.step = self.add_weight(name="step", shape=(), initializer="zeros", trainable=False, dtype="int32")
        # From 0 to 1, by the KL schedule, which may set it before each epoch.
        self.kl_weight = self.add_weight(
            name="kl_weight", shape=(), initializer="ones", trainable=False, dtype="float32", autocast=False
        )
        self.predictability = Predictability(name="predictability") if self.invariant else None
        self.erasure = Erasure(name="erasure") if self.invariant else None
        self.refinement = Refinement(refinement_steps, name="refinement") if refinement_steps else None
        self.memory = None
        if self.objective.kept:
            widths = dict.fromkeys(self.objective.kept, self.latent_size)
            if self.condition_size:
                widths["condition"] = self.condition_size
            self.memory = Memory(widths, max(1, min(MOST_KEPT, KEPT_NUMBERS // self.latent_size)), name="memory")
        self.report("nll_nats", "kl_nats", "elbo_nats", "mse", "decoder_sigma")
        if self.invariant:
            self.reported["predictability"] = keras.metrics.Mean(name="predictability")

    @classmethod
    def from_recipe(
        cls, recipe: VAERecipe, volume_shape, precision: str, seed: int, **options
    ) -> "VariationalAutoencoder":
        return super().from_recipe(
            recipe,
            volume_shape,
            precision,
            seed,
            masked=recipe.likelihood_mask is not None,
            refinement_steps=recipe.chosen_refinement_steps,
            **{name: getattr(recipe, name) for name in OPTIONS},
            **options,
        )

    def build_latent(self, features_shape):
        self.to_posterior.build(features_shape)
        self.prior.build((None, self.latent_size))
        if self.predictability is not None:
            self.predictability.build((None, self.latent_size), (None, len(self.invariant)))
            self.erasure.build((None, self.latent_size))
        if self.refinement is not None:
            self.refinement.build((None, self.latent_size))
        if self.memory is not None:
            self.memory.build()
        self.likelihood.build((None, *self.volume_shape, 1))

    def start_at_mean(self, mean_volume) -> None:
        super().start_at_mean(mean_volume)
        if isinstance(self.prior, VampPrior):
            self.prior.start_at(mean_volume)

    def apply_mask(self, volumes):
        return self.likelihood.apply_mask(volumes)

    @property
    def num_counted(self) -> int:
        return int(self.likelihood.num_voxels)

    def adapt_inference(self, dataset, validation=None) -> None:
        """Sets, by the trained weights: the curvature that refinement uses, the erasure of `invariant` covariates, and
        an "optimal" sigma (by `validation`, where there is any). See `LatentModel.adapt_inference`.
        """
        adaptation.adapt_inference(self, dataset, validation)

    def describe(self) -> list[str]:
        how = "in closed form" if self.has_closed_kl() else "by the draws (Monte Carlo)"
        return [f"KL of a {self.parts['posterior']} posterior and a {self.parts['prior']} prior: {how}"]

    def own_weights(self) -> list:
        weights = [self.step, self.kl_weight]
        if self.masked:
            weights.append(self.likelihood.inside)
        for layer in (self.predictability, self.erasure, self.refinement, self.memory):
            weights += [] if layer is None else layer.variables
        return weights

    def resampled_weights(self) -> dict[str, list]:
        weights = super().resampled_weights()
        if isinstance(self.prior, VampPrior):
            weights["image"].append(self.prior.image)
        return {**weights, "image": [*weights["image"], self.likelihood.log_sigma]}

    def draw(self, posterior: dict, seed):
        return self.to_posterior.draw(posterior, seed)

    def posterior(self, volumes, training=False, refined=True) -> dict:
        posterior = self.to_posterior(self.features(volumes, training))
        loc = posterior["loc"]
        if self.refinement is not None and refined and not training:
            loc = self.refinement(loc, volumes, energy=lambda z, volumes: self.energy(volumes, z))
        return {**posterior, "loc": loc if self.erasure is None else self.erasure(loc)}

    def energy(self, volumes, z):
        """Returns -log p(volumes, z), (batch,) nats: low where latents explain the volumes, and are likely."""
        parts = self.decode_parts(z)
        return self.likelihood(volumes, parts["reconstruction"])["nll"] - self.prior(z) + self.penalty(parts)

    def penalty(self, parts: dict):
        """Returns what `decode_parts` made costs beside its errors, (batch,) nats, or 0.0."""
        return 0.0

    def decode_parts(self, z, training=False, condition=None) -> dict:
        parts = super().decode_parts(z, training, condition)
        return {**parts, "reconstruction": self.likelihood.apply_mask(parts["reconstruction"])}

    def call(self, inputs, training=False):
        volumes, condition = split_inputs(inputs)
        posterior = self.posterior(volumes, training)
        # Outside training the noise is always the same: epochs are compared on equal draws.
        step = tf.convert_to_tensor(self.step) if training else tf.constant(-1)
        num_draws = self.num_draws if training else 1
        if training:
            self.step.assign_add(1)
            if num_draws > 1:
                posterior = {name: repeat(value, num_draws) for name, value in posterior.items()}
                condition = None if condition is None else repeat(condition, num_draws)
        seed = tf.stack([tf.constant(self.seed), step])
        if condition is not None and training:
            own_seed = self._noise_seed(1)
            draws = draw_at_position(
                lambda rows: tf.random.stateless_uniform([tf.shape(rows)[0], 1], own_seed), condition, num_draws
            )
            condition = tf.where(draws >= WITHHELD_SHARE, tf.cast(condition, tf.float32), 0.0)
        if training:
            z = draw_at_position(lambda rows: self.to_posterior.draw(rows, seed), posterior, num_draws)
        else:
            z = self.to_posterior.draw(posterior, seed)
        outputs = {**posterior, "z": z, **self.decode_parts(z, training, condition)}
        return outputs if condition is None else {**outputs, "condition": tf.cast(condition, tf.float32)}

    def _noise_seed(self, number: int):
        """Returns the seed of a step for another purpose than the draws of z, which have number 0."""
        return tf.stack([tf.constant(self.seed + number), tf.convert_to_tensor(self.step)])

    def kl(self, posterior: dict, z, condition=None):
        """Returns what `LatentModel.kl` does; see `kl_nats`."""
        return kl_nats(self.to_posterior.distribution(**posterior), self.prior.distribution(condition), z)

    @property
    def posterior_names(self) -> tuple[str, ...]:
        return ("loc", "scale", "factor") if self.parts["posterior"] == "low_rank" else ("loc", "scale")

    def has_closed_kl(self) -> bool:
        """Returns whether the KL is in closed form, not found by the draws."""
        nothing = tf.zeros((1, self.latent_size))
        posterior = {name: nothing + (name == "scale") for name in ("loc", "scale")}
        if self.parts["posterior"] == "low_rank":
            posterior["factor"] = tf.zeros((1, self.latent_size, self.parts["posterior_rank"]))
        return has_closed_form(self.to_posterior.distribution(**posterior), self.prior.distribution())

    def kl_per_dimension(self, posterior: dict, condition=None):
        """Returns the KL of each latent variable, (batch, latent) nats, or None where their sum is not the whole."""
        if not isinstance(self.prior, NormalPrior) or set(posterior) != {"loc", "scale"}:
            return None
        prior = self.prior.distribution(condition)
        return self.to_posterior.kl_per_dimension(posterior["loc"], posterior["scale"], prior.mean(), prior.stddev())

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        volumes, _ = split_inputs(x)
        num_draws = self.num_draws if training else 1
        if num_draws > 1:
            volumes = repeat(volumes, num_draws)
        condition, z = y_pred.get("condition"), y_pred["z"]
        posterior = {name: y_pred[name] for name in self.posterior_names}
        likelihood = self.likelihood(volumes, y_pred["reconstruction"], training=training)
        nll, mse = likelihood["nll"], likelihood["squared_error"] / self.likelihood.num_voxels
        q, p = self.to_posterior.distribution(**posterior), self.prior.distribution(condition)
        kl = kl_nats(q, p, z)
        self.record(
            nll_nats=nll, kl_nats=kl, elbo_nats=-(nll + kl), mse=mse, decoder_sigma=self.likelihood.decoder_sigma
        )
        rows = {
            "nll": nll,
            "mse": mse,
            "kl": kl,
            "kl_per_dimension": self.kl_per_dimension(posterior, condition),
            "log_ratio": q.log_prob(z) - p.log_prob(z),
            "z": z,
            "loc": posterior["loc"],
            "scale": posterior["scale"],
            "condition": condition,
        }
        rows = {name: values for name, values in rows.items() if values is not None}
        if training and self.objective.looks_across:
            rows = rows_of_all(rows, num_draws)
        condition = rows.pop("condition", None)
        kept = None if self.memory is None else self._people_before(rows, condition, num_draws, training)
        count = tf.shape(rows["z"])[0]
        if kept is not None:
            count += self.memory.rows
            if "condition" in kept:
                condition = tf.concat([condition, kept["condition"]], axis=0)
        prior_draws = self.prior.draw(count, self._noise_seed(2), condition)
        terms = Terms(
            **{"kl_per_dimension": None, **rows},
            prior_draws=prior_draws,
            num_draws=num_draws,
            num_people=self.num_people,
            kept=kept,
        )
        loss = self.objective.loss(terms, self.kl_weight)
        if self.predictability is None:
            return loss
        targets = tf.gather(tf.cast(x["condition"], tf.float32), self.invariant, axis=1)
        # The means, not the draws: what is used of a person is the mean, which shows even what noise hides in a draw.
        # With several draws the rows come again and again; once each is enough.
        seen = (posterior["loc"][: tf.shape(targets)[0]], targets)
        known = self.predictability(*(rows_of_all(seen) if training else seen), training=training)
        self.record(predictability=known)
        return loss + self.invariance_weight * known

    def _people_before(self, rows: dict, condition, num_draws: int, training: bool) -> dict:
        """Returns what is kept of the people before, and keeps that of these, each once.

        Of half as many as there are: few of these are among them then, and would count as somebody else.
        """
        batch = tf.shape(rows["z"])[0] // num_draws
        people = {**rows, "condition": condition}
        people = {name: people[name][:batch] for name in self.memory.widths if people[name] is not None}
        if "condition" in self.memory.widths and condition is None:
            people["condition"] = tf.zeros([batch, self.condition_size])
        kept = self.memory(people, training=training)
        is_near = tf.range(self.memory.rows) < max(self.num_people // 2, 1)
        return {**kept, "is_kept": kept["is_kept"] & is_near}

    def get_config(self):
        return {
            **super().get_config(),
            **self.objective.get_config(),
            **self.parts,
            "num_draws": self.num_draws,
            "masked": self.masked,
            "invariant": self.invariant,
            "invariance_weight": self.invariance_weight,
            "refinement_steps": self.refinement_steps,
        }


def repeat(values, times: int):
    """Returns a batch several times, all of it before all of it again."""
    return tf.tile(values, [times] + [1] * (values.shape.rank - 1))

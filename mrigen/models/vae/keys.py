"""The keys of `model` with `kind: vae`, and what must hold between them."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from mrigen.models.keys import ModelRecipe, convolutional_weights
from mrigen.schema import fault, key

# Steps of an inference that is refined.
DEFAULT_REFINEMENT_STEPS = 4
# Beyond, sums in float32 say nothing of the rest.
MOST_WEIGHT = 1e9
# Of intensities on the [0, 1] scale.
LEAST_SIGMA, MOST_SIGMA = 1e-6, 1000.0


class VAERecipe(ModelRecipe):
    """What a variational autoencoder has beside what all have."""

    has_likelihood: ClassVar[bool] = True
    has_prior: ClassVar[bool] = True

    kind: Literal["vae"] = key("vae", "vae", "The model family.")
    objective: Literal["elbo", "paper", "capacity", "mmd", "tc", "iw"] = key(
        "elbo",
        "one of elbo, paper, capacity, mmd, tc, iw",
        "vae: elbo in nats (with beta: the beta-VAE); capacity: a KL of capacity_nats; mmd: InfoVAE; tc: beta-TC-VAE; "
        "iw: importance-weighted; paper: the term paper's loss (mean squared error + summed KL), which collapses.",
    )
    beta: float = key(1.0, "a number from 0 to 1e9", "vae: weight of the KL term in the loss.", ge=0, le=MOST_WEIGHT)
    free_bits: float = key(
        0.0,
        "nats from 0 to 1e9",
        "vae: KL of each latent variable that costs nothing (objective elbo or mmd).",
        ge=0,
        le=MOST_WEIGHT,
    )
    capacity_nats: float = key(
        100.0,
        "nats from 0 to 1e9",
        "vae: the KL that objective capacity aims at; it rises over kl_warmup_epochs.",
        ge=0,
        le=MOST_WEIGHT,
    )
    mmd_weight: float = key(
        1000.0,
        "nats from 0 to 1e9",
        "vae: weight of the discrepancy between posteriors and prior (objective mmd).",
        ge=0,
        le=MOST_WEIGHT,
    )
    tc_weight: float = key(
        4.0,
        "a number from 0 to 1e9",
        "vae: weight of the total correlation of the latents (objective tc); 1 is the elbo.",
        ge=0,
        le=MOST_WEIGHT,
    )
    num_draws: int = key(
        1, "an integer from 1 to 64", "vae: draws from each posterior in a training step; each is decoded.", ge=1, le=64
    )
    likelihood: Literal["gaussian", "laplace", "student"] = key(
        "gaussian",
        "one of gaussian, laplace, student",
        "vae: noise of a voxel; large residuals cost less under laplace, and least under student (4 degrees).",
    )
    likelihood_mask: Literal["head", "brain"] | None = key(
        None,
        "head, brain or null",
        "vae: voxels that count. head: where the training mean is bright; brain: where training people's masks are.",
    )
    decoder_sigma: float | Literal["learned", "optimal", "voxelwise"] = key(
        "optimal",
        "optimal, learned, voxelwise, or a number from 1e-6 to 1000",
        "vae: standard deviation of that noise. optimal: the residual's, in closed form, in the end that of validation "
        "people; learned: a trained weight; "
        "voxelwise: a smooth map of trained ones; or fixed.",
    )
    posterior: Literal["diagonal", "low_rank"] = key(
        "diagonal", "diagonal or low_rank", "vae: covariance of a person's latents: diagonal, or with directions added."
    )
    posterior_rank: int = key(
        4, "an integer from 1 to 64", "vae: how many directions (posterior low_rank).", ge=1, le=64
    )
    prior: Literal["normal", "mixture", "vamp", "flow"] = key(
        "normal",
        "one of normal, mixture, vamp, flow",
        "vae: where latents are expected: N(0, I); a trained mixture of Gaussians; the posteriors of trained "
        "pseudo-inputs; or a RealNVP flow.",
    )
    prior_components: int = key(
        16, "an integer from 1 to 1024", "vae: Gaussians or pseudo-inputs (prior mixture or vamp).", ge=1, le=1024
    )
    condition: list[Literal["sex", "age", "head_size", "site"]] = key(
        [],
        "a list of sex, age, head_size, site",
        "vae: covariates that prior and decoder are given, so that samples can be asked for with them (given) and "
        "latents need not hold them. They may be missing for some people.",
    )
    invariant_to: list[Literal["sex", "age", "head_size", "site"]] = key(
        [],
        "a list of sex, age, head_size, site",
        "vae: covariates that latents should not predict, such as site; name them in condition as well, so "
        "that the decoder can do without.",
    )
    invariance_weight: float = key(
        100.0,
        "nats from 0 to 1e9",
        "vae: weight of how well latents predict invariant_to (0 to 1).",
        ge=0,
        le=MOST_WEIGHT,
    )
    refinement_steps: Annotated[int, Field(ge=0, le=100)] | Literal["auto"] = key(
        0,
        "auto, or an integer from 0 to 100",
        "vae: steps by which inference improves on the encoder's guess after training: latents that explain the image "
        "better. Each takes a decoding and its derivative. auto: 4, or 0 with a condition or the paper's objective.",
    )

    @model_validator(mode="after")
    def _consistent(self):
        for names, what in ((self.condition, "condition"), (self.invariant_to, "invariant_to")):
            if len(set(names)) < len(names):
                raise fault(f"got {what} with a name twice, expected each once. Remove one.")
        missing = [name for name in self.invariant_to if name not in self.condition]
        if missing:
            raise fault(
                f"got invariant_to: {missing[0]} without condition: {missing[0]}, expected both: the decoder has to be "
                f"given what latents leave out. Add {missing[0]} to condition."
            )
        steps = 0 if self.refinement_steps == "auto" else self.refinement_steps
        found = find_conflict(**{**dict(self), "refinement_steps": steps}, given=", ".join(self.condition))
        if found is not None:
            raise fault(found)
        return self

    @property
    def objective_name(self) -> str:
        return self.objective

    @property
    def watched_figure(self) -> str:
        return "elbo_nats" if self.objective in ("elbo", "iw") and not self.invariant_to else "loss"

    @property
    def covariates(self) -> tuple[str, ...]:
        return tuple(self.condition)

    @property
    def invariant_covariates(self) -> tuple[str, ...]:
        return tuple(self.invariant_to)

    @property
    def counted_voxels(self) -> str | None:
        return self.likelihood_mask

    @property
    def chosen_refinement_steps(self) -> int:
        if self.refinement_steps != "auto":
            return self.refinement_steps
        # What the paper's loss leaves of the latents is not to be mended behind its back.
        unwanted = self.condition or self.latent_dim is None or self.objective == "paper"
        return 0 if unwanted else DEFAULT_REFINEMENT_STEPS

    @property
    def forecast_settings(self) -> dict[str, Any]:
        beta = 1.0 if self.objective == "capacity" else self.beta
        return {"objective": self.objective, "decoder_sigma": self.decoder_sigma, "beta": beta}

    def least_weights(self, volume_shape: Sequence[int]) -> int:
        return convolutional_weights(self, volume_shape)


def find_conflict(
    *,
    objective: str,
    num_draws: int,
    posterior: str,
    free_bits: float,
    likelihood: str,
    decoder_sigma: float | str,
    prior: str,
    latent_dim: int | None,
    refinement_steps: int,
    given: str = "",
    **others,
) -> str | None:
    """Returns what does not go together among the settings of a VAE, of a recipe or of the model itself; None if all
    does.

    Args:
        given: the covariates that the decoder is given, in words; "" for none.
        others: settings that go with everything.
    """
    if not isinstance(decoder_sigma, str) and not LEAST_SIGMA <= decoder_sigma <= MOST_SIGMA:
        return (
            f"got decoder_sigma {decoder_sigma:g}, expected a number from {LEAST_SIGMA:g} to {MOST_SIGMA:g}. "
            "Use optimal."
        )
    if likelihood == "student" and decoder_sigma == "optimal":
        return (
            "got likelihood: student with decoder_sigma: optimal, expected another: it has no closed form. "
            "Set decoder_sigma=learned."
        )
    if objective == "iw" and num_draws < 2:
        return "got objective: iw with num_draws: 1, expected at least 2: one is the elbo. Set num_draws=8."
    if objective == "tc" and posterior != "diagonal":
        return "got objective: tc with posterior: low_rank, expected diagonal. Remove posterior."
    if free_bits and objective not in ("elbo", "mmd"):
        return (
            f"got free_bits for objective: {objective}, expected elbo or mmd. Remove free_bits, or set objective=elbo."
        )
    if refinement_steps and given:
        return (
            f"got refinement_steps: {refinement_steps} with condition: {given}, expected 0: latents are to be found "
            "from the image alone, and the decoder, by which they are refined, is given more. Set refinement_steps=0."
        )
    if refinement_steps and latent_dim is None:
        return (
            f"got refinement_steps: {refinement_steps} with latent_dim: null, expected 0, or a latent vector. "
            "Set refinement_steps=0, or latent_dim=64."
        )
    if prior == "flow" and latent_dim == 1:
        return "got prior: flow with latent_dim: 1, expected at least 2. Set prior=normal."
    return None

"""The keys of `model`: the network and its objective."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mrigen.recipe.keys import Section, fault, key

# Steps of an inference that is refined.
DEFAULT_REFINEMENT_STEPS = 4
# Keys that only some kinds of model have.
KEYS_OF_KINDS = (
    (
        (
            "objective",
            "beta",
            "free_bits",
            "capacity_nats",
            "mmd_weight",
            "tc_weight",
            "num_draws",
            "likelihood",
            "likelihood_mask",
            "decoder_sigma",
            "posterior",
            "posterior_rank",
            "prior",
            "prior_components",
            "condition",
            "invariant_to",
            "invariance_weight",
            "refinement_steps",
        ),
        ("vae", "morph"),
    ),
    (
        (
            "field_spacing",
            "field_channels",
            "linear_fields",
            "integration_steps",
            "velocity_smoothness",
            "affine",
            "detail_penalty",
            "appearance_modes",
        ),
        ("morph",),
    ),
)


class ModelRecipe(Section):
    kind: Literal["autoencoder", "vae", "morph"] = key(
        "vae",
        "one of autoencoder, vae, morph",
        "The model family; morph is a vae whose decoder warps a learned template.",
    )
    latent_dim: int | None = key(
        64,
        "an integer >= 1, or null",
        "Set the number of latent variables, for example 64; null keeps the spatial latent of the last block.",
        ge=1,
        le=65536,
    )
    latent_channels: int = key(
        16, "an integer >= 1", "Channels of the spatial latent (only with latent_dim: null).", ge=1, le=4096
    )
    blocks: int = key(3, "an integer from 1 to 6", "Blocks of (conv-ReLU-norm) x 2 and halving, each way.", ge=1, le=6)
    channels: int | list[Annotated[int, Field(ge=1, le=4096)]] = key(
        32, "an integer >= 1, or one for each block", "Channels of the blocks, from full resolution down."
    )
    patch: Annotated[int, Field(ge=1, le=16)] | Literal["auto"] = key(
        "auto",
        "auto, or an integer from 1 to 16",
        "Voxels a side of what the first block sees as one place: each doubling costs an eighth of the time and "
        "memory. auto keeps every side at 80 places or fewer.",
    )
    residual: bool = key(
        False, "true or false", "Add the input of each pair of convolutions to its output (residual blocks)."
    )
    mean_image: bool = key(
        True, "true or false", "Add a learned image, started at the training mean, to what is decoded."
    )
    objective: Literal["elbo", "paper", "capacity", "mmd", "tc", "iw"] = key(
        "elbo",
        "one of elbo, paper, capacity, mmd, tc, iw",
        "vae: elbo in nats (with beta: the beta-VAE); capacity: a KL of capacity_nats; mmd: InfoVAE; tc: beta-TC-VAE; "
        "iw: importance-weighted; paper: the term paper's loss (mean squared error + summed KL), which collapses.",
    )
    beta: float = key(1.0, "a number >= 0", "vae: weight of the KL term in the loss.", ge=0)
    free_bits: float = key(
        0.0, "nats >= 0", "vae: KL of each latent variable that costs nothing (objective elbo or mmd).", ge=0
    )
    capacity_nats: float = key(
        100.0, "nats >= 0", "vae: the KL that objective capacity aims at; it rises over kl_warmup_epochs.", ge=0
    )
    mmd_weight: float = key(
        1000.0, "nats >= 0", "vae: weight of the discrepancy between posteriors and prior (objective mmd).", ge=0
    )
    tc_weight: float = key(
        4.0, "a number >= 0", "vae: weight of the total correlation of the latents (objective tc); 1 is the elbo.", ge=0
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
        "optimal, learned, voxelwise, or a number > 0",
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
        "vae: covariates that prior and decoder are told, so that samples can be asked for with them (--given) and "
        "latents need not hold them. They may be missing for some people.",
    )
    invariant_to: list[Literal["sex", "age", "head_size", "site"]] = key(
        [],
        "a list of sex, age, head_size, site",
        "vae: covariates that latents should tell nothing about, such as site; name them in condition as well, so "
        "that the decoder can do without.",
    )
    invariance_weight: float = key(
        100.0, "nats >= 0", "vae: weight of what latents still tell about invariant_to (0 to 1).", ge=0
    )
    refinement_steps: Annotated[int, Field(ge=0, le=100)] | Literal["auto"] = key(
        0,
        "auto, or an integer from 0 to 100",
        "vae: steps by which inference improves on the encoder's guess after training: latents that explain the image "
        "better. Each takes a decoding and its derivative. auto: 4, or 0 with a condition or the paper's objective.",
    )
    field_spacing: int = key(
        4,
        "an integer from 1 to 16",
        "morph: voxels from one point of the velocity and gain fields to the next.",
        ge=1,
        le=16,
    )
    field_channels: int = key(
        32, "an integer >= 1", "morph: channels of the convolutions at that spacing.", ge=1, le=4096
    )
    linear_fields: bool = key(
        False,
        "true or false",
        "morph: add a part to those fields that is linear in the latents: modes, which few people suffice to learn.",
    )
    integration_steps: int = key(
        6, "an integer from 0 to 12", "morph: squarings that integrate the velocity; 0 adds it as it is.", ge=0, le=12
    )
    velocity_smoothness: Annotated[float, Field(ge=0)] | Literal["learned"] = key(
        1.0,
        "learned, or a number >= 0",
        "morph: weight of half the summed squared second differences of the velocity; learned: a trained weight.",
    )
    affine: bool = key(
        False, "true or false", "morph: give pose and size a part of their own; the velocity is then shape alone."
    )
    detail_penalty: float | None = key(
        None,
        "a number >= 0, or null",
        "morph: weight of half the summed squared detail that is added to the moved template; null for no detail.",
        ge=0,
    )
    appearance_modes: int = key(
        0,
        "an integer from 0 to 64",
        "morph: learned images that are added to the template before it is moved, in amounts that are linear in the "
        "latents: what heads differ in beside shape and shading.",
        ge=0,
        le=64,
    )

    @model_validator(mode="after")
    def _consistent(self):
        if isinstance(self.channels, list) and len(self.channels) != self.blocks:
            raise fault(
                f"got {len(self.channels)} channels for {self.blocks} blocks, expected one a block. "
                "Change channels or blocks."
            )
        if isinstance(self.channels, int) and not 1 <= self.channels <= 4096:
            raise fault(f"got channels {self.channels}, expected an integer from 1 to 4096. Set 32 for a start.")
        if isinstance(self.decoder_sigma, float) and self.decoder_sigma <= 0:
            raise fault(f"got decoder_sigma {self.decoder_sigma:g}, expected a number > 0. Use optimal.")
        self._check_probabilities()
        for names, kinds in KEYS_OF_KINDS:
            given = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
            if given and self.kind not in kinds:
                raise fault(
                    f"got {', '.join(given)} for kind: {self.kind}, expected these for kind: {' or '.join(kinds)} "
                    f"only. Remove them, or set model.kind={kinds[0]}."
                )
        if self.kind == "morph" and not self.mean_image:
            raise fault("got mean_image: false for kind: morph, expected true: it warps that image. Remove mean_image.")
        return self

    def _check_probabilities(self):
        if self.likelihood == "student" and self.decoder_sigma == "optimal" and self.kind != "autoencoder":
            raise fault(
                "got likelihood: student with decoder_sigma: optimal, expected another: it has no closed form. "
                "Set decoder_sigma=learned."
            )
        if self.objective == "iw" and self.num_draws < 2:
            raise fault("got objective: iw with num_draws: 1, expected at least 2: one is the elbo. Set num_draws=8.")
        if self.objective == "tc" and self.posterior != "diagonal":
            raise fault("got objective: tc with posterior: low_rank, expected diagonal. Remove posterior.")
        if self.free_bits and self.objective not in ("elbo", "mmd"):
            raise fault(
                f"got free_bits for objective: {self.objective}, expected elbo or mmd. Remove free_bits, or set "
                "objective=elbo."
            )
        untold = [name for name in self.invariant_to if name not in self.condition]
        if untold:
            raise fault(
                f"got invariant_to: {untold[0]} without condition: {untold[0]}, expected both: the decoder has to be "
                f"told what latents leave out. Add {untold[0]} to condition."
            )
        if self.refinement_steps not in (0, "auto") and self.condition:
            raise fault(
                f"got refinement_steps: {self.refinement_steps} with condition: {', '.join(self.condition)}, expected "
                "0: latents are to be found from the image alone, and the decoder, by which they are refined, is told "
                "more. Set refinement_steps=0."
            )
        if self.refinement_steps not in (0, "auto") and self.latent_dim is None:
            raise fault(
                f"got refinement_steps: {self.refinement_steps} with latent_dim: null, expected 0, or a latent vector. "
                "Set refinement_steps=0, or latent_dim=64."
            )
        for name in ("condition", "invariant_to"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise fault(f"got {name} with a name twice, expected each once. Remove one.")
        if self.prior == "flow" and self.latent_dim == 1:
            raise fault("got prior: flow with latent_dim: 1, expected at least 2. Set prior=normal.")

    @property
    def has_likelihood(self) -> bool:
        """Whether the model says how likely volumes are: whether it has an ELBO and a KL, and can collapse."""
        return self.kind != "autoencoder"

    @property
    def has_prior(self) -> bool:
        """Whether the model has a prior that latents can be drawn from."""
        return self.kind != "autoencoder"

    @property
    def warps_template(self) -> bool:
        """Whether the decoder moves a learned template, so that samples have displacements."""
        return self.kind == "morph"

    @property
    def chosen_refinement_steps(self) -> int:
        """What `refinement_steps` comes to."""
        if self.refinement_steps != "auto":
            return self.refinement_steps
        # What the paper's loss leaves of the latents is not to be mended behind its back.
        unwanted = self.condition or self.latent_dim is None or self.objective == "paper"
        return 0 if unwanted else DEFAULT_REFINEMENT_STEPS

    @property
    def block_channels(self) -> list[int]:
        """Channels of each block, from full resolution down."""
        return [self.channels] * self.blocks if isinstance(self.channels, int) else list(self.channels)

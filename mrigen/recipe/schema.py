"""The keys of a recipe, their types, ranges, defaults and one line of help each.

Types are strict: `"3"` and `true` are no integers. The help of a key is the advice of its error message, its text in
`mrigen recipe schema` and its row in docs/recipes.md.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


def key(default: Any, expected: str, help: str, **constraints: Any) -> Any:
    """Returns a pydantic field with what its error message needs: what was `expected`, and what to do (`help`)."""
    extra = {"expected": expected}
    if isinstance(default, type) and issubclass(default, BaseModel):
        return Field(default_factory=default, description=help, json_schema_extra=extra, **constraints)
    return Field(default, description=help, json_schema_extra=extra, **constraints)


def _broadcast(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [value] * 3
    return value


def _fault(message: str) -> PydanticCustomError:
    # Braces would be taken for placeholders.
    return PydanticCustomError("recipe", "{message}", {"message": message})


Three = Annotated[tuple[float, float, float], BeforeValidator(_broadcast), Field(strict=False)]
Shape = Annotated[tuple[int, int, int], BeforeValidator(_broadcast), Field(strict=False)]
Scalar = str | int | float | bool


class Section(BaseModel):
    """One block of a recipe: strict types, no unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class CohortRecipe(Section):
    name: str = key(..., "a word", "Name of the cohort; it becomes part of the subject ids when there are several.")
    root: str = key(..., "a path", "BIDS folder, TSV or CSV table with a column of paths, or plain folder of NIfTI.")
    mask: str | None = key(
        None,
        "a name or a path pattern, or null",
        "Mask images: the name of a folder under derivatives/ (label > 0 is inside), or a path pattern with {id}.",
    )


class SexCodes(Section):
    F: list[str | int | float] = key(..., "a list of codes", "Values of the sex column that mean female.")
    M: list[str | int | float] = key(..., "a list of codes", "Values of the sex column that mean male.")


class SplitRecipe(Section):
    seed: int = key(0, "an integer >= 0", "Seed of the split, apart from training.seed.", ge=0)
    train: float = key(0.7, "a fraction above 0 and up to 1", "Share of subjects that train the model.", gt=0, le=1)
    validation: float = key(
        0.1, "a fraction from 0 to below 1", "Share of subjects that choose settings and stop training.", ge=0, lt=1
    )
    heldout: float = key(
        0.2, "a fraction from 0 to below 1", "Share of subjects that only the final figures touch.", ge=0, lt=1
    )
    file: str | None = key(
        None, "a path or null", "TSV with participant_id and split (train, validation, heldout) to use instead."
    )

    @model_validator(mode="after")
    def _sums_to_one(self):
        total = self.train + self.validation + self.heldout
        if abs(total - 1) > 1e-6:
            raise _fault(f"got fractions that sum to {total:g}, expected 1. Change train, validation or heldout.")
        return self


class PhantomRecipe(Section):
    seed: int = key(0, "an integer >= 0", "Seed of the synthetic cohort.", ge=0)
    zooms: float = key(4.0, "a number from 1 to 8", "Voxel size in mm of the images that are made.", ge=1, le=8)
    sex_effect: Literal["none", "size", "shape", "both"] = key(
        "both", "one of none, size, shape, both", "What differs between the sexes: head size, local shape, or both."
    )
    sex_effect_strength: float = key(
        1.0, "a number from 0 to 2", "Strength of the sex effect; 1 is life-like.", ge=0, le=2
    )
    num_sites: int = key(2, "an integer from 1 to 20", "Number of scanners.", ge=1, le=20)
    site_effect_strength: float = key(1.0, "a number from 0 to 2", "Strength of the scanner differences.", ge=0, le=2)
    age_effect_strength: float = key(
        1.0, "a number from 0 to 2", "Strength of ageing (ventricles, cortex).", ge=0, le=2
    )


class DataRecipe(Section):
    source: Literal["files", "phantom"] = key(
        "files", "one of files, phantom", "files: data.root or data.cohorts. phantom: the built-in synthetic cohort."
    )
    root: str | None = key(
        None, "a path or null", "BIDS folder, table with a column of paths, or folder of NIfTI (short form of cohorts)."
    )
    mask: str | None = key(
        None,
        "a name or a path pattern, or null",
        "Mask images: the name of a folder under derivatives/ (label > 0 is inside), or a path pattern with {id}.",
    )
    apply_mask: bool = key(
        False,
        "true or false",
        "Set voxels outside the mask to 0 (skull stripping). Cohorts without a mask stay as they are.",
    )
    cohorts: list[CohortRecipe] = key([], "a list of {name, root, mask}", "Several cohorts at once.")
    num_subjects: int = key(100, "an integer >= 4", "Size of the synthetic cohort (data.source: phantom).", ge=4)
    phantom: PhantomRecipe = key(PhantomRecipe, "a block of keys", "How the synthetic cohort is made.")
    suffix: str = key("T1w", "a BIDS suffix", "Images to take: files whose name ends in _<suffix>.nii or .nii.gz.")
    visits: Literal["first", "all"] = key(
        "first", "one of first, all", "Which sessions and runs of a person to use. The probe always uses the first."
    )
    sex_column: str = key("sex", "a column name", "Column of participants.tsv that holds the sex.")
    sex_codes: SexCodes | None = key(
        None,
        "a mapping {F: [codes], M: [codes]} or null",
        "Needed where codes are numbers: which mean female, which male. Words (F, male, ...) are understood.",
    )
    age_column: str = key("age", "a column name", "Column that holds the age in years.")
    site_column: str = key("site", "a column name", "Column that holds the scanner or site.")
    family_column: str = key("family", "a column name", "Column that names a family; families are never divided.")
    where: dict[str, Scalar | list[Scalar]] = key(
        {}, "a mapping column: value or column: [values]", "Keep the rows of participants.tsv that match all of these."
    )
    exclude: list[str] = key([], "a list of participant ids", "Leave these people out.")
    split: SplitRecipe = key(SplitRecipe, "a block of keys", "How people are divided.")

    @model_validator(mode="after")
    def _one_source(self):
        given = [name for name in ("root", "cohorts") if getattr(self, name)]
        if self.source == "phantom" and given:
            raise _fault(
                f"got source: phantom together with {' and '.join(given)}, expected one source. "
                f"Remove {' and '.join(given)}, or set data.source=files."
            )
        if len(given) == 2:
            raise _fault("got both root and cohorts, expected one of them. Put the folder of root into cohorts.")
        if self.cohorts and self.mask:
            raise _fault("got mask beside cohorts, expected a mask in each cohort. Move mask into the list.")
        names = [cohort.name for cohort in self.cohorts]
        if len(set(names)) < len(names):
            raise _fault(f"got cohorts named {', '.join(names)}, expected different names. Rename one.")
        if self.apply_mask and self.source == "files":
            masks = [cohort.mask for cohort in self.cohorts] or [self.mask]
            if not any(masks):
                raise _fault(
                    "got apply_mask: true without a mask, expected data.mask. Name it, or set apply_mask=false."
                )
        return self


class PreprocessRecipe(Section):
    zooms: Three = key((4.0, 4.0, 4.0), "one or three numbers > 0", "Voxel size in mm of the model's grid.")
    volume_shape: Shape = key((48, 56, 48), "one or three integers >= 8", "Size of the model's grid in voxels; any.")
    centre: Literal["auto", "field_of_view", "head_top", "mask"] = key(
        "auto",
        "one of auto, field_of_view, head_top, mask",
        "Where the grid is laid. auto: a stripped brain in the middle; a whole head hangs from its top.",
    )
    intensity_percentiles: Annotated[tuple[float, float], Field(strict=False)] = key(
        (0.0, 99.5),
        "two percentiles, low and high, from 0 to 100",
        "Intensities that become 0 (percentile of the whole image) and 1 (of the head); the rest is clipped.",
    )

    @model_validator(mode="after")
    def _ranges(self):
        if min(self.zooms) <= 0 or max(self.zooms) > 32:
            raise _fault(f"got zooms {list(self.zooms)}, expected numbers above 0 and up to 32 mm. Set 4 for a start.")
        if min(self.volume_shape) < 8:
            raise _fault(
                f"got volume_shape {list(self.volume_shape)}, expected integers >= 8. Set [48, 56, 48] at 4 mm."
            )
        low, high = self.intensity_percentiles
        if not 0 <= low < high <= 100:
            raise _fault(
                f"got intensity_percentiles [{low:g}, {high:g}], expected 0 <= low < high <= 100. Set [0, 99.5]."
            )
        return self


class AugmentRecipe(Section):
    shift: float = key(6.0, "millimetres >= 0", "Largest shift along each axis.", ge=0)
    rotation: float = key(4.0, "degrees from 0 to 45", "Largest rotation about each axis.", ge=0, le=45)
    scaling: float = key(
        0.0,
        "a fraction from 0 to 0.5",
        "Largest change of size. Off by default: it hides head size, and with it much of the sex signal.",
        ge=0,
        le=0.5,
    )
    flip: bool = key(
        False,
        "true or false",
        "Mirror left and right at random. Off by default: it erases asymmetry from the latents.",
    )
    intensity: float = key(0.08, "a fraction from 0 to 0.5", "Largest change of gain.", ge=0, le=0.5)
    bias_field: float = key(
        0.08, "a fraction from 0 to 0.5", "Strength of a smooth change of gain, (1 + it) squared at most.", ge=0, le=0.5
    )
    noise: float = key(
        0.01, "a number from 0 to 0.5", "Largest standard deviation of added noise, [0, 1] scale.", ge=0, le=0.5
    )


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
        ),
        ("vae", "morph"),
    ),
    (
        ("field_spacing", "field_channels", "integration_steps", "velocity_smoothness", "affine", "detail_penalty"),
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
        "vae: standard deviation of that noise. optimal: the residual's, in closed form; learned: a trained weight; "
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
        1000.0, "nats >= 0", "vae: weight of what latents still tell about invariant_to (0 to 1).", ge=0
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

    @model_validator(mode="after")
    def _consistent(self):
        if isinstance(self.channels, list) and len(self.channels) != self.blocks:
            raise _fault(
                f"got {len(self.channels)} channels for {self.blocks} blocks, expected one a block. "
                "Change channels or blocks."
            )
        if isinstance(self.channels, int) and not 1 <= self.channels <= 4096:
            raise _fault(f"got channels {self.channels}, expected an integer from 1 to 4096. Set 32 for a start.")
        if isinstance(self.decoder_sigma, float) and self.decoder_sigma <= 0:
            raise _fault(f"got decoder_sigma {self.decoder_sigma:g}, expected a number > 0. Use optimal.")
        self._check_probabilities()
        for names, kinds in KEYS_OF_KINDS:
            given = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
            if given and self.kind not in kinds:
                raise _fault(
                    f"got {', '.join(given)} for kind: {self.kind}, expected these for kind: {' or '.join(kinds)} "
                    f"only. Remove them, or set model.kind={kinds[0]}."
                )
        if self.kind == "morph" and not self.mean_image:
            raise _fault(
                "got mean_image: false for kind: morph, expected true: it warps that image. Remove mean_image."
            )
        return self

    def _check_probabilities(self):
        if self.likelihood == "student" and self.decoder_sigma == "optimal" and self.kind != "autoencoder":
            raise _fault(
                "got likelihood: student with decoder_sigma: optimal, expected another: it has no closed form. "
                "Set decoder_sigma=learned."
            )
        if self.objective == "iw" and self.num_draws < 2:
            raise _fault("got objective: iw with num_draws: 1, expected at least 2: one is the elbo. Set num_draws=8.")
        if self.objective == "tc" and self.posterior != "diagonal":
            raise _fault("got objective: tc with posterior: low_rank, expected diagonal. Remove posterior.")
        if self.free_bits and self.objective not in ("elbo", "mmd"):
            raise _fault(
                f"got free_bits for objective: {self.objective}, expected elbo or mmd. Remove free_bits, or set "
                "objective=elbo."
            )
        untold = [name for name in self.invariant_to if name not in self.condition]
        if untold:
            raise _fault(
                f"got invariant_to: {untold[0]} without condition: {untold[0]}, expected both: the decoder has to be "
                f"told what latents leave out. Add {untold[0]} to condition."
            )
        for name in ("condition", "invariant_to"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise _fault(f"got {name} with a name twice, expected each once. Remove one.")
        if self.prior == "flow" and self.latent_dim == 1:
            raise _fault("got prior: flow with latent_dim: 1, expected at least 2. Set prior=normal.")

    @property
    def block_channels(self) -> list[int]:
        """Channels of each block, from full resolution down."""
        return [self.channels] * self.blocks if isinstance(self.channels, int) else list(self.channels)


class TrainingRecipe(Section):
    epochs: int = key(100, "an integer >= 1", "How often every training subject is seen.", ge=1)
    batch_size: int = key(8, "an integer >= 1", "Subjects a step, over all devices.", ge=1)
    learning_rate: float = key(1e-3, "a number > 0", "Step size of Adam at the start.", gt=0)
    schedule: Literal["constant", "cosine"] = key(
        "cosine", "one of constant, cosine", "How the learning rate falls: not at all, or to a hundredth by cosine."
    )
    clip_norm: float | None = key(
        None, "a number > 0, or null", "Largest norm of the whole gradient; null does not clip.", gt=0
    )
    kl_warmup_epochs: int = key(
        0, "an integer >= 0", "vae: epochs over which the KL weight rises from 0; 0 for a constant one.", ge=0
    )
    kl_cycles: int = key(
        1, "an integer >= 1", "vae: times that it rises anew, equally spaced over the epochs (cyclical schedule).", ge=1
    )
    early_stopping_epochs: int | None = key(
        None, "an integer >= 1, or null", "Stop after this many epochs without a better validation loss.", ge=1
    )
    on_collapse: Literal["warn", "stop"] = key(
        "warn",
        "warn or stop",
        "vae: what to do when hardly a latent variable is active after a fifth of the epochs: say so, or end the fit.",
    )
    seed: int = key(
        0, "an integer from 0 to 2147483647", "Seed of weights, order, augmentation and noise.", ge=0, le=2**31 - 1
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "auto",
        "one of auto, float32, bfloat16, float16",
        "Compute type of the layers; auto takes bfloat16 where the hardware has it.",
    )
    augment: AugmentRecipe | None = key(
        AugmentRecipe, "a block of keys, or null", "Random changes of training volumes; null for none."
    )


class Recipe(Section):
    """Everything a fit needs."""

    data: DataRecipe = key(DataRecipe, "a block of keys", "Who is in the cohort, and how it is divided.")
    preprocess: PreprocessRecipe = key(PreprocessRecipe, "a block of keys", "What an image becomes.")
    model: ModelRecipe = key(ModelRecipe, "a block of keys", "The network and its objective.")
    training: TrainingRecipe = key(TrainingRecipe, "a block of keys", "How the network is trained.")

    @model_validator(mode="after")
    def _centre_has_a_mask(self):
        masks = [cohort.mask for cohort in self.data.cohorts] or [self.data.mask]
        if self.preprocess.centre == "mask" and self.data.source == "files" and None in masks:
            raise _fault("got preprocess.centre: mask without a mask, expected data.mask. Name the masks, or set auto.")
        return self

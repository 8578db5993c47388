"""What every model of volumes shares: the paper's encoder and an honest decoder around a latent vector."""

import abc
import functools
from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from mrigen.layers import Conv3D, DecoderBlock, EncoderBlock, MeanImage, PatchEmbedding, PatchExpansion
from mrigen.layers.latent_head import flat_size, latent_expansion
from mrigen.models.batches import batches_of, split_inputs
from mrigen.models.keys import ModelRecipe, choose_patch
from mrigen.schema import check_arguments

# Of the mean image, or of the share of people whose mask covers a voxel: where a likelihood mask begins.
COUNTED_LEVEL = 0.05


class LatentModel(keras.Model, abc.ABC):
    """A model that maps volumes to latents and latents to volumes.

    Every side of the volume may be any number of voxels: each block halves, rounding up, and the decoder crops what
    doubling makes too large. The decoder sees z alone.

    Args:
        volume_shape: (x, y, z) in voxels.
        latent_dim: number of latent variables, or None for a spatial latent.
        latent_channels: channels of a spatial latent.
        channels: channels of each block, from full resolution down.
        patch: voxels along each side of the patches that the first block is given; 1 gives it every voxel.
        residual: whether the input of each pair of convolutions is added to its output.
        mean_image: whether a learned image, started at the training mean, is added to what is decoded.
        condition_size: length of the vector of covariates that the decoder is given beside z; 0 for none.
        seed: seed of weights and noise.
        dtype: Keras dtype policy of the convolutions; latents, likelihood and losses are float32 under any.

    Input shape: (batch, x, y, z, 1), intensities in [0, 1].
    Output: a dict that holds at least "reconstruction" (batch, x, y, z, 1) and "loc" (batch, latent), float32.

    Attributes:
        prior: from which latents can be drawn (see `mrigen.distributions.Prior`); None where the model has none.
        likelihood: of volumes (see `mrigen.distributions.Likelihood`); None where it has none, and then no ELBO.
        refinement: what improves on the encoder's guess in inference, or None.
        kl_weight: what a KL schedule moves from 0 to 1 (a scalar weight), or None.
        num_people: training people, as `adapt` counted them; 0 before.
        training_mean: their mean volume, (x, y, z); None before.

    Raises:
        ValueError: arguments out of range, or that do not go together.
    """

    # What a family may have beside encoder and decoder.
    prior = None
    likelihood = None
    refinement = None
    kl_weight = None
    num_people = 0
    training_mean = None

    def __init__(
        self,
        volume_shape,
        latent_dim: int | None = 64,
        latent_channels: int = 16,
        channels=(32, 32, 32),
        patch: int = 1,
        residual: bool = False,
        mean_image: bool = True,
        condition_size: int = 0,
        seed: int = 0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.volume_shape = tuple(int(side) for side in volume_shape)
        if len(self.volume_shape) != 3 or min(self.volume_shape) < 1:
            raise ValueError(f"volume_shape: got {self.volume_shape}, expected three integers >= 1, voxels.")
        channels = tuple(channels)
        check_arguments(ModelRecipe, {"latent_dim": latent_dim, "latent_channels": latent_channels})
        if not channels or min(channels) < 1:
            raise ValueError(f"channels: got {channels}, expected an integer >= 1 for each block.")
        self.latent_dim = latent_dim
        self.latent_channels = latent_channels
        self.channels = channels
        self.patch = patch
        self.residual = residual
        self.mean_image = mean_image
        self.condition_size = condition_size
        self.seed = seed
        sides = [tuple(-(-side // patch) for side in self.volume_shape)]
        for _ in self.channels:
            sides.append(tuple(-(-side // 2) for side in sides[-1]))
        self.grid = sides[-1]
        policy = self.dtype_policy
        self.patch_embedding = (
            PatchEmbedding(self.channels[0], patch, seed + 600, dtype=policy, name="patch_embedding")
            if patch > 1
            else None
        )
        self.encoder_blocks = [
            EncoderBlock(width, residual, seed=seed + 10 * index, dtype=policy, name=f"encoder_{index}")
            for index, width in enumerate(self.channels)
        ]
        self.expand = latent_expansion(self.grid, latent_dim, self.channels[-1], seed + 500)
        self.make_decoder(sides)
        self.reported: dict[str, keras.metrics.Metric] = {}

    @classmethod
    def from_recipe(cls, recipe, volume_shape, precision: str, seed: int, **options) -> "LatentModel":
        """Returns the unbuilt model of a recipe's `model` block.

        A family with keys of its own takes them from the recipe and hands them on as options.

        Args:
            recipe: the block, of the family's own class of keys.
            volume_shape: (x, y, z) in voxels. precision: Keras dtype policy. seed: of weights and noise.
            options: further arguments of the class. A family that is given covariates gets condition_size, and
                invariant (columns of the covariates that latents should not predict).
        """
        return cls(
            volume_shape,
            latent_dim=recipe.latent_dim,
            latent_channels=recipe.latent_channels,
            channels=recipe.block_channels,
            patch=choose_patch(recipe.patch, volume_shape),
            residual=recipe.residual,
            mean_image=recipe.mean_image,
            seed=seed,
            dtype=precision,
            name=recipe.kind,
            **options,
        )

    @property
    def num_voxels(self) -> int:
        """Voxels of a volume."""
        return flat_size(self.volume_shape)

    @property
    def posterior_names(self) -> tuple[str, ...]:
        """Of the parameters that `posterior` returns."""
        return ("loc",)

    @property
    def latent_size(self) -> int:
        """Length of the latent vector."""
        return flat_size(self.grid) * self.latent_channels if self.latent_dim is None else self.latent_dim

    def build(self, input_shape):
        shape = tuple(input_shape["volumes"] if isinstance(input_shape, dict) else input_shape)
        if self.patch_embedding is not None:
            self.patch_embedding.build(shape)
            shape = self.patch_embedding.compute_output_shape(shape)
        for block in self.encoder_blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self.build_latent(shape)
        self.expand.build((None, self.latent_size + self.condition_size))
        self.build_decoder((None, *self.grid, self.channels[-1]))

    def make_decoder(self, sides):
        """Makes the layers after `expand`; `sides` are those of the volume and of each block's output, down to z."""
        policy = self.dtype_policy
        self.decoder_blocks = [
            DecoderBlock(
                width,
                sides[index],
                self.residual,
                seed=self.seed + 1000 + 10 * index,
                dtype=policy,
                name=f"decoder_{index}",
            )
            for index, width in reversed(list(enumerate(self.channels)))
        ]
        # Starts at zero where a mean image is added: the first reconstruction is the mean.
        start = "zeros" if self.mean_image else keras.initializers.GlorotUniform(seed=self.seed + 2000)
        if self.patch > 1:
            self.to_volume = PatchExpansion(1, self.patch, self.volume_shape, start, dtype=policy, name="to_volume")
        else:
            self.to_volume = Conv3D(1, 3, padding="same", kernel_initializer=start, dtype=policy, name="to_volume")
        self.mean = MeanImage(name="mean") if self.mean_image else None

    def build_decoder(self, shape):
        """Builds the layers of `make_decoder`; `shape` is that of what `expand` returns."""
        for block in self.decoder_blocks:
            block.build(shape)
            shape = block.compute_output_shape(shape)
        self.to_volume.build(shape)
        if self.mean is not None:
            self.mean.build((None, *self.volume_shape, 1))

    @abc.abstractmethod
    def build_latent(self, features_shape):
        """Builds what lies between the encoder's features and z."""

    @abc.abstractmethod
    def posterior(self, volumes, training=False, refined=True) -> dict:
        """Returns {"loc": (batch, latent)} and, for a VAE, {"scale": (batch, latent)}, float32.

        Args:
            volumes: (batch, x, y, z, 1).
            training: whether statistics are those of the batch.
            refined: whether what the encoder says is improved on, where the model does that (never in training).
        """

    def features(self, volumes, training=False):
        """Returns what the convolutions of the encoder see, (batch, *grid, channels).

        Raises:
            ValueError: volumes of another shape than the model's.
        """
        expected = (*self.volume_shape, 1)
        if tuple(volumes.shape[1:]) != expected:
            raise ValueError(
                f"volumes: got a shape of {tuple(volumes.shape)}, expected (batch, {', '.join(map(str, expected))})."
            )
        if self.patch_embedding is not None:
            volumes = self.patch_embedding(volumes)
        for block in self.encoder_blocks:
            volumes = block(volumes, training=training)
        return volumes

    def encode(self, volumes):
        """Returns the latents of `volumes`: the posterior means, (batch, latent) float32."""
        return self.posterior(volumes)["loc"]

    def decode(self, z, training=False, condition=None):
        """Returns the volumes that latents `z` (batch, latent) stand for, (batch, x, y, z, 1) float32.

        Args:
            z: latents.
            training: whether statistics are those of the batch.
            condition: covariates (batch, condition_size), where the model has any; None where nothing is known.
        """
        return self.decode_parts(z, training, condition)["reconstruction"]

    def decode_parts(self, z, training=False, condition=None) -> dict:
        """Returns {"reconstruction": what `decode` returns} and what else the decoder makes of `z` on the way."""
        outputs = self.expand(self.with_condition(z, condition))
        for block in self.decoder_blocks:
            outputs = block(outputs, training=training)
        outputs = tf.cast(self.to_volume(outputs), tf.float32)
        return {"reconstruction": outputs if self.mean is None else self.mean(outputs)}

    def with_condition(self, z, condition=None):
        """Returns latents `z` with the covariates behind, as the decoder takes them; zeros are "unknown"."""
        if not self.condition_size:
            return z
        if condition is None:
            condition = tf.zeros([tf.shape(z)[0], self.condition_size])
        return tf.concat([z, tf.cast(condition, tf.float32)], axis=-1)

    def apply_mask(self, volumes):
        """Returns `volumes` (batch, x, y, z, 1) with 0 where voxels do not count; in most models all do."""
        return volumes

    @property
    def num_counted(self) -> int:
        """Voxels that count."""
        return self.num_voxels

    def graph(self, function: Callable) -> Callable:
        """Returns `function(self, ...)` of tensors as a graph that is made once for a model, not at every use.

        Weights may change in between; what else `function` reads of the model may not.
        """
        if function not in self._graphs:
            self._graphs[function] = tf.function(functools.partial(function, self), autograph=False)
        return self._graphs[function]

    @functools.cached_property
    def _graphs(self) -> dict[Callable, Callable]:
        return {}  # Kept from Keras, which would look for weights in it.

    @property
    def template(self):
        """The learned image (x, y, z) that the decoder moves, float32; None where it moves none."""
        return None

    def draw(self, posterior: dict, seed):
        """Returns one draw z (batch, latent) of each posterior; where a model has no noise, the latents themselves.

        Args:
            posterior: what `posterior` returns. seed: two integers.
        """
        return posterior["loc"]

    def nll(self, volumes, reconstruction):
        """Returns -log p(volumes given what was decoded), (batch,) nats, of a model that has a likelihood."""
        return self.likelihood(volumes, reconstruction)["nll"]

    def kl(self, posterior: dict, z, condition=None):
        """Returns KL(q(z given x) || p(z)), (batch,) nats, of a model that has a likelihood.

        Args:
            posterior: the parameters that `posterior` returns.
            z: a draw of each.
            condition: covariates (batch, condition_size), where the model has any.
        """
        raise NotImplementedError(f"{type(self).__name__} has no KL.")

    def adapt(self, dataset: Iterable, mask: np.ndarray | None = None) -> None:
        """Sets what is of the training people and not learned: their number, and where the decoder starts.

        As with Keras's own layers of that method, it is called before training; `fit` does it where it was not.

        Args:
            dataset: batches of volumes (batch, x, y, z, 1), or of {"volumes", "condition"}; everyone once.
            mask: (x, y, z) bool, the voxels that a likelihood made with `masked` counts; None: where the mean volume is
                not dark.
        """
        count, total = 0, np.zeros(self.volume_shape, np.float64)
        for batch in dataset:
            volumes = np.asarray(split_inputs(batch)[0])
            total += volumes[..., 0].sum(axis=0, dtype=np.float64)
            count += len(volumes)
        if not count:
            raise ValueError("dataset: got nobody, expected batches of volumes. Give everyone of the training people.")
        self.num_people = count
        self.training_mean = mean = (total / count).astype(np.float32)
        self.start_at_mean(mean)
        if getattr(self.likelihood, "masked", False):
            self.likelihood.limit_to(mean > COUNTED_LEVEL if mask is None else mask)

    def adapt_inference(self, dataset: Iterable, validation: Iterable | None = None) -> None:
        """Sets what inference has beside weights, and is found by the trained weights once; here nothing.

        It is called after training; `fit` does it.

        Args:
            dataset: as in `adapt`.
            validation: batches of people that the weights were not fitted to, likewise.
        """

    def fit(self, x=None, *args, adapt: bool = True, **kwargs):
        """Does what `keras.Model.fit` does, calls `adapt` before, where nobody did, and `adapt_inference` after.

        Args:
            x: volumes (n, x, y, z, 1), a dict of volumes and condition, or a `tf.data.Dataset` of batches of these.
            adapt: whether to; False for who does it.
            args, kwargs: of `keras.Model.fit`.

        Raises:
            ValueError: nobody called `adapt`, and `x` repeats without end, or it is not known whether it does.
        """
        if not adapt:
            return super().fit(x, *args, **kwargs)
        is_endless = isinstance(x, tf.data.Dataset) and int(x.cardinality()) < 0
        if is_endless and not self.num_people:
            raise ValueError(
                "x: got a dataset without end, or of unknown length, expected everyone once. Call adapt(dataset) "
                "before fit, and adapt_inference(dataset) after it."
            )
        if not self.built:
            self.build((None, *self.volume_shape, 1))
        if not self.num_people:
            self.adapt(batches_of(x))
        history = super().fit(x, *args, **kwargs)
        if not is_endless:
            validation = kwargs.get("validation_data")
            self.adapt_inference(batches_of(x), None if validation is None else batches_of(validation))
        return history

    def start_at_mean(self, mean_volume) -> None:
        """Sets the decoder's image to the training mean (x, y, z), where the model has one."""
        if self.mean is not None:
            self.mean.start_at(mean_volume)

    def resampled_weights(self) -> dict[str, list]:
        """Returns the weights that a finer grid changes the shape of, by what becomes of them; see `start_from`.

        Returns:
            image: weights (x, y, z, n) that are images, interpolated. taken_in, given_out: kernels of patches, whose
            values are those of voxels that are summed, and of voxels that are made.
        """
        images = [self.mean.image] if self.mean is not None else []
        taken_in = [self.patch_embedding.convolution.kernel] if self.patch_embedding is not None else []
        is_patched = self.patch > 1 and hasattr(self, "to_volume")  # A decoder of another kind has its own way out.
        given_out = [self.to_volume.convolution.kernel] if is_patched else []
        return {"image": images, "taken_in": taken_in, "given_out": given_out}

    def own_weights(self) -> list:
        """Returns weights that are of a fit, or set by it once, and do not go over to another one."""
        return []

    def describe(self) -> list[str]:
        """Returns lines for the log about the model before it is trained."""
        return []

    def record(self, **values) -> None:
        """Updates the running means that Keras reports, by name: of one value a subject (batch,), or one a step."""
        for name, value in values.items():
            self.reported[name].update_state(value)

    def report(self, *names: str) -> None:
        """Declares the names that `record` updates."""
        self.reported = {name: keras.metrics.Mean(name=name) for name in names}

    def get_config(self):
        return {
            **super().get_config(),
            "volume_shape": self.volume_shape,
            "latent_dim": self.latent_dim,
            "latent_channels": self.latent_channels,
            "channels": self.channels,
            "patch": self.patch,
            "residual": self.residual,
            "mean_image": self.mean_image,
            "condition_size": self.condition_size,
            "seed": self.seed,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }

"""What every model of volumes shares: the paper's encoder and an honest decoder around a latent vector."""

import abc
import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from mrigen.layers import Conv3D, DecoderBlock, EncoderBlock, MeanImage, PatchEmbedding, PatchExpansion
from mrigen.layers.latent_head import flat_size
from mrigen.recipe import ModelRecipe

# Patches along the longest side that "auto" allows.
MOST_PATCHES = 80


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
        condition_size: length of the vector of covariates that the decoder is told beside z; 0 for none.
        seed: seed of weights and noise.
        dtype: Keras dtype policy of the convolutions; latents, likelihood and losses are float32 under any.

    Input shape: (batch, x, y, z, 1), intensities in [0, 1].
    Output: a dict that holds at least "reconstruction" (batch, x, y, z, 1) and "loc" (batch, latent), float32.
    """

    # What a model may have beside encoder and decoder; None where it has none.
    prior = None
    likelihood = None
    refinement = None

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
        self.latent_dim = latent_dim
        self.latent_channels = latent_channels
        self.channels = tuple(channels)
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
        self.take_in = (
            PatchEmbedding(self.channels[0], patch, seed + 600, dtype=policy, name="take_in") if patch > 1 else None
        )
        self.encoder_blocks = [
            EncoderBlock(width, residual, seed=seed + 10 * index, dtype=policy, name=f"encoder_{index}")
            for index, width in enumerate(self.channels)
        ]
        self.expand = latent_expansion(self.grid, latent_dim, self.channels[-1], seed + 500)
        self.make_decoder(sides)
        self.trackers: dict[str, keras.metrics.Metric] = {}

    @classmethod
    @abc.abstractmethod
    def from_recipe(cls, recipe: ModelRecipe, volume_shape, precision: str, seed: int) -> "LatentModel":
        """Returns the unbuilt model of a recipe's `model` block."""

    @property
    def num_voxels(self) -> int:
        """Voxels of a volume."""
        return flat_size(self.volume_shape)

    @property
    def latent_size(self) -> int:
        """Length of the latent vector."""
        return flat_size(self.grid) * self.latent_channels if self.latent_dim is None else self.latent_dim

    def build(self, input_shape):
        shape = tuple(input_shape["volumes"] if isinstance(input_shape, dict) else input_shape)
        if self.take_in is not None:
            self.take_in.build(shape)
            shape = self.take_in.compute_output_shape(shape)
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
        """Returns what the convolutions of the encoder see, (batch, *grid, channels)."""
        if self.take_in is not None:
            volumes = self.take_in(volumes)
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
        outputs = self.expand(self.told(z, condition))
        for block in self.decoder_blocks:
            outputs = block(outputs, training=training)
        outputs = tf.cast(self.to_volume(outputs), tf.float32)
        return {"reconstruction": outputs if self.mean is None else self.mean(outputs)}

    def told(self, z, condition=None):
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

    def start_at_mean(self, mean_volume) -> None:
        """Sets the decoder's image to the training mean (x, y, z), where the model has one."""
        if self.mean is not None:
            self.mean.start_at(mean_volume)

    def track(self, **values) -> None:
        """Updates the running means that Keras reports, by name: of one value a subject (batch,), or one a step."""
        for name, value in values.items():
            self.trackers[name].update_state(value)

    def add_trackers(self, *names: str) -> None:
        """Declares the names that `track` updates."""
        self.trackers = {name: keras.metrics.Mean(name=name) for name in names}

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


def choose_patch(patch: int | str, volume_shape) -> int:
    """Returns the patch size of a recipe: the number as it is, or for "auto" the power of two that suits the volume.

    Example:
        >>> [choose_patch("auto", shape) for shape in ((58, 70, 58), (96, 112, 96), (160, 192, 160))]
        [1, 2, 4]
    """
    if patch != "auto":
        return int(patch)
    patch = 1
    while max(volume_shape) > MOST_PATCHES * patch:
        patch *= 2
    return patch


def latent_expansion(grid, latent_dim: int | None, channels: int, seed: int) -> keras.Sequential:
    """Returns the float32 layers from z (batch, latent) to (batch, *grid, channels or latent channels)."""
    initializer = keras.initializers.HeNormal(seed=seed)
    if latent_dim is None:
        layers = [
            keras.layers.Reshape((*grid, -1), dtype="float32"),
            Conv3D(channels, 1, kernel_initializer=initializer, activation="relu", dtype="float32"),
        ]
    else:
        size = flat_size(grid) * channels
        layers = [
            keras.layers.Dense(size, kernel_initializer=initializer, activation="relu", dtype="float32"),
            keras.layers.Reshape((*grid, channels), dtype="float32"),
        ]
    return keras.Sequential(layers, name="expand")

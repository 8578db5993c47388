"""The cases of the shared battery: one line for each public layer and model; `test_battery.py` puts all to the test.

A new layer or model adds a case here, and nothing else, to be tested like the others.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mrigen.distributions import (
    DetailFlow,
    DiagonalGaussianPosterior,
    FlowPrior,
    GaussianLikelihood,
    LaplaceLikelihood,
    LowRankGaussianPosterior,
    MixturePrior,
    NormalPrior,
    StudentLikelihood,
)
from mrigen.layers import (
    Conv3D,
    Conv3DTranspose,
    ConvolutionBlock,
    DecoderBlock,
    EncoderBlock,
    Erasure,
    FusedBatchNormalization,
    MeanImage,
    PatchEmbedding,
    PatchExpansion,
    Predictability,
    TimedBlock,
    WarpedTemplate,
)
from mrigen.models import Autoencoder, MorphingAutoencoder, VariationalAutoencoder

SIDES = (9, 8, 7)
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class Case:
    """How one class is made and fed, and what it returns; `sides` are the (x, y, z) of the input.

    Args:
        make: from sides, seed and dtype to the layer or model.
        output: from sides to the output's shape without the batch, or a dict of them; None for one number a batch.
        channels: channels of each input; a tuple is the whole shape of an input that is no volume, without the batch.
        always_float32: whether the output is float32 under any policy.
    """

    name: str
    kind: type
    make: Callable
    output: Callable
    channels: tuple[int | tuple, ...] = (3,)
    always_float32: bool = False

    def __str__(self):
        return self.name

    @property
    def is_model(self):
        return issubclass(self.kind, keras.Model)

    @property
    def is_told(self):
        return self.is_model and len(self.channels) == 2

    def built(self, sides=SIDES, seed=0, dtype="float32"):
        """Returns the layer or model, built by its input shapes, with no weight at its starting value."""
        layer = self.make(sides, seed, dtype)
        self.build(layer, sides)
        disturb(layer, seed)
        return layer

    def build(self, layer, sides=SIDES):
        """Builds `layer` by its input shapes."""
        layer.build(*self.input_shapes(sides)[: 1 if self.is_model else None])

    def input_shapes(self, sides=SIDES, batch=None):
        """Returns the shape of each input."""
        shapes = [channels if isinstance(channels, tuple) else (*sides, channels) for channels in self.channels]
        return [(batch, *shape) for shape in shapes]

    def inputs(self, sides=SIDES, batch=2, seed=7):
        """Returns the list of inputs, (batch, *sides, channels) float32, intensities in [0, 1]."""
        generator = np.random.default_rng(seed)
        return self.each_input(lambda shape: tf.constant(generator.uniform(size=shape).astype("float32")), sides, batch)

    def each_input(self, make, sides=SIDES, batch=None):
        """Returns the list of what `make` makes of the shape of each input; a model that is told covariates takes a
        dict of both."""
        made = [make(shape) for shape in self.input_shapes(sides, batch)]
        return [dict(zip(("volumes", "condition"), made, strict=True))] if self.is_told else made

    def shapes(self, sides, batch):
        """Returns the output shapes of a batch, as the output is nested."""
        output = self.output(sides)
        if output is None:
            return ()
        return {k: (batch, *v) for k, v in output.items()} if isinstance(output, dict) else (batch, *output)

    def loss(self, layer, inputs):
        """Returns a scalar that depends on every output: a model's own loss, or a random weighing of the outputs."""
        outputs = layer(*inputs, training=True) if "training" in layer._call_signature.parameters else layer(*inputs)
        if self.is_model:
            return layer.compute_loss(x=inputs[0], y_pred=outputs)
        generator = np.random.default_rng(3)
        weigh = [generator.normal(size=output.shape).astype("float32") for output in tf.nest.flatten(outputs)]
        return sum(
            tf.reduce_sum(tf.cast(output, tf.float32) * w)
            for output, w in zip(tf.nest.flatten(outputs), weigh, strict=True)
        )


def disturb(layer, seed=0):
    """Moves every weight away from its starting value; positive ones stay positive, counted voxels what they are."""
    generator = np.random.default_rng(seed + 99)
    for weight in layer.weights:
        if weight.name == "inside":
            continue
        noise = generator.normal(size=weight.shape)
        weight.assign(weight.numpy() * np.exp(0.2 * noise) + 0.05 * np.abs(generator.normal(size=weight.shape)))


def as_model(layer, case, sides=SIDES):
    """Returns `layer` as a Keras model, through a symbolic call."""
    if case.is_model:
        return layer
    inputs = [keras.Input(shape[1:]) for shape in case.input_shapes(sides)]
    return keras.Model(inputs, layer(*inputs))


def halved(sides, times=1):
    """Returns the sides after `times` halvings that round up."""
    for _ in range(times):
        sides = tuple(-(-side // 2) for side in sides)
    return sides


def save_and_load(source, target):
    """Copies the weights of a model through a .weights.h5 file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.weights.h5"
        source.save_weights(path)
        target.load_weights(path)


def flat(outputs):
    """Returns the outputs as a flat list of float64 arrays."""
    return [np.asarray(tf.cast(output, tf.float32), dtype=float) for output in tf.nest.flatten(outputs)]


def _model(kind, latent_dim, **options):
    def make(sides, seed, dtype):
        return kind(sides, latent_dim=latent_dim, latent_channels=2, channels=(2, 3), seed=seed, dtype=dtype, **options)

    def output(sides):
        patches = [-(-side // options.get("patch", 1)) for side in sides]
        latent = (4,) if latent_dim else (2 * int(np.prod(halved(patches, 2))),)
        names = ("loc",) if kind is Autoencoder else ("loc", "scale", "z")
        parts = {"reconstruction": (*sides, 1)}
        if options.get("posterior") == "low_rank":
            parts["factor"] = (*latent, 4)
        if kind is MorphingAutoencoder:
            coarse = tuple(-(-side // options.get("field_spacing", 4)) for side in sides)
            parts |= {"velocity": (*coarse, 3), "displacement": (*sides, 3), "gain": (*sides, 1), "offset": (*sides, 1)}
            if "detail_penalty" in options:
                parts["detail"] = (*sides, 1)
        return {**dict.fromkeys(names, latent), **parts}

    name = "-".join([kind.__name__, "vector" if latent_dim else "spatial", *map(str, options.values())])
    return Case(name, kind, make, output, channels=(1,), always_float32=True)


def _told(kind, **options):
    case = _model(kind, 4, condition_size=3, **options)

    def output(sides):
        return {**case.output(sides), "condition": (3,)}

    return dataclasses.replace(case, output=output, channels=(1, (3,)))


def _likelihood(kind, sigma, masked=False):
    return Case(
        f"{kind.__name__}-{sigma}{'-masked' * masked}",
        kind,
        make=lambda sides, seed, dtype: kind(sigma, masked, dtype=dtype),
        output=lambda sides: {"nll": (), "squared_error": ()},
        channels=(1, 1),
        always_float32=True,
    )


def _prior(kind, condition_size=0, **options):
    return Case(
        f"{kind.__name__}{'-told' * bool(condition_size)}",
        kind,
        make=lambda sides, seed, dtype: kind(6, condition_size, seed, dtype=dtype, **options),
        output=lambda sides: (),
        channels=((6,), (condition_size,)) if condition_size else ((6,),),
        always_float32=True,
    )


def _glorot(seed):
    return keras.initializers.GlorotUniform(seed=seed)


CASES = (
    Case(
        "FusedBatchNormalization",
        FusedBatchNormalization,
        make=lambda sides, seed, dtype: FusedBatchNormalization(0.9, 1e-2, dtype=dtype),
        output=lambda sides: (*sides, 3),
    ),
    Case(
        "Conv3D",
        Conv3D,
        make=lambda sides, seed, dtype: Conv3D(4, 3, padding="same", kernel_initializer=_glorot(seed), dtype=dtype),
        output=lambda sides: (*sides, 4),
    ),
    Case(
        "Conv3D-to_one",
        Conv3D,
        make=lambda sides, seed, dtype: Conv3D(1, 3, padding="same", kernel_initializer=_glorot(seed), dtype=dtype),
        output=lambda sides: (*sides, 1),
    ),
    Case(
        "Conv3DTranspose",
        Conv3DTranspose,
        make=lambda sides, seed, dtype: Conv3DTranspose(4, 2, 2, kernel_initializer=_glorot(seed), dtype=dtype),
        output=lambda sides: (*[2 * side for side in sides], 4),
    ),
    Case(
        "EncoderBlock",
        EncoderBlock,
        make=lambda sides, seed, dtype: EncoderBlock(4, seed=seed, dtype=dtype),
        output=lambda sides: (*halved(sides), 4),
    ),
    Case(
        "EncoderBlock-residual",
        EncoderBlock,
        make=lambda sides, seed, dtype: EncoderBlock(4, residual=True, seed=seed, dtype=dtype),
        output=lambda sides: (*halved(sides), 4),
    ),
    Case(
        "ConvolutionBlock",
        ConvolutionBlock,
        make=lambda sides, seed, dtype: ConvolutionBlock(4, seed=seed, dtype=dtype),
        output=lambda sides: (*sides, 4),
    ),
    Case(
        "DecoderBlock",
        DecoderBlock,
        make=lambda sides, seed, dtype: DecoderBlock(4, cropped(sides), seed=seed, dtype=dtype),
        output=lambda sides: (*cropped(sides), 4),
    ),
    Case(
        "DecoderBlock-even",
        DecoderBlock,
        make=lambda sides, seed, dtype: DecoderBlock(4, [2 * side for side in sides], seed=seed, dtype=dtype),
        output=lambda sides: (*[2 * side for side in sides], 4),
    ),
    Case(
        "DecoderBlock-residual",
        DecoderBlock,
        make=lambda sides, seed, dtype: DecoderBlock(4, cropped(sides), True, seed, dtype=dtype),
        output=lambda sides: (*cropped(sides), 4),
    ),
    Case(
        "PatchEmbedding",
        PatchEmbedding,
        make=lambda sides, seed, dtype: PatchEmbedding(4, 3, seed=seed, dtype=dtype),
        output=lambda sides: (*[-(-side // 3) for side in sides], 4),
    ),
    Case(
        "PatchExpansion",
        PatchExpansion,
        make=lambda sides, seed, dtype: PatchExpansion(
            2, 3, [3 * side - 1 for side in sides], keras.initializers.HeNormal(seed=seed), dtype=dtype
        ),
        output=lambda sides: (*[3 * side - 1 for side in sides], 2),
    ),
    Case(
        "MeanImage",
        MeanImage,
        make=lambda sides, seed, dtype: MeanImage(dtype=dtype),
        output=lambda sides: (*sides, 1),
        channels=(1,),
        always_float32=True,
    ),
    Case(
        "WarpedTemplate",
        WarpedTemplate,
        make=lambda sides, seed, dtype: WarpedTemplate(dtype=dtype),
        output=lambda sides: (*sides, 1),
        always_float32=True,
    ),
    Case(
        "TimedBlock",
        TimedBlock,
        make=lambda sides, seed, dtype: TimedBlock(3, seed=seed, dtype=dtype),
        output=lambda sides: (*sides, 3),
        channels=(3, (5,)),
    ),
    Case(
        "DetailFlow",
        DetailFlow,
        make=lambda sides, seed, dtype: DetailFlow((4, 6), 1, seed=seed, dtype=dtype),
        output=lambda sides: (*sides, 1),
        channels=(1, 1, 3, ()),
        always_float32=True,
    ),
    Case(
        "DiagonalGaussianPosterior-vector",
        DiagonalGaussianPosterior,
        make=lambda sides, seed, dtype: DiagonalGaussianPosterior(5, seed=seed, dtype=dtype),
        output=lambda sides: {"loc": (5,), "scale": (5,)},
        always_float32=True,
    ),
    Case(
        "DiagonalGaussianPosterior-spatial",
        DiagonalGaussianPosterior,
        make=lambda sides, seed, dtype: DiagonalGaussianPosterior(None, 2, seed=seed, dtype=dtype),
        output=lambda sides: dict.fromkeys(("loc", "scale"), (2 * int(np.prod(sides)),)),
        always_float32=True,
    ),
    Case(
        "LowRankGaussianPosterior-vector",
        LowRankGaussianPosterior,
        make=lambda sides, seed, dtype: LowRankGaussianPosterior(5, seed=seed, rank=2, dtype=dtype),
        output=lambda sides: {"loc": (5,), "scale": (5,), "factor": (5, 2)},
        always_float32=True,
    ),
    Case(
        "LowRankGaussianPosterior-spatial",
        LowRankGaussianPosterior,
        make=lambda sides, seed, dtype: LowRankGaussianPosterior(None, 2, seed=seed, rank=1, dtype=dtype),
        output=lambda sides: {
            **dict.fromkeys(("loc", "scale"), (2 * int(np.prod(sides)),)),
            "factor": (2 * int(np.prod(sides)), 1),
        },
        always_float32=True,
    ),
    _likelihood(GaussianLikelihood, "optimal"),
    _likelihood(GaussianLikelihood, "learned"),
    _likelihood(GaussianLikelihood, 0.3),
    _likelihood(GaussianLikelihood, "voxelwise"),
    _likelihood(GaussianLikelihood, "optimal", masked=True),
    _likelihood(LaplaceLikelihood, "optimal"),
    _likelihood(StudentLikelihood, "voxelwise", masked=True),
    _prior(NormalPrior),
    _prior(NormalPrior, 3),
    _prior(MixturePrior, num_components=3),
    _prior(MixturePrior, 3, num_components=3),
    _prior(FlowPrior, num_couplings=2, width=5),
    _prior(FlowPrior, 3, num_couplings=2, width=5),
    Case(
        "Predictability",
        Predictability,
        make=lambda sides, seed, dtype: Predictability(8, dtype=dtype),
        output=lambda sides: None,
        channels=((6,), (2,)),
        always_float32=True,
    ),
    Case(
        "Erasure",
        Erasure,
        make=lambda sides, seed, dtype: Erasure(dtype=dtype),
        output=lambda sides: (6,),
        channels=((6,),),
        always_float32=True,
    ),
    _model(Autoencoder, 4),
    _model(Autoencoder, None, mean_image=False),
    _model(VariationalAutoencoder, 4),
    _model(VariationalAutoencoder, 4, decoder_sigma="learned", beta=0.5),
    _model(VariationalAutoencoder, None, objective="paper", mean_image=False),
    _model(
        VariationalAutoencoder,
        4,
        posterior="low_rank",
        prior="vamp",
        prior_components=3,
        likelihood="student",
        decoder_sigma="voxelwise",
        masked=True,
    ),
    _told(VariationalAutoencoder, prior="flow", likelihood="laplace", invariant=(0, 1)),
    _model(Autoencoder, 4, patch=2),
    _model(VariationalAutoencoder, None, patch=3, residual=True),
    _model(MorphingAutoencoder, 4, field_channels=3),
    _model(MorphingAutoencoder, 4, field_channels=3, patch=2),
    _model(MorphingAutoencoder, 4, field_channels=3, velocity_smoothness="learned", affine=True, detail_penalty=10.0),
    _model(MorphingAutoencoder, None, field_spacing=3, integration_steps=3, velocity_smoothness=0.1),
    _model(MorphingAutoencoder, 4, field_spacing=5, field_channels=3, affine=True, linear_fields=True),
    _model(MorphingAutoencoder, 4, field_channels=3, refinement_steps=2, detail_penalty=10.0),
    _model(MorphingAutoencoder, 4, field_channels=3, appearance_modes=2),
)
MODEL_CASES = tuple(case for case in CASES if case.is_model)


def cropped(sides):
    """Returns 2n, 2n - 1, 2n: what a decoder block may be asked for."""
    x, y, z = sides
    return 2 * x, 2 * y - 1, 2 * z

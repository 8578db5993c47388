"""Keras 3 layers for volumes of shape (batch, x, y, z, channels), and functions of volumes and vector fields."""

from mrigen.layers.batch_norm import FusedBatchNormalization
from mrigen.layers.blocks import ConvolutionBlock, DecoderBlock, EncoderBlock
from mrigen.layers.convolutions import Conv3D, Conv3DTranspose
from mrigen.layers.erasure import Erasure
from mrigen.layers.fields import (
    bending,
    coarsen,
    compose_displacements,
    integrate_velocity,
    jacobian_determinant,
    upsample,
    upsample_displacement,
)
from mrigen.layers.folding import fold, unfold
from mrigen.layers.mean_image import MeanImage
from mrigen.layers.patches import PatchEmbedding, PatchExpansion
from mrigen.layers.predictability import Predictability
from mrigen.layers.timed_block import TimedBlock, normalised
from mrigen.layers.warped_template import WarpedTemplate
from mrigen.layers.warping import warp

__all__ = [
    "Conv3D",
    "Conv3DTranspose",
    "ConvolutionBlock",
    "DecoderBlock",
    "EncoderBlock",
    "Erasure",
    "FusedBatchNormalization",
    "MeanImage",
    "PatchEmbedding",
    "PatchExpansion",
    "Predictability",
    "TimedBlock",
    "WarpedTemplate",
    "bending",
    "coarsen",
    "compose_displacements",
    "fold",
    "integrate_velocity",
    "jacobian_determinant",
    "normalised",
    "unfold",
    "upsample",
    "upsample_displacement",
    "warp",
]

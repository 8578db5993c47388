"""Keras 3 layers for volumes of shape (batch, x, y, z, channels)."""

from mrigen.layers.batch_norm import FusedBatchNormalization
from mrigen.layers.blocks import DecoderBlock, EncoderBlock
from mrigen.layers.mean_image import MeanImage
from mrigen.layers.patches import PatchEmbedding, PatchExpansion

__all__ = ["DecoderBlock", "EncoderBlock", "FusedBatchNormalization", "MeanImage", "PatchEmbedding", "PatchExpansion"]

"""The layers between features and latents, and back."""

import keras

from mrigen.layers.convolutions import Conv3D


def latent_head(latent_dim: int | None, latent_channels: int, seed: int | None, name: str, gain: float = 1.0):
    """Returns the float32 layer from features to latents: dense, or 1x1x1 convolution for a spatial latent.

    The caller divides the features by the square root of their number, and the weights start with variance `gain`, not
    `gain` / number: Adam moves every weight alike, and with thousands of features a step of all of them at once would
    throw the latents far off.

    References:
        Karras et al. 2018, Progressive growing of GANs, section 4.1 (equalised learning rate).
    """
    initializer = keras.initializers.RandomNormal(stddev=gain**0.5, seed=seed)
    if latent_dim is None:
        return Conv3D(latent_channels, 1, kernel_initializer=initializer, dtype="float32", name=name)
    return keras.layers.Dense(latent_dim, kernel_initializer=initializer, dtype="float32", name=name)


def flat_size(sides) -> int:
    """Returns the product of `sides`."""
    size = 1
    for side in sides:
        size *= int(side)
    return size


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

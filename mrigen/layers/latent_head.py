"""The layer between features and latents."""

import keras


def latent_head(latent_dim: int | None, latent_channels: int, seed: int | None, name: str, gain: float = 1.0):
    """Returns the float32 layer from features to latents: dense, or 1x1x1 convolution for a spatial latent."""
    initializer = keras.initializers.VarianceScaling(gain, mode="fan_in", distribution="normal", seed=seed)
    if latent_dim is None:
        return keras.layers.Conv3D(latent_channels, 1, kernel_initializer=initializer, dtype="float32", name=name)
    return keras.layers.Dense(latent_dim, kernel_initializer=initializer, dtype="float32", name=name)


def flat_size(sides) -> int:
    """Returns the product of `sides`."""
    size = 1
    for side in sides:
        size *= int(side)
    return size

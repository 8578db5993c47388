"""The keys of `detail`: how the network is trained that draws what decoders leave out."""

from typing import Annotated

from pydantic import Field

from mrigen.schema import Section, key


class DetailRecipe(Section):
    steps: int = key(
        0,
        "an integer from 0 to 10,000,000",
        "Training steps, after the model's own, of a network that draws the fine structure of samples; 0 for none.",
        ge=0,
        le=10_000_000,
    )
    channels: list[Annotated[int, Field(ge=1, le=4096)]] = key(
        [48, 96, 128],
        "a list of 1 to 6 integers >= 1",
        "Channels at each resolution, from places of two voxels a side down.",
        min_length=1,
        max_length=6,
    )
    blocks: int = key(1, "an integer from 1 to 16", "Residual blocks at each resolution, each way.", ge=1, le=16)
    crop: int = key(
        48,
        "an even integer from 8 to 512",
        "Voxels a side of the crops that it learns from.",
        ge=8,
        le=512,
        multiple_of=2,
    )
    batch_size: int = key(2, "an integer from 1 to 4096", "Crops a step.", ge=1, le=4096)
    learning_rate: float = key(2e-3, "a number above 0 and up to 1", "Step size of Adam at the start.", gt=0, le=1)
    mirror: bool = key(
        True,
        "true or false",
        "Learn from crops and from their mirror images, left and right: detail knows no side, and people are few.",
    )
    draw_steps: int = key(
        10, "an integer from 1 to 1000", "Steps from noise to a drawn image (of Heun's method).", ge=1, le=1000
    )

"""The recipes of the term paper: what their names say, on grids and with latents of the paper's sizes."""

import math

import pytest

from mrigen.models import build_model, families
from mrigen.recipe import list_recipes, load_recipe

GRID = [(blocks, channels) for blocks in (1, 2, 3, 4) for channels in (16, 32, 64)]
# Sides after 1 to 4 halvings of 58x70x58, rounded up.
SIDES = {1: (29, 35, 29), 2: (15, 18, 15), 3: (8, 9, 8), 4: (4, 5, 4)}


def test_the_grid_is_whole():
    names = {name for name in list_recipes() if name.startswith("paper/")}
    assert names == {f"paper/ae-{blocks}x{channels}" for blocks, channels in GRID} | {
        "paper/ae-16-32",
        "paper/vae",
        "paper/vae-elbo",
    }


@pytest.mark.parametrize(("blocks", "channels"), GRID)
def test_an_autoencoder_is_what_its_name_says(blocks, channels):
    recipe = load_recipe(f"paper/ae-{blocks}x{channels}")
    assert recipe.preprocess.volume_shape == (58, 70, 58)
    assert (recipe.model.kind, recipe.model.block_channels) == ("autoencoder", [channels] * blocks)
    model = build_model(recipe.model, recipe.preprocess.volume_shape)
    assert model.latent_size == 16 * math.prod(SIDES[blocks])
    assert model.patch == 1


def test_autoencoders_differ_in_blocks_and_channels_alone():
    others = {
        load_recipe(f"paper/ae-{blocks}x{channels}", ["model.blocks=1", "model.channels=1"]).model_dump_json()
        for blocks, channels in GRID
    }
    others.add(load_recipe("paper/ae-16-32", ["model.blocks=1", "model.channels=1"]).model_dump_json())
    assert len(others) == 1


def test_the_best_autoencoder_goes_from_16_to_32_channels():
    assert load_recipe("paper/ae-16-32").model.block_channels == [16, 32, 32]


def test_the_vae_has_the_voxels_latents_and_compression_of_the_paper():
    recipe = load_recipe("paper/vae")
    # Not built: its dense layers have 93 million weights.
    model = families()["vae"].load().from_recipe(recipe.model, recipe.preprocess.volume_shape, "float32", 0)
    assert (recipe.model.objective, model.channels) == ("paper", (32, 32, 32))
    assert (model.num_voxels / 2, model.latent_size) == (59856, 3360)
    assert round(model.num_voxels / model.latent_size) == 36

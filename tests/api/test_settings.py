"""What a caller of `fit` writes, and the recipe that it means."""

from pathlib import Path

import numpy as np
import pytest

from mrigen.api import settings as module
from mrigen.api.settings import find_key, keys_of_recipes, name_of, resolve_recipe
from mrigen.errors import RecipeError, UsageError
from mrigen.recipe import dump_recipe, load_recipe


def resolve(recipe="smoke", data=None, **settings):
    return resolve_recipe(recipe, data, settings)


@pytest.mark.parametrize(
    "given",
    [{"epochs": 7}, {"training": {"epochs": 7}}, {"training.epochs": 7}, {"training": {"epochs": np.int64(7)}}],
)
def test_settings_are_keys_blocks_or_dotted_keys(given):
    expected = load_recipe("smoke", ["training.epochs=7"])
    assert resolve(**given) == expected


def test_recipes_are_names_paths_mappings_and_recipes(tmp_path):
    expected = load_recipe("smoke", ["training.epochs=7"])
    path = tmp_path / "mine.yaml"
    dump_recipe(expected, path)
    mapping = expected.model_dump()
    for recipe in ("smoke", path, str(path), mapping, load_recipe("smoke")):
        assert resolve(recipe, epochs=7) == expected
    assert [name_of(recipe) for recipe in ("smoke", path, mapping)] == ["smoke", "mine", "recipe"]
    assert mapping == expected.model_dump(), "what was given is not changed"


def test_blocks_are_merged_and_plain_mappings_replaced():
    recipe = resolve(augment={"noise": 0.5}, where={"site": "a"}, split={"seed": 3}, volume_shape=(16, 24, 16))
    assert recipe.training.augment.noise == 0.5 and recipe.training.augment.shift == 6.0
    assert recipe.data.where == {"site": "a"}
    assert recipe.data.split.seed == 3 and recipe.data.split.train == 0.7
    assert resolve(augment=None).training.augment is None


def test_the_shallowest_key_of_a_name_is_meant():
    assert find_key("seed") == "training.seed"
    assert find_key("zooms") == "preprocess.zooms"
    assert find_key("num_sites") == "data.phantom.num_sites"
    assert find_key("model") == "model"
    assert find_key("field_channels") == "model.field_channels", "keys of other kinds are known, too"


def test_a_name_of_several_keys_on_one_level_is_refused_with_the_candidates(monkeypatch):
    monkeypatch.setattr(module, "keys_of_recipes", lambda: {"data.size": False, "model.size": False})
    with pytest.raises(UsageError, match=r"size: got a name that data.size and model.size have"):
        find_key("size")


def test_an_unknown_name_says_what_may_be_meant():
    with pytest.raises(UsageError, match=r"latentdim: no key .* Did you mean 'latent_dim' \(model.latent_dim\)\?"):
        resolve(latentdim=3)


def test_faults_are_said_in_the_recipes_own_words_all_together():
    with pytest.raises(RecipeError) as caught:
        resolve(epochs="many", training={"seed": -1})
    assert [line.split(":")[1].strip() for line in caught.value.faults] == ["training.epochs", "training.seed"]
    with pytest.raises(RecipeError, match=r"training.epoch: unknown key.*Did you mean 'epochs'"):
        resolve(training={"epoch": 3})
    with pytest.raises(RecipeError, match=r"trainin: unknown key"):
        resolve(**{"trainin.epochs": 3})


def test_a_key_is_given_once():
    with pytest.raises(UsageError, match=r"training: got training.epochs also as epochs"):
        resolve(epochs=3, training={"epochs": 4})


def test_values_that_no_recipe_can_hold_are_refused():
    with pytest.raises(UsageError, match=r"epochs: got a value of type object"):
        resolve(epochs=object())
    with pytest.raises(UsageError, match=r"recipe: got a int, expected the name of a recipe"):
        resolve(3)


def test_a_value_inside_a_value_that_is_no_block_is_refused():
    with pytest.raises(UsageError, match=r"training.epochs.x: training.epochs is 2, expected a block of keys"):
        resolve(**{"training.epochs.x": 3})


def test_data_is_the_one_source_whatever_the_recipe_has():
    recipe = resolve("smoke", data={"root": Path("/data/x"), "mask": "brain"})
    assert (recipe.data.source, recipe.data.root, recipe.data.mask) == ("files", "/data/x", "brain")
    assert resolve("smoke", data={"num_subjects": 30}).data.source == "phantom"


def test_every_key_of_the_schema_is_known():
    keys = keys_of_recipes()
    assert keys["training"] and keys["data.split"] and not keys["data.split.seed"] and not keys["data.where"]
    assert not any(key.startswith("data.cohorts.") for key in keys), "items of a list are no keys"

"""The keys of a recipe: help for every one, ranges, rules between keys."""

import itertools
import json
import re

import pytest
from pydantic import BaseModel

from mrigen.errors import RecipeError
from mrigen.models import families
from mrigen.recipe import Recipe, parse_recipe
from mrigen.recipe.loading import section_of


def fields(section=Recipe, path=()):
    """Every key of the schema: (dotted key, field)."""
    for name, field in section.model_fields.items():
        yield ".".join((*path, name)), field
        if (*path, name) == ("model",):
            for family in families().values():
                yield from fields(family.keys, (f"model({family.kind})",))
        elif (below := section_of(field.annotation)) is not None:
            yield from fields(below, (*path, name))


@pytest.mark.parametrize(("dotted", "field"), [pytest.param(*pair, id=pair[0]) for pair in fields()])
def test_every_key_says_what_is_expected_and_what_to_do(dotted, field):
    expected = field.json_schema_extra["expected"]
    assert expected[0].islower() or expected.startswith("a BIDS")
    assert re.fullmatch(r"[A-Za-z].*\.", field.description), field.description
    assert not expected.endswith(".")


def test_the_walk_over_the_schema_finds_nested_keys():
    found = {dotted for dotted, _ in fields()}
    assert {"data.phantom.seed", "data.cohorts.root", "data.sex_codes.F", "training.augment.shift"} <= found
    assert len(found) > 60


def test_sections_are_frozen_and_defaults_are_not_shared():
    recipe = Recipe()
    with pytest.raises(ValueError, match="frozen"):
        recipe.model.beta = 2.0
    assert all(isinstance(getattr(recipe, name), BaseModel) for name in Recipe.model_fields)
    recipe.data.exclude.append("sub-1")
    assert Recipe().data.exclude == []


def test_a_recipe_that_wrote_down_the_keys_of_all_kinds_loads_and_keeps_its_own():
    """As the recipe.yaml of runs did once; what differs from the other kinds' defaults is refused."""
    keys = {}
    for family in families().values():
        for name, field in family.keys.model_fields.items():
            keys[name] = field.get_default(call_default_factory=True)
    lines = "".join(f"  {name}: {json.dumps(value)}\n" for name, value in (keys | {"kind": "autoencoder"}).items())
    recipe = parse_recipe(f"model:\n{lines}")
    assert list(recipe.model.model_dump()) == list(families()["autoencoder"].keys.model_fields)
    with pytest.raises(RecipeError, match="got beta for kind: autoencoder"):
        parse_recipe(f"model:\n{lines.replace('beta: 1.0', 'beta: 2.0')}")


def test_an_unknown_kind_is_told_beside_the_kinds_there_are():
    with pytest.raises(RecipeError, match=r"^`model.kind=vea`: model.kind: got 'vea', .*morph. Did you mean 'vae'"):
        parse_recipe("", overrides=["model.kind=vea"])


def test_one_number_stands_for_three():
    recipe = parse_recipe("preprocess: {zooms: 2, volume_shape: 32}")
    assert recipe.preprocess.zooms == (2.0, 2.0, 2.0)
    assert recipe.preprocess.volume_shape == (32, 32, 32)


def test_block_channels_are_one_for_each_block():
    assert parse_recipe("model: {blocks: 2, channels: 7}").model.block_channels == [7, 7]
    assert parse_recipe("model: {blocks: 2, channels: [3, 5]}").model.block_channels == [3, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data.split.train=0.8", r"data.split: got fractions that sum to 1.1, expected 1."),
        ("data.root=a data.cohorts=[{name: x, root: b}]", r"data: got both root and cohorts, expected one of them"),
        ("data.source=phantom data.root=a", r"data: got source: phantom together with root, expected one source"),
        ("data.mask=m data.cohorts=[{name: x, root: b}]", r"data: got mask beside cohorts"),
        ("data.cohorts=[{name: x, root: b}, {name: x, root: c}]", r"got cohorts named x, x, expected different names"),
        ("data.root=a data.apply_mask=true", r"data: got apply_mask: true without a mask, expected data.mask"),
        ("data.apply_mask=true data.cohorts=[{name: x, root: b}, {name: y, root: c}]", "without a mask"),
        ("preprocess.zooms=[4, 0, 4]", r"preprocess: got zooms \[4.0, 0.0, 4.0\], expected numbers from 0.01"),
        ("preprocess.zooms=33", r"preprocess: got zooms .* to 32 mm"),
        ("preprocess.volume_shape=[48, 7, 48]", r"preprocess: got volume_shape \[48, 7, 48\], expected integers >= 8"),
        ("preprocess.intensity_percentiles=[99, 1]", r"got intensity_percentiles \[99, 1\], expected 0 <= low < high"),
        ("model.channels=[8, 16]", r"model: got 2 channels for 3 blocks, expected one a block"),
        ("model.channels=5000", r"model: got channels 5000, expected an integer from 1 to 4096"),
        ("model.likelihood=student", "got likelihood: student with decoder_sigma: optimal, expected another"),
        ("model.objective=iw", "got objective: iw with num_draws: 1, expected at least 2"),
        ("model.invariant_to=[site]", "got invariant_to: site without condition: site, expected both"),
        ("model.refinement_steps=3 model.condition=[sex]", "got refinement_steps: 3 with condition: sex, expected 0"),
        ("model.refinement_steps=3 model.latent_dim=null", "got refinement_steps: 3 with latent_dim: null, expected 0"),
        ("model.condition=[sex, sex]", "got condition with a name twice"),
        ("model.condition=[height]", "model.condition"),
        ("model.prior_components=0", "model.prior_components: got 0, expected an integer from 1 to 1024"),
        ("model.decoder_sigma=-0.5", r"model: got decoder_sigma -0.5, expected a number from 1e-06 to 1000"),
        ("model.decoder_sigma=1e300", r"model: got decoder_sigma 1e\+300, expected a number from 1e-06 to 1000"),
        (
            "training.epochs=1000000000000",
            "training.epochs: got 1000000000000, expected an integer from 1 to 1000000.",
        ),
        ("training.learning_rate=1e+300", r"training.learning_rate: got 1e\+300, expected a number > 0 and up to 10."),
        ("model.beta=1e+300", r"model.beta: got 1e\+300, expected a number from 0 to 1e9."),
        ("model.kind=autoencoder model.beta=2", r"model: got beta for kind: autoencoder, expected these for kind: vae"),
        ("model.field_spacing=2", r"model: got field_spacing for kind: vae, expected these for kind: morph only"),
        ("model.kind=morph model.mean_image=false", r"model: got mean_image: false for kind: morph, expected true"),
    ],
)
def test_rules_between_keys(text, message):
    overrides = re.split(r" (?=[a-z]+\.)", text)
    with pytest.raises(RecipeError, match=message) as caught:
        parse_recipe("", overrides=overrides)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    "text",
    [
        "data.split.train=0.7 data.split.validation=0.1 data.split.heldout=0.2",  # 0.7 + 0.1 + 0.2 != 1 in floats
        "data.source=phantom data.apply_mask=true",
        "data.apply_mask=true data.cohorts=[{name: x, root: b, mask: m}]",
        "data.apply_mask=true data.cohorts=[{name: x, root: b, mask: m}, {name: y, root: c}]",
        "model.kind=autoencoder model.latent_dim=null",
        "model.decoder_sigma=1",
        "training.seed=2147483647",
    ],
)
def test_what_keeps_the_rules_is_taken(text):
    parse_recipe("", overrides=text.split(" ") if "{" not in text else re.split(r" (?=[a-z]+\.)", text))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *itertools.product(["training.epochs"], ["0", "1.0", "1.5", "'3'", "true", "[3]", ".inf", "null", "1e2"]),
        *itertools.product(["training.learning_rate"], ["0", ".nan", ".inf", "'1e-3'", "true"]),
        *itertools.product(["model.mean_image"], ["1", "no", "'true'", "yes"]),
        *itertools.product(["preprocess.zooms"], ["[1, 2]", "[1, 2, 3, 4]", "['1', 2, 3]", "true", "[true, 1, 1]"]),
        *itertools.product(["preprocess.volume_shape"], ["48.0", "[48, 48, 48.5]"]),
        ("training.seed", "2147483648"),
        ("model.latent_dim", "-3"),
        ("data.source", "file"),
        ("data.exclude", "sub-1"),
        ("data.exclude", "[12]"),
        ("data.sex_codes.F", "2"),
        ("training.augment", "3"),
        ("training.augment.rotation", "46"),
        ("model", "3"),
    ],
)
def test_types_and_ranges_are_strict(key, value):
    with pytest.raises(RecipeError) as caught:
        parse_recipe("", overrides=[f"{key}={value}"])
    assert caught.value.faults[0].startswith(f"`{key}={value}`: {key}: got ")
    assert ", expected " in caught.value.faults[0]

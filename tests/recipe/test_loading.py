"""Recipes from and to text: names, YAML 1.2, overrides, faults in words, round trips."""

import itertools
import json
from importlib import resources

import pytest

from mrigen.errors import RecipeError
from mrigen.recipe import (
    Recipe,
    dump_recipe,
    json_schema,
    list_recipes,
    load_recipe,
    parse_recipe,
    recipe_name,
    resolve_recipe_path,
)

FIVE_FAULTS = """
data: {cohorts: [{name: a}]}
model: {latent_dim: -3, knd: vae}
training:
  epoch: 10
  learning_rate: fast
"""


def faults(text, **keys):
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, **keys)
    return list(caught.value.faults)


# ---- faults in words


def test_five_faults_come_together_in_full_words():
    assert sorted(faults(FIVE_FAULTS, place="my.yaml")) == sorted(
        [
            "my.yaml: data.cohorts.0.root: got nothing, expected a path. "
            "BIDS folder, TSV or CSV table with a column of paths, or plain folder of NIfTI.",
            "my.yaml: model.latent_dim: got -3, expected an integer >= 1, or null. Set the number of latent "
            "variables, for example 64; null keeps the spatial latent of the last block.",
            "my.yaml: model.knd: unknown key. Known keys: beta, blocks, capacity_nats, channels, condition, "
            "decoder_sigma, free_bits, invariance_weight, invariant_to, kind, latent_channels, latent_dim, likelihood, "
            "likelihood_mask, mean_image, mmd_weight, num_draws, objective, patch, posterior, posterior_rank, prior, "
            "prior_components, refinement_steps, residual, tc_weight. Did you mean 'kind'?",
            "my.yaml: training.epoch: unknown key. Known keys: augment, batch_size, clip_norm, devices, "
            "early_stopping_epochs, epochs, kl_cycles, kl_warmup_epochs, learning_rate, on_collapse, precision, "
            "schedule, seed, start_from, trackers, workers. Did you mean 'epochs'?",
            "my.yaml: training.learning_rate: got 'fast', expected a number > 0 and up to 10. "
            "Step size of Adam at the start.",
        ]
    )


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("nodel: {}", "recipe: nodel: unknown key. Known keys: data, detail, model, preprocess, training. Did"),
        ("3: x", "recipe: 3: unknown key. Known keys: data, detail, model, preprocess, training."),
        ("? [1, 2]\n: x", "recipe: (1, 2): unknown key. Known keys: data, detail, model, preprocess, training."),
        ("data: {3: x}", "recipe: data.3: unknown key. Known keys: age_column, "),
        ("data: {cohorts: [3]}", "recipe: data.cohorts.0: got 3, expected a list of {name, root, mask}."),
        ("data: {cohorts: 3}", "recipe: data.cohorts: got 3, expected a list of {name, root, mask}."),
        ("data: {sex_codes: {F: [1], M: [2], W: [3]}}", "recipe: data.sex_codes.W: unknown key. Known keys: F, M."),
        ("data: {where: {site: {a: b}}}", "recipe: data.where: got {'a': 'b'}, expected a mapping column: value"),
        ("model: {channels: [32, x, 3]}", "recipe: model.channels: got [32, 'x', 3], expected an integer >= 1, or one"),
        ("model: {decoder_sigma: lerned}", "recipe: model.decoder_sigma: got 'lerned', expected optimal, learned, v"),
        ("training: {augment: {shft: 3}}", "recipe: training.augment.shft: unknown key. Known keys: bias_field, "),
        ("data:\n", "recipe: data: got None, expected a block of keys."),
    ],
)  # fmt: skip
def test_fault_names_the_key_once(text, head):
    (fault,) = faults(text)
    assert fault.startswith(head)


def test_unknown_key_without_a_near_one_has_no_hint():
    assert "Did you mean" not in faults("training: {zzz: 1}")[0]


def test_long_values_are_shortened():
    (fault,) = faults(f"training: {{epochs: {'x' * 500}}}")
    assert len(fault) < 200


@pytest.mark.parametrize("text", ["- 1\n- 2", "just words", "3"])
def test_a_recipe_that_is_no_mapping_is_a_fault(text):
    (fault,) = faults(text, place="my.yaml")
    assert "my.yaml: got a " in fault
    assert "expected a mapping with data, preprocess, model, training" in fault


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_recipe_is_the_defaults(text):
    assert parse_recipe(text) == Recipe()


# ---- YAML 1.2


@pytest.mark.parametrize("word", ["no", "off", "yes", "on", "n"])
def test_words_stay_words(word):
    assert parse_recipe(f"data: {{site_column: {word}}}").data.site_column == word


def test_numbers_are_read_as_yaml_1_2():
    recipe = parse_recipe("training: {learning_rate: 1e-4, epochs: 012, batch_size: 0x10}\ndata: {exclude: ['007']}")
    assert (recipe.training.learning_rate, recipe.training.epochs, recipe.training.batch_size) == (1e-4, 12, 16)
    assert recipe.data.exclude == ["007"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model:\n  beta: 1\n  beta: 2\n", 'my.yaml: line 3, column 3: not valid YAML (found duplicate key "beta"'),
        ("model: [\n", "my.yaml: line 2, column 1: not valid YAML ("),
        ("model:\n\tbeta: 1\n", "my.yaml: line 2, column 1: not valid YAML (found character '\\t'"),
        ("a: 1\n---\nb: 2\n", "my.yaml: line 2, column 1: not valid YAML (but found another document"),
        ("x: \x00", "my.yaml: not valid YAML (unacceptable character"),
        ("x: 2020-13-45", "my.yaml: not valid YAML (month must be in 1..12)"),
    ],
)
def test_invalid_yaml_names_line_and_problem(text, message):
    (fault,) = faults(text, place="my.yaml")
    assert fault.startswith(message)
    assert fault.endswith("Correct the line.")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system [touch {}]", "!!python/name:os.system", "!new x"])
def test_tags_build_no_objects(tmp_path, tag):
    (fault,) = faults(f"data: {tag.format(tmp_path / 'made')}")
    assert "could not determine a constructor for the tag" in fault
    assert not (tmp_path / "made").exists()


# ---- overrides


def test_overrides_are_yaml_and_win_in_order():
    recipe = parse_recipe(
        "training: {epochs: 3}",
        overrides=[
            "training.epochs=5",
            "training.epochs = 7",
            "model.channels=[8, 16, 32]",
            "training.augment=null",
            "data.root=a=b",
            "data.where.site=[x, y]",
            "model.latent_dim=null",
        ],
    )
    assert (recipe.training.epochs, recipe.training.augment, recipe.data.root) == (7, None, "a=b")
    assert (recipe.model.channels, recipe.model.latent_dim) == ([8, 16, 32], None)
    assert recipe.data.where == {"site": ["x", "y"]}


def test_an_override_goes_into_an_empty_block():
    assert parse_recipe("model:\n", overrides=["model.beta=2"]).model.beta == 2.0


def test_a_fault_names_the_file_or_the_override_it_comes_from():
    found = faults(
        "training: {epochs: 0, seed: -1}", place="my.yaml", overrides=["model.beta=-1", "training.seed=x", "data=3"]
    )
    assert {fault.split(": got")[0] for fault in found} == {
        "my.yaml: training.epochs",
        "`model.beta=-1`: model.beta",
        "`training.seed=x`: training.seed",
        "`data=3`: data",
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epochs", "overrides: training.epochs: expected KEY=VALUE, for example `training.epochs=20`."),
        ("=3", "overrides: =3: expected KEY=VALUE"),
        ("training.epochs=[", "`training.epochs=[`: line 1, column 2: not valid YAML"),
        ("training.epochs.more=3", "`training.epochs.more=3`: epochs holds 5, expected a block of keys."),
        ("training.epoch=3", "`training.epoch=3`: training.epoch: unknown key."),
        ("training.epochs=", "`training.epochs=`: training.epochs: got None, expected an integer from 1 to 1000000."),
    ],
)
def test_faults_of_an_override(override, message):
    (fault,) = faults("training: {epochs: 5}", overrides=[override])
    assert fault.startswith(message)


# ---- out and in


CHANGED = """
data:
  cohorts:
    - {name: 'no', root: '~/a: b #c', mask: 'x/{id}_mask.nii.gz'}
    - {name: '012', root: "it's \\"quoted\\"", mask: 'null'}
  sex_codes: {F: [2, 'w'], M: [1.5]}
  where: {site: ['1e-4', 3, true, 2.0], group: patient}
  exclude: ['0012', '2020-11-05', 'true', ' ', 'Ångström']
  split: {seed: 9, train: 0.5, validation: 0.25, heldout: 0.25}
preprocess: {zooms: [1, 2.5, 4], volume_shape: [8, 9, 10], centre: mask, intensity_percentiles: [1, 99]}
model: {latent_dim: null, channels: [4, 8, 16], decoder_sigma: 0.125, beta: 1e-7}
training: {learning_rate: 1e-05, augment: null, clip_norm: 1e+22}
"""


@pytest.mark.parametrize("text", ["", CHANGED, "training: {augment: {flip: true}}"])
def test_a_dumped_recipe_is_read_as_the_same(tmp_path, text):
    recipe = parse_recipe(text)
    dumped = dump_recipe(recipe, tmp_path / "out" / "recipe.yaml")
    assert (tmp_path / "out" / "recipe.yaml").read_text(encoding="utf-8") == dumped
    assert load_recipe(tmp_path / "out" / "recipe.yaml") == parse_recipe(dumped) == recipe
    assert dump_recipe(parse_recipe(dumped)) == dumped


def test_a_dumped_recipe_holds_every_key_in_the_order_of_the_schema():
    lines = dump_recipe(Recipe()).splitlines()
    assert [line[:-1] for line in lines if not line.startswith(" ")] == list(Recipe.model_fields)
    position = [lines.index(f"  {key}: {value}") for key, value in (("kind", "vae"), ("latent_dim", 64), ("blocks", 3))]
    assert position == sorted(position)


def test_json_schema_describes_every_key():
    schema = json.loads(json_schema())
    assert set(schema["properties"]) == set(Recipe.model_fields)
    for section in [schema, *schema["$defs"].values()]:
        assert section["additionalProperties"] is False
        for name, entry in section["properties"].items():
            assert entry["description"], name
            assert entry["expected"], name
    assert schema["$defs"]["TrainingRecipe"]["properties"]["epochs"]["default"] == 100


# ---- shipped recipes


def test_every_shipped_recipe_is_listed_with_its_first_line_and_valid():
    recipes = list_recipes()
    assert "vae" in recipes
    for name, line in recipes.items():
        text = (resources.files("mrigen_recipes") / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith(f"# {line}\n")
        assert line.endswith(".")
        load_recipe(name)


@pytest.mark.parametrize("given", ["vae", "vae.yaml", "recipes/vae.yaml", "./vae"])
def test_shipped_recipes_are_found_from_any_folder(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    assert resolve_recipe_path(given).read_text().startswith("# " + list_recipes()["vae"])
    assert load_recipe(given) == load_recipe("vae")
    assert recipe_name(given) == "vae"


@pytest.mark.parametrize("given", ["paper/vae", "paper/vae.yaml", "recipes/paper/vae.yaml", "./paper/vae"])
def test_shipped_recipes_of_a_folder_are_found_and_named_apart(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    assert resolve_recipe_path(given).read_text().startswith("# " + list_recipes()["paper/vae"])
    assert load_recipe(given).model.objective == "paper"
    assert recipe_name(given) == "paper-vae"


def test_recipes_of_a_folder_are_listed_last():
    is_apart = ["/" in name for name in list_recipes()]
    assert is_apart == sorted(is_apart) and any(is_apart)


def test_a_file_wins_over_a_shipped_name_and_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vae").mkdir()
    assert load_recipe("vae").training.epochs == load_recipe("recipes/vae.yaml").training.epochs
    (tmp_path / "vae.yaml").write_text("training: {epochs: 3}")
    assert load_recipe("vae.yaml").training.epochs == 3
    assert load_recipe(tmp_path / "vae.yaml", ["training.epochs=4"]).training.epochs == 4


def test_a_fault_of_a_file_names_the_path_as_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("training: {epochs: 0}")
    with pytest.raises(RecipeError, match=r"^mine.yaml: training.epochs: got 0, expected an integer from 1 to 1000000"):
        load_recipe("mine.yaml")


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("vaee", " Did you mean 'vae'?"),
        ("recipes/va.yaml", " Did you mean 'vae'?"),
        ("elsewhere/vae.yaml", " Did you mean 'vae'?"),
        ("paper/ae-2x33", " Did you mean 'paper/ae-2x32'?"),
        ("ae-2x32", " Did you mean 'paper/ae-2x32'?"),
        ("papers/vae", " Did you mean 'paper/vae'?"),
        ("zzzz", ""),
    ],
)
def test_an_unknown_recipe_lists_the_shipped_ones(tmp_path, monkeypatch, given, hint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe(given)
    message = str(caught.value)
    assert message.startswith(f"{given}: no such file and no shipped recipe. Give a YAML file or one of: ")
    assert message.endswith("vae, paper/... (mrigen recipe list)." + hint)


def test_a_file_that_is_no_text_is_a_fault(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(RecipeError, match=r"a.yaml: not a text file in UTF-8"):
        load_recipe(tmp_path / "a.yaml")


_ALIASES = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 9)}]\n" for before, after in itertools.pairwise("abcdefgh")
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: " + "[" * 100_000, "blocks in blocks without end"),
        ("#" + "x" * 2_000_000, r"got 2,000,001 letters, expected at most 1,000,000"),
        (_ALIASES + "data:\n  exclude: *h\n", r"more than 200,000 values \(aliases count"),
        ("data: !!float ''\n", "not valid YAML"),
        ("data: !!int x\n", "not valid YAML"),
        ("data: !!omap [a]\n", "not valid YAML"),
        ("data: !!python/object:os.system x\n", "not valid YAML"),
        ("data:\n  <<: 3\n", "not valid YAML"),
    ],
)
def test_whatever_yaml_can_say_is_one_line(tmp_path, text, said):
    (tmp_path / "my.yaml").write_text(text)
    with pytest.raises(RecipeError, match=said) as caught:
        load_recipe(tmp_path / "my.yaml")
    assert all("\n" not in fault for fault in caught.value.faults)


def test_a_hash_in_a_value_is_part_of_it():
    recipe = load_recipe("vae", ["data.root=/data/a #1"])
    assert recipe.data.root == "/data/a #1"

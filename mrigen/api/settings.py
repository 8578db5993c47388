"""From what a caller of `fit` writes to a validated recipe."""

import functools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from mrigen.errors import RecipeError, UsageError
from mrigen.recipe import Recipe, parse_recipe, recipe_name, resolve_recipe_path
from mrigen.recipe.loading import parse_yaml
from mrigen.system.wording import closest

RecipeLike = str | os.PathLike | Mapping[str, Any] | Recipe


def name_of(recipe: RecipeLike) -> str:
    """Returns the short name of a recipe, for folders and records."""
    return recipe_name(recipe) if isinstance(recipe, (str, os.PathLike)) else "recipe"


def resolve_recipe(recipe: RecipeLike, data: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> Recipe:
    """Returns the recipe that is meant.

    Args:
        recipe: name of a shipped recipe, path of a YAML file, a mapping of its blocks, or a recipe.
        data: keys of the block `data`.
        settings: changes. Each is a block with some of its keys (`training={"epochs": 2}`), a dotted key
            (`{"training.epochs": 2}`) or the name of a key alone (`epochs=2`), which stands for the shallowest one of
            that name: `seed` is training.seed, not data.split.seed.

    Raises:
        UsageError: a name that no key has, or several, or a key twice. RecipeError: the faults of the recipe.
    """
    place, content = _read(recipe)
    if data is not None:
        data = dict(data)
        if data.get("source") is None and (data.get("root") or data.get("cohorts")):
            # One source, also where the recipe has another.
            data = {"source": "files", "root": None, "cohorts": [], **data}
        settings = {"data": data, **settings}
    if isinstance(content, dict):
        faults: list[str] = []
        given: dict[str, str] = {}  # Key -> the argument that names it.
        for name, value in settings.items():
            try:
                for key, part in _spread(find_key(name), value):
                    if key in given:
                        raise UsageError(
                            f"got {key} also as {given[key]}, expected it once. Leave one out.", parameter=name
                        )
                    given[key] = name
                    _set(content, key, _jsonable(part, name))
            except UsageError as error:
                faults += error.faults
        if faults:
            raise UsageError(faults)
    return parse_recipe(json.dumps(_jsonable(content, "recipe")), place)  # JSON is YAML.


def find_key(name: str) -> str:
    """Returns the dotted key that a name means.

    Raises:
        UsageError: no key has the name, or several on one level have it.

    Example:
        >>> find_key("epochs"), find_key("seed"), find_key("training"), find_key("data.split.seed")
        ('training.epochs', 'training.seed', 'training', 'data.split.seed')
    """
    if "." in name:
        return name  # Whether it is there is the recipe's to say.
    found: dict[int, list[str]] = {}
    for key in keys_of_recipes():
        if key.rpartition(".")[2] == name:
            found.setdefault(key.count("."), []).append(key)
    if not found:
        word = closest(name, {key.rpartition(".")[2] for key in keys_of_recipes()})
        hint = "" if word is None else f" Did you mean '{word}' ({find_key(word)})?"
        raise UsageError(f"no key of a recipe has this name, and no argument. See mrigen recipe schema.{hint}", name)
    keys = found[min(found)]
    # What the network of detail has like the model itself is meant only in full.
    keys = [key for key in keys if not key.startswith("detail.")] or keys
    if len(keys) > 1:
        raise UsageError(f"got a name that {' and '.join(keys)} have, expected one key. Write it in full.", name)
    return keys[0]


@functools.cache
def keys_of_recipes() -> dict[str, bool]:
    """Returns every key that a recipe may have, dotted -> whether it is a block of keys. Those of all models."""
    schema = Recipe.model_json_schema()
    return dict(_walk(schema, schema.get("$defs", {}), ""))


def _walk(node: dict, definitions: dict, prefix: str) -> Iterator[tuple[str, bool]]:
    for block in _blocks(node, definitions):
        for name, value in block.get("properties", {}).items():
            yield prefix + name, bool(list(_blocks(value, definitions)))
            yield from _walk(value, definitions, f"{prefix}{name}.")


def _blocks(node: dict, definitions: dict) -> Iterator[dict]:
    """Yields the blocks of keys that a value may be."""
    if "$ref" in node:
        yield from _blocks(definitions[node["$ref"].rpartition("/")[2]], definitions)
    for group in ("anyOf", "oneOf", "allOf"):
        for part in node.get(group, ()):
            yield from _blocks(part, definitions)
    if "properties" in node:
        yield node


def _read(recipe: RecipeLike) -> tuple[str, Any]:
    """Returns how faults call a recipe, and what is in it."""
    if isinstance(recipe, BaseModel):
        return "recipe", recipe.model_dump(mode="json")
    if isinstance(recipe, Mapping):
        return "recipe", _jsonable(dict(recipe), "recipe")
    if not isinstance(recipe, (str, os.PathLike)):
        raise UsageError(
            f"got a {type(recipe).__name__}, expected the name of a recipe, a path, a mapping or a Recipe. "
            "Write 'vae' for a start.",
            parameter="recipe",
        )
    path = resolve_recipe_path(recipe)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not a text file in UTF-8, expected YAML. Check the path.") from None
    content = parse_yaml(text, str(recipe))
    return str(recipe), {} if content is None else content


def _spread(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yields the keys that a value sets: those inside it where it is a block of keys."""
    value = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    if isinstance(value, Mapping) and keys_of_recipes().get(key):
        for name, part in value.items():
            yield from _spread(f"{key}.{name}", part)
    else:
        yield key, value


def _set(content: dict, key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for depth, parent in enumerate(parents):
        if content.get(parent) is None:
            content[parent] = {}
        content = content[parent]
        if not isinstance(content, dict):
            raise UsageError(
                f"{'.'.join(parents[: depth + 1])} is {content!r}, expected a block of keys. "
                "See mrigen recipe show for the layout.",
                parameter=key,
            )
    content[last] = value


def _jsonable(value: Any, parameter: str) -> Any:
    """Returns a copy of a value that is made of what YAML has."""
    try:
        return json.loads(json.dumps(value, default=_plain))
    except (TypeError, ValueError) as error:
        raise UsageError(f"got {error}, expected numbers, text, lists and mappings. Write these.", parameter) from None


def _plain(value: Any) -> Any:
    """Returns a value of NumPy, a path or a set as JSON has it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"a value of type {type(value).__name__}")

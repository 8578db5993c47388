"""What two recipes differ in."""

import json
from collections.abc import Iterator
from typing import Any

from mrigen.recipe.schema import Recipe


def find_differences(one: Recipe, other: Recipe) -> list[tuple[str, str, str]]:
    """Returns (key, value in `one`, value in `other`) of every key that differs, values as YAML would show them."""
    left, right = (dict(_flatten(recipe.model_dump(mode="json"))) for recipe in (one, other))
    keys = dict.fromkeys([*left, *right])
    return [(key, _show(left, key), _show(right, key)) for key in keys if left.get(key, ...) != right.get(key, ...)]


def _flatten(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _show(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key]) if key in values else "nothing"

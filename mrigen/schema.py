"""What a key of a recipe is made of: its type, range, default and one line of help.

Types are strict: `"3"` and `true` are no integers. The help of a key is the advice of its error message, its text in
`mrigen recipe schema` and its row in docs/recipes.md.
"""

import functools
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticCustomError


def key(default: Any, expected: str, help: str, **constraints: Any) -> Any:
    """Returns a pydantic field with what its error message needs: what was `expected`, and what to do (`help`)."""
    extra: dict[str, Any] = {"expected": expected}
    if isinstance(default, type) and issubclass(default, BaseModel):
        return Field(default_factory=default, description=help, json_schema_extra=extra, **constraints)
    return Field(default, description=help, json_schema_extra=extra, **constraints)


def _broadcast(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [value] * 3
    return value


def fault(message: str) -> PydanticCustomError:
    """Returns the error of a validator whose message is one line of the user's."""
    # Braces would be taken for placeholders.
    return PydanticCustomError("recipe", "{message}", {"message": message})


Three = Annotated[tuple[float, float, float], BeforeValidator(_broadcast), Field(strict=False)]
Shape = Annotated[tuple[int, int, int], BeforeValidator(_broadcast), Field(strict=False)]
Scalar = str | int | float | bool


class Section(BaseModel):
    """One block of a recipe: strict types, no unknown keys, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def describe_fault(section: type[BaseModel], name: str, item: Mapping[str, Any]) -> str:
    """Returns what is wrong with one key, in words.

    Args:
        section: that the key is of. name: of the key.
        item: of pydantic's `ValidationError.errors()`.

    Returns:
        what came, what was expected, what to do.
    """
    if item["type"] == "recipe":
        return item["msg"]
    field, value = section.model_fields[name], item["input"]
    got = "nothing" if item["type"] == "missing" and isinstance(value, dict) else short(value)
    extra: Any = field.json_schema_extra  # Of `key`.
    return f"got {got}, expected {extra['expected']}. {field.description}"


def short(value: Any) -> str:
    """Returns a value as Python shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def check_arguments(section: type[Section], values: Mapping[str, Any]) -> None:
    """Checks arguments of a function that are keys of a recipe as well, each by itself.

    Args:
        section: whose keys they are.
        values: name -> value; names that are no keys are left alone.

    Raises:
        ValueError: one line a fault, in the words of the recipe.
    """
    try:
        _arguments(section).model_validate(dict(values))
    except ValidationError as error:
        items = {item["loc"][0]: item for item in reversed(error.errors()) if item["loc"][0] in values}
        faults = [f"{name}: {describe_fault(section, str(name), item)}" for name, item in items.items()]
        if faults:
            raise ValueError("\n".join(reversed(faults))) from None


@functools.cache
def _arguments(section: type[Section]) -> type[BaseModel]:
    """Returns the keys of a section without what must hold between them; other names are let pass."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in section.model_fields.items()}
    return create_model(f"{section.__name__}Arguments", __config__=ConfigDict(strict=True, extra="ignore"), **fields)

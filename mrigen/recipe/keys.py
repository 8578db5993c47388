"""What a key of a recipe is made of: its type, range, default and one line of help.

Types are strict: `"3"` and `true` are no integers. The help of a key is the advice of its error message, its text in
`mrigen recipe schema` and its row in docs/recipes.md.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


def key(default: Any, expected: str, help: str, **constraints: Any) -> Any:
    """Returns a pydantic field with what its error message needs: what was `expected`, and what to do (`help`)."""
    extra = {"expected": expected}
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

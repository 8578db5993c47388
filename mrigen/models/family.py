"""Model families: what a recipe may name in `model.kind`, of this package and of others. No TensorFlow.

A family of another package is found through an entry point of the group `mrigen.models` that names a `ModelFamily`:

    [project.entry-points."mrigen.models"]
    linear = "my_package.family:FAMILY"
"""

import dataclasses
import functools
import importlib
import importlib.metadata
import logging
import typing
from typing import Annotated, Union

from pydantic import BeforeValidator, Discriminator

from mrigen.models.autoencoder.keys import AutoencoderRecipe
from mrigen.models.keys import ModelRecipe
from mrigen.models.morph.keys import MorphRecipe
from mrigen.models.vae.keys import VAERecipe
from mrigen.schema import fault

logger = logging.getLogger(__name__)

GROUP = "mrigen.models"


@dataclasses.dataclass(frozen=True)
class ModelFamily:
    """A model family.

    Attributes:
        keys: the class of the recipe's `model` block, whose `kind` is a `Literal` of one name.
        model: "module:class" of the `LatentModel`, imported when a model is made.
    """

    keys: type[ModelRecipe]
    model: str

    @property
    def kind(self) -> str:
        """What recipes call the family."""
        return typing.get_args(self.keys.model_fields["kind"].annotation)[0]

    def load(self):
        """Returns the class of the model; imports TensorFlow."""
        module, _, name = self.model.partition(":")
        return getattr(importlib.import_module(module), name)


BUILT_IN = (
    ModelFamily(AutoencoderRecipe, "mrigen.models.autoencoder.model:Autoencoder"),
    ModelFamily(VAERecipe, "mrigen.models.vae.model:VariationalAutoencoder"),
    ModelFamily(MorphRecipe, "mrigen.models.morph.model:MorphingAutoencoder"),
)


@functools.cache
def families() -> dict[str, ModelFamily]:
    """Returns all families by kind: those of this package first, then those of others, by name."""
    found = {family.kind: family for family in BUILT_IN}
    for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            family = entry.load()
            if family.kind in found:
                raise ValueError(f"there is a family of the name {family.kind} already")
            found[family.kind] = family
        except Exception as error:  # The code of others: one that is broken must not take all recipes with it.
            logger.warning("The model family %s (%s) cannot be used: %s", entry.name, entry.value, error)
    return found


def complete_model_block(value):
    """Returns a recipe's `model` block with its `kind` (vae where it names none), and without keys of other families
    that are at their defaults there: recipes of older runs wrote down the keys of all.

    Raises:
        PydanticCustomError: keys of other families.
    """
    if not isinstance(value, dict):
        return value
    known = families()
    kind = value.get("kind", "vae")
    if not isinstance(kind, str) or kind not in known:
        return value  # Told by the union.
    own = known[kind].keys.model_fields
    foreign = {name: found for name in value if name not in own and (found := _families_with(name))}
    given = [name for name, found in foreign.items() if not _is_default(found[0], name, value[name])]
    if given:
        kinds = list(dict.fromkeys(family.kind for name in given for family in foreign[name]))
        raise fault(
            f"got {', '.join(given)} for kind: {kind}, expected these for kind: {' or '.join(kinds)} only. "
            f"Remove them, or set model.kind={kinds[0]}."
        )
    return {"kind": kind, **{name: content for name, content in value.items() if name not in foreign}}


def _families_with(name: str) -> list[ModelFamily]:
    return [family for family in families().values() if name in family.keys.model_fields]


def _is_default(family: ModelFamily, name: str, content) -> bool:
    default = family.keys.model_fields[name].get_default(call_default_factory=True)
    return (type(content) is type(default) and content == default) or (default is None and content is None)


# The `model` block of a recipe: the keys of the family that `kind` names.
if typing.TYPE_CHECKING:
    ModelBlock = ModelRecipe
else:
    ModelBlock = Annotated[
        Annotated[Union[tuple(family.keys for family in families().values())], Discriminator("kind")],  # noqa: UP007
        BeforeValidator(complete_model_block),
    ]


def model_recipe(kind: str = "vae", **keys) -> ModelRecipe:
    """Returns the checked keys of a family.

    Example:
        >>> model_recipe("morph", latent_dim=8).field_spacing
        4
    """
    return families()[kind].keys(kind=kind, **keys)

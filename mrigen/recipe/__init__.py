"""The recipe: everything a fit needs, as a small YAML file; schema, defaults, overrides, faults."""

from mrigen.recipe.loading import (
    dump_recipe,
    json_schema,
    list_recipes,
    load_recipe,
    parse_recipe,
    recipe_name,
    resolve_recipe_path,
)
from mrigen.recipe.schema import (
    AugmentRecipe,
    CohortRecipe,
    DataRecipe,
    ModelRecipe,
    PhantomRecipe,
    PreprocessRecipe,
    Recipe,
    SplitRecipe,
    TrainingRecipe,
)

__all__ = [
    "AugmentRecipe",
    "CohortRecipe",
    "DataRecipe",
    "ModelRecipe",
    "PhantomRecipe",
    "PreprocessRecipe",
    "Recipe",
    "SplitRecipe",
    "TrainingRecipe",
    "dump_recipe",
    "json_schema",
    "list_recipes",
    "load_recipe",
    "parse_recipe",
    "recipe_name",
    "resolve_recipe_path",
]

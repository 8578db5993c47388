"""The recipe: everything a fit needs, as a small YAML file; schema, defaults, overrides, faults."""

from mrigen.models.keys import ModelRecipe
from mrigen.recipe.data_keys import (
    CohortRecipe,
    DataRecipe,
    PhantomRecipe,
    PreprocessRecipe,
    SexCodes,
    SplitRecipe,
)
from mrigen.recipe.detail_keys import DetailRecipe
from mrigen.recipe.differences import find_differences
from mrigen.recipe.loading import (
    check_recipe,
    dump_recipe,
    expand_recipes,
    json_schema,
    list_recipes,
    load_recipe,
    parse_recipe,
    recipe_name,
    resolve_recipe_path,
)
from mrigen.recipe.schema import Recipe
from mrigen.recipe.training_keys import AugmentRecipe, TrainingRecipe

__all__ = [
    "AugmentRecipe",
    "CohortRecipe",
    "DataRecipe",
    "DetailRecipe",
    "ModelRecipe",
    "PhantomRecipe",
    "PreprocessRecipe",
    "Recipe",
    "SexCodes",
    "SplitRecipe",
    "TrainingRecipe",
    "check_recipe",
    "dump_recipe",
    "expand_recipes",
    "find_differences",
    "json_schema",
    "list_recipes",
    "load_recipe",
    "parse_recipe",
    "recipe_name",
    "resolve_recipe_path",
]

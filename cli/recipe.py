"""`mrigen recipe show | list | schema`."""

import click
from mrigen_cli.common import common_options, set_option


@click.group()
def recipe():
    """Show, list or describe recipes."""


@recipe.command()
@click.argument("name")
@set_option
@common_options
def show(name, overrides):
    """Print a recipe (a file, or the name of a shipped one) with every default filled in."""
    from mrigen.recipe import dump_recipe, load_recipe

    click.echo(dump_recipe(load_recipe(name, overrides)), nl=False)


@recipe.command(name="list")
@common_options
def list_():
    """Print the shipped recipes."""
    from mrigen.recipe import list_recipes

    recipes = list_recipes()
    width = max(map(len, recipes))
    for name, description in recipes.items():
        click.echo(f"{name:<{width}}  {description}")


@recipe.command()
@common_options
def schema():
    """Print the JSON schema of a recipe, for editors that check YAML while you type."""
    from mrigen.recipe import json_schema

    click.echo(json_schema())

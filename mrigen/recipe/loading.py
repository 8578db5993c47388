"""Recipes from and to text: shipped names, files, overrides of keys, and faults in words."""

import copy
import fnmatch
import io
import json
import os
import types
import typing
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import ReusedAnchorWarning, YAMLError

from mrigen.errors import RecipeError
from mrigen.models.family import families
from mrigen.models.keys import ModelRecipe
from mrigen.recipe.schema import Recipe
from mrigen.schema import describe_fault, short
from mrigen.system.files import write_text
from mrigen.system.names import safe_name
from mrigen.system.wording import closest, nearest

# Of a recipe: more is no recipe, and takes long to read.
MOST_LETTERS, MOST_VALUES = 1_000_000, 200_000


def list_recipes() -> dict[str, str]:
    """Returns the shipped recipes: name -> first comment line of the file.

    Those of a folder, such as `paper/vae`, come after the others.
    """
    shelf = resources.files("mrigen_recipes")
    folders = [(f"{entry.name}/", entry) for entry in shelf.iterdir() if entry.is_dir()]
    recipes = {}
    for prefix, folder in [("", shelf), *sorted(folders, key=lambda folder: folder[0])]:
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".yaml"):
                first = entry.read_text(encoding="utf-8").splitlines()[0]
                recipes[prefix + entry.name.removesuffix(".yaml")] = first.lstrip("# ").strip()
    return recipes


def expand_recipes(recipes: Sequence[str]) -> list[str]:
    """Returns the recipes that are named: a pattern such as `paper/*` stands for the shipped ones that are like it.

    Raises:
        RecipeError: none is like a pattern.

    Example:
        >>> expand_recipes(["vae", "paper/ae-3x*"])
        ['vae', 'paper/ae-3x16', 'paper/ae-3x32', 'paper/ae-3x64']
    """
    names: list[str] = []
    for recipe in recipes:
        found = fnmatch.filter(list_recipes(), recipe) if "*" in recipe else [recipe]
        if not found:
            raise RecipeError(f"{recipe}: no shipped recipe is like this. See mrigen recipe list.")
        names += found
    return list(dict.fromkeys(names))


def resolve_recipe_path(recipe: str | os.PathLike) -> Path:
    """Returns the path of a recipe that is given as a file or as the name of a shipped one.

    Raises:
        RecipeError: neither a file nor a shipped name.
    """
    path = Path(recipe)
    if path.is_file():
        return path
    shipped, name = list_recipes(), _shipped_name(path)
    if name in shipped:
        return Path(str(resources.files("mrigen_recipes") / f"{name}.yaml"))
    close = _closest(name, shipped)
    hint = "" if close is None else nearest(close, [close])
    folders = dict.fromkeys(f"{known.partition('/')[0]}/..." if "/" in known else known for known in shipped)
    raise RecipeError(
        f"{recipe}: no such file and no shipped recipe. "
        f"Give a YAML file or one of: {', '.join(folders)} (mrigen recipe list).{hint}"
    )


def _shipped_name(path: Path) -> str:
    """Returns the name that a path has as a shipped recipe, whether there is one or not.

    The repository's own `recipes/vae.yaml` works from anywhere once mrigen is installed.
    """
    return path.as_posix().removesuffix(".yaml").removeprefix("recipes/")


def _closest(name: str, shipped: Iterable[str]) -> str | None:
    """Returns the shipped name that was probably meant: one like the whole name, or else like its last part."""
    close = closest(name, shipped, cutoff=0.75)
    if close is not None:
        return close
    last_parts: dict[str, str] = {}
    for known in shipped:
        last_parts.setdefault(known.rpartition("/")[2], known)
    last = closest(name.rpartition("/")[2], last_parts)
    return None if last is None else last_parts[last]


def recipe_name(recipe: str | os.PathLike) -> str:
    """Returns the short name of a recipe given as a path or a name, fit for a folder.

    Example:
        >>> recipe_name("recipes/vae.yaml"), recipe_name("paper/vae"), recipe_name("/data/mine.yaml")
        ('vae', 'paper-vae', 'mine')
    """
    path = Path(recipe)
    name = _shipped_name(path)
    return safe_name(name if name in list_recipes() else path.stem)


def load_recipe(recipe: str | os.PathLike, overrides: Sequence[str] = ()) -> Recipe:
    """Returns the validated recipe in a file, or of a shipped name.

    Args:
        recipe: path of a YAML 1.2 file, or the name of a shipped recipe.
        overrides: strings `a.b=value`; the value is read as YAML and validated like the file.

    Raises:
        RecipeError: one line a fault, all together, each naming the file or the override, and the key.
    """
    path = resolve_recipe_path(recipe)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecipeError(f"{path}: not a text file in UTF-8, expected YAML. Check the path.") from None
    return parse_recipe(text, place=str(recipe), overrides=overrides)


def parse_recipe(text: str, place: str = "recipe", overrides: Sequence[str] = ()) -> Recipe:
    """Returns the validated recipe in `text`; `place` names it in faults. See `load_recipe`."""
    content = parse_yaml(text, place)
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise RecipeError(
            f"{place}: got a {type(content).__name__}, expected a mapping with {', '.join(Recipe.model_fields)}. "
            "See mrigen recipe show vae."
        )
    faults: list[str] = []
    origins: dict[str, str] = {}
    as_written = copy.deepcopy(content) if overrides else content
    for override in overrides:
        try:
            dotted = _apply_override(content, override)
            origins[dotted] = f"`{override}`"
        except RecipeError as error:
            faults.extend(error.faults)
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        faults.extend(_describe(error, place, origins, _faulty_keys(as_written) if origins else set()))
    if faults:
        raise RecipeError(faults)
    return recipe


def check_recipe(content: Any, place: str) -> Recipe:
    """Returns the validated recipe that a mapping holds; `place` names it in faults.

    Raises:
        RecipeError: one line a fault.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(_describe(error, place, {}, set())) from None


def dump_recipe(recipe: Recipe, path: str | os.PathLike | None = None) -> str:
    """Returns the whole recipe, defaults included, as YAML, and writes it to `path` if one is given."""
    stream = io.StringIO()
    _yaml().dump(recipe.model_dump(mode="json"), stream)
    if path is not None:
        write_text(path, stream.getvalue())
    return stream.getvalue()


def json_schema() -> str:
    """Returns the JSON schema of a recipe (for editors that check YAML while one types)."""
    return json.dumps(Recipe.model_json_schema(), indent=2)


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)  # Safe: no objects are built. Pure: YAML 1.2, where `no` is a word.
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 110
    return yaml


def parse_yaml(text: str, place: str) -> Any:
    """Returns what YAML says, loaded safely.

    Raises:
        RecipeError: it is no YAML; `place` says where.
    """
    if len(text) > MOST_LETTERS:
        raise RecipeError(
            f"{place}: got {len(text):,} letters, expected at most {MOST_LETTERS:,}. Take out what is no setting; list "
            "people in a table beside the images."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)  # As YAML has it, the later one counts.
            content = _yaml().load(text)
    except RecursionError:
        raise RecipeError(f"{place}: not valid YAML (blocks in blocks without end). Correct the file.") from None
    # A date such as 2020-13-45, and what tags such as !!int make of other words.
    except (YAMLError, ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split()) or type(error).__name__
        raise RecipeError(f"{place}:{where} not valid YAML ({problem[:200]}). Correct the line.") from None
    if _is_larger(content, MOST_VALUES):
        raise RecipeError(
            f"{place}: got more than {MOST_VALUES:,} values (aliases count as what they stand for), expected a recipe. "
            "Write out what is meant."
        )
    return content


def _is_larger(content: Any, most: int) -> bool:
    """Whether there are more than `most` values in nested blocks and lists, each alias written out."""
    waiting, count = [content], 0
    while waiting:
        count += 1
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, (list, set)) else ()
        if count > most or len(waiting) > most:
            return True
    return False


def _apply_override(content: dict, override: str) -> str:
    dotted, equals, text = override.partition("=")
    dotted = dotted.strip()
    if not equals or not dotted:
        raise RecipeError(f"{override}: expected KEY=VALUE, for example `training.epochs=20`.", "overrides")
    # A shell has no comments in a word: `#` is part of the value.
    plain = text.strip()
    value = plain if "#" in plain and plain[0] not in "'\"[{" else parse_yaml(text, f"`{override}`")
    *parents, last = dotted.split(".")
    block = content
    for parent in parents:
        if block.get(parent) is None:
            block[parent] = {}
        block = block[parent]
        if not isinstance(block, dict):
            raise RecipeError(
                f"`{override}`: {parent} holds {block!r}, expected a block of keys. "
                "See mrigen recipe show for the layout."
            )
    block[last] = value
    return dotted


def _faulty_keys(content: Any) -> set[str]:
    """Returns the keys of a mapping that are not valid, or blocks that are not."""
    try:
        Recipe.model_validate(content)
    except ValidationError as error:
        return {_locate(item["loc"])[0] for item in error.errors()}
    return set()


def _origin(dotted: str, place: str, origins: dict[str, str], own: set[str]) -> str:
    """Returns what a faulty key comes from: the change of it, or of a block that it is in; else, where the file alone
    has no such fault, the last change within it; else the file."""
    for key, text in origins.items():
        if (dotted + ".").startswith(key + "."):
            return text
    within = [text for key, text in origins.items() if not dotted or key.startswith(dotted + ".")]
    return within[-1] if within and dotted not in own else place


def _describe(error: ValidationError, place: str, origins: dict[str, str], own: set[str]) -> list[str]:
    """Returns one line for each faulty key (a union reports a fault for each of its members).

    Args:
        error: of pydantic. place: the file. origins: key -> the change of it. own: faulty keys of the file alone.
    """
    faults: dict[str, str] = {}
    for item in _items(error):
        is_kind = item["type"] == "union_tag_invalid"  # Of `model.kind`.
        dotted, owner, name, section = _locate((*item["loc"], "kind") if is_kind else item["loc"])
        origin = _origin(dotted, place, origins, own)
        head = f"{origin}: {dotted}" if dotted else origin
        if item["type"] in ("extra_forbidden", "invalid_key"):
            known = [] if section is None else sorted(section.model_fields)
            line = f"{head}: unknown key. Known keys: {', '.join(known)}.{nearest(str(item['loc'][-1]), known)}"
        elif is_kind:
            kind = item["input"]["kind"]
            line = f"{head}: got {short(kind)}, expected one of {', '.join(families())}."
            line += nearest(str(kind), families()) or " Name the model family."
        elif item["type"] == "recipe":
            line = f"{head}: {item['msg']}"
        else:
            line = f"{head}: {describe_fault(owner, name, item)}"
        faults.setdefault(dotted if item["type"] != "recipe" else dotted + item["msg"], line)
    return list(faults.values())


def _items(error: ValidationError) -> Iterator[Any]:
    """Yields pydantic's faults, and where the model family is unknown those of the keys that every family has."""
    for item in error.errors():
        yield item
        if item["type"] == "union_tag_invalid":
            shared = {name: value for name, value in item["input"].items() if name in ModelRecipe.model_fields}
            try:
                ModelRecipe.model_validate(shared)
            except ValidationError as shared_error:
                for shared_item in shared_error.errors():
                    if shared_item["loc"] == ("kind",):  # Told already.
                        continue
                    yield {**shared_item, "loc": (*item["loc"], *shared_item["loc"])}


def _locate(loc: tuple) -> tuple[str, type[BaseModel], str, type[BaseModel] | None]:
    """Returns what a pydantic location means in words of the recipe.

    Returns:
        the dotted key; the section that owns the last known field on the way, and that field's name; the section
        that is the field's value (or an item of it), None for a plain value.
    """
    owner: type[BaseModel] = Recipe
    section: type[BaseModel] | None = Recipe
    name = ""
    path: list[str] = []
    for part in loc:
        if section is None:  # Inside a plain value, or the tag of a union.
            break
        if section is ModelRecipe and part in families():  # The tag of the union of model families.
            section = families()[part].keys
            continue
        path.append(str(part))
        if part in section.model_fields:  # Else an index into a list of sections, or an unknown key.
            owner, name = section, part
            section = section_of(owner.model_fields[name].annotation)
            if section is not None and issubclass(section, ModelRecipe):  # Which one, the next part says.
                section = ModelRecipe
    return ".".join(path), owner, name, section


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Returns the section that a field of this type holds, or a list of them; None for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (list, typing.Union, types.UnionType):
        return next(filter(None, map(section_of, typing.get_args(annotation))), None)
    return None

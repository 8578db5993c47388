"""What a sweep tries: keys of a recipe, the values they may take, and how it chooses among them."""

import dataclasses
import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrigen.errors import Fault, RecipeError, UsageError
from mrigen.recipe import Recipe, dump_recipe, expand_recipes, load_recipe, parse_recipe, recipe_name
from mrigen.recipe.loading import parse_yaml
from mrigen.sweeps.objectives import Objective, parse_objectives
from mrigen.training.refusals import find_refusals, raise_all

# Among the keys of a sweep over several recipes: which one.
RECIPE = "recipe"
SEARCHES = ("grid", "tpe")
# What a sweep is made of: a shipped name, a path, a pattern such as "paper/*", the keys of a recipe, or a recipe.
RecipeLike = str | os.PathLike | Mapping[str, Any] | Recipe


@dataclasses.dataclass(frozen=True)
class Span:
    """The values that a key may take: those listed, or those from `low` to `high`.

    Attributes:
        values: listed, or empty.
        low, high: the ends, both possible.
        log: whether orders of magnitude are equally likely.
        whole: whether only whole numbers.
    """

    values: tuple = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    @classmethod
    def parse(cls, text: str, parameter: str = "over") -> "Span":
        """Returns the span that is written as `16,32,64`, `1..4`, `0.5..4:log`, or a YAML list.

        Args:
            text: the span.
            parameter: what faults are about.

        Raises:
            RecipeError: it is not.

        Example:
            >>> Span.parse("1..4:log")
            Span(values=(), low=1, high=4, log=True, whole=True)
        """
        ends, _, scale = text.partition(":") if ".." in text else (text, "", "")
        if ".." not in ends:
            values = _parse_value(text if text.strip().startswith("[") else f"[{text}]", parameter)
            if not isinstance(values, list) or not values:
                raise RecipeError("got no values, expected some, for example 16,32 or 1..4:log.", parameter)
            if len({json.dumps(value) for value in values}) < len(values):
                raise RecipeError("got a value twice, expected each once. Leave it out.", parameter)
            return cls(tuple(values))
        low, high = (_parse_value(end, parameter) for end in ends.split("..", 1))
        numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high))
        if not numbers or not low < high or scale not in ("", "log") or (scale == "log" and low <= 0):
            raise RecipeError(
                "expected LOW..HIGH or LOW..HIGH:log with LOW < HIGH (above 0 for log), such as 0.5..4:log.", parameter
            )
        return cls((), low, high, scale == "log", isinstance(low, int) and isinstance(high, int))

    @classmethod
    def of(cls, value: "Span | str | Sequence", parameter: str = "over") -> "Span":
        """Returns the span that is given as one, as text (see `parse`), or as a sequence of the values themselves.

        Raises:
            RecipeError: it is none of these.

        Example:
            >>> Span.of([16, 32]).values, Span.of("16,32").values
            ((16, 32), (16, 32))
        """
        if isinstance(value, Span):
            return value
        if isinstance(value, str):
            return cls.parse(value, parameter)
        try:
            text = json.dumps([item.item() if hasattr(item, "item") else item for item in value])
        except TypeError:
            expected = "a list of values, or text such as 1..4:log"
            raise RecipeError(f"got {value!r}, expected {expected}. Write for example [16, 32].", parameter) from None
        return cls.parse(text, parameter)

    def suggest(self, trial, key: str) -> Any:
        """Returns what an Optuna trial takes for `key`."""
        if self.values:
            return json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in self.values]))
        if self.whole:
            return trial.suggest_int(key, self.low, self.high, log=self.log)
        return trial.suggest_float(key, self.low, self.high, log=self.log)

    def ends(self) -> tuple:
        """Returns the values that are checked before a sweep begins."""
        return self.values or (self.low, self.high)


def _parse_value(text: str, parameter: str) -> Any:
    try:
        return parse_yaml(text, parameter)
    except RecipeError as error:
        raise RecipeError([_about(fault, parameter, parameter) for fault in error.faults]) from None


def _about(fault: Fault, place: str, parameter: str) -> Fault:
    """Returns a fault as one about a parameter, whatever its line says before and around `place`."""
    text = fault.partition(place)[2].lstrip("`'\"]: ")
    return Fault(text, parameter) if text else fault


def parse_space(over: Mapping[str, Any] | Sequence[str] = (), file: str | os.PathLike | None = None) -> dict[str, Span]:
    """Returns key -> span.

    Args:
        over: key -> values, a list, a `Span`, or text as in `Span.parse`; or strings `key=values`.
        file: YAML of `key: values`, values a list or text.

    Raises:
        RecipeError: one line a fault, all together.
    """
    items: list[tuple[str, Any, str]] = []  # Key, values, what faults are about.
    faults: list[str] = []
    if file is not None:
        try:
            content = parse_yaml(Path(file).read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{file}: cannot be read ({error}), expected YAML of key: values.") from None
        if not isinstance(content, dict) or not content:
            raise RecipeError(f"{file}: expected a mapping of keys to values, for example model.latent_dim: [16, 32].")
        items += [
            (str(key), value if isinstance(value, str) else json.dumps(value), f"{file}: {key}")
            for key, value in content.items()
        ]
    if isinstance(over, Mapping):
        items += [(str(key), value, f"over[{key}]") for key, value in over.items()]
    else:
        for item in [over] if isinstance(over, str) else over:
            key, equals, text = item.partition("=")
            if not equals or not key.strip() or not text.strip():
                expected = "expected KEY=VALUES, for example `over={'model.latent_dim': [16, 32]}`."
                faults.append(Fault(expected, f"over[{item}]"))
            else:
                items.append((key.strip(), text.strip(), f"over[{item}]"))
    space: dict[str, Span] = {}
    for key, values, parameter in items:
        block = key.split(".")[0]
        if key in space:
            faults.append(Fault(f"{key} is there already, expected each key once. Leave one out.", parameter))
        elif block in ("data", "preprocess"):
            faults.append(
                Fault(
                    f"got a key of {block}, expected one of model or training: figures of other people or another grid "
                    "cannot be compared. Make a sweep of each.",
                    parameter,
                )
            )
        else:
            try:
                space[key] = Span.of(values, parameter)
            except RecipeError as error:
                faults += error.faults
    if not items and not faults:
        faults.append(
            "sweep: got no keys to search over, expected at least one: `over={'model.latent_dim': [16, 32]}`, or "
            "`space='FILE'`."
        )
    if faults:
        raise RecipeError(faults)
    return space


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a sweep tries.

    Attributes:
        name: of the recipe, or of all of them.
        recipe: that all trials share; of several, the first.
        space: key -> span.
        search: "grid" or "tpe".
        num_trials: in all.
        objective: the figure of validation people that it goes by, or several with commas: "elbo" or "mse" (at the best
            epoch), "sex_auc", or figures of an evaluation; see `objectives`.
        seed: of the search.
        prune: whether trials below the median of the others at the same epoch are ended.
        recipes: name -> recipe, where there are several.
    """

    name: str
    recipe: Recipe
    space: Mapping[str, Span]
    search: str
    num_trials: int
    objective: str
    seed: int = 0
    prune: bool = False
    recipes: Mapping[str, Recipe] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """What it goes by, the first before the others."""
        return parse_objectives(self.objective)


def make_plan(
    name: str,
    recipe: Recipe,
    space: Mapping[str, Span],
    search: str | None = None,
    trials: int | None = None,
    objective: str | None = None,
    seed: int = 0,
    prune: bool = False,
    recipes: Mapping[str, Recipe] | None = None,
) -> Plan:
    """Returns a checked plan; see `Plan`. None takes what fits the space and the model.

    Of several `recipes` each is combined with everything in `space`.

    Raises:
        UsageError, RecipeError: it cannot be; every listed value and both ends of every span are tried as a recipe.
    """
    several = recipes or {name: recipe}
    if recipes:
        space = {RECIPE: Span(tuple(recipes)), **space}
    finite = all(span.values for span in space.values())
    search = search or ("grid" if finite else "tpe")
    faults: list[str] = []
    if search not in SEARCHES:
        raise UsageError(f"got {search!r}, expected one of {', '.join(SEARCHES)}. Leave it out.", "search")
    if trials is not None and trials < 1:
        faults.append(Fault(f"got {trials}, expected an integer >= 1. Set 20 for a start.", "trials"))
    if search == "grid":
        faults += [
            Fault(
                f"got a span, expected listed values, such as {key}=1,2,4: a grid is finite. Or `search='tpe'`.",
                f"over[{key}]",
            )
            for key, span in space.items()
            if not span.values
        ]
        size = math.prod(len(span.values) for span in space.values() if span.values)
        if trials is not None and trials != size:
            faults.append(
                Fault(f"got {trials}, and the grid has {size}. Leave it out, or use `search='tpe'`.", "trials")
            )
        trials = size
    has_likelihood = all(recipe.model.has_likelihood for recipe in several.values())
    objective = objective or ("elbo" if has_likelihood else "mse")
    objectives = parse_objectives(objective)
    if prune and [one.name for one in objectives] not in (["elbo"], ["mse"]):
        faults.append(Fault("got true, and only elbo or mse is known while a fit goes on. Leave it out.", "prune"))
    if "elbo" in [one.name for one in objectives] and not has_likelihood:
        faults.append(Fault("got an autoencoder, which has no ELBO. Use `objective='mse'`.", "objective='elbo'"))
    if any(recipe.data.split.validation == 0 for recipe in several.values()):
        faults.append("data.split.validation: got 0, expected more: a sweep goes by validation people.")
    for each, shared in several.items():
        text = dump_recipe(shared)
        for key, span in space.items():
            for value in span.ends() if key != RECIPE else ():
                setting = f"{key}={json.dumps(value)}"
                try:
                    parse_recipe(text, each, [setting])
                except RecipeError as error:
                    faults += [_about(fault, setting, f"over[{setting}]") for fault in error.faults]
    if faults:
        raise RecipeError(list(dict.fromkeys(faults)))
    return Plan(name, recipe, dict(space), search, trials or 20, objective, seed, prune, recipes or {})


def plan_sweep(
    recipes: RecipeLike | Sequence[RecipeLike],
    over: Mapping[str, Any] | Sequence[str] = (),
    *,
    space: str | os.PathLike | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    search: str | None = None,
    trials: int | None = None,
    objective: str | None = None,
    seed: int = 0,
    prune: bool = False,
    is_here: bool = True,
) -> Plan:
    """Returns the checked plan of a sweep; nothing is written, nothing is fitted. See `mrigen.sweeps.sweep`.

    Args:
        is_here: whether its fits will run on this machine, and not as jobs elsewhere.

    Raises:
        MrigenError: it cannot be, or a fit of it would be refused.
    """
    named = _load_recipes(recipes, overrides)
    several = len(named) > 1
    spans = {} if several and not over and space is None else parse_space(over, space)
    name, first = ("recipes" if several else next(iter(named))), next(iter(named.values()))
    plan = make_plan(name, first, spans, search, trials, objective, seed, prune, named if several else None)
    raise_all(find_refusals(_ends_of(plan), is_here=is_here))
    return plan


def _ends_of(plan: Plan) -> list[Recipe]:
    """Returns the recipes of a plan as they are, and with each listed value and both ends of every span alone."""
    found: dict[str, Recipe] = {}
    for shared in plan.recipes.values() or [plan.recipe]:
        text = dump_recipe(shared)
        settings = [
            [f"{key}={json.dumps(value)}"] for key, span in plan.space.items() if key != RECIPE for value in span.ends()
        ]
        for setting in settings or [[]]:
            recipe = parse_recipe(text, overrides=setting)
            found[recipe.model_dump_json()] = recipe
    return list(found.values())


def _load_recipes(
    recipes: RecipeLike | Sequence[RecipeLike], overrides: Mapping[str, Any] | Sequence[str]
) -> dict[str, Recipe]:
    """Returns name -> recipe."""
    if isinstance(overrides, Mapping):
        overrides = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    given = [recipes] if isinstance(recipes, (str, os.PathLike, Mapping, Recipe)) else list(recipes)
    paths: list[str] = []
    named: list[tuple[str, Recipe]] = []
    for number, recipe in enumerate(given, 1):
        if isinstance(recipe, (str, os.PathLike)):
            new = [path for path in expand_recipes([os.fspath(recipe)]) if path not in paths]
            named += [(recipe_name(path), load_recipe(path, overrides)) for path in new]
            paths += new
        else:
            text = dump_recipe(recipe) if isinstance(recipe, Recipe) else json.dumps(recipe)
            name = "recipe" if len(given) == 1 else f"recipe-{number}"
            named.append((name, parse_recipe(text, name, overrides)))
    if not named:
        raise UsageError("got none, expected at least one recipe, such as 'vae'.", "recipes")
    if len(dict(named)) < len(named):
        raise UsageError("two recipes have the same name, which their runs are told apart by: rename one file.")
    return dict(named)

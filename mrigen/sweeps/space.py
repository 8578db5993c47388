"""What a sweep tries: keys of a recipe, the values they may take, and how it chooses among them."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mrigen.errors import RecipeError
from mrigen.recipe import Recipe, dump_recipe, parse_recipe
from mrigen.recipe.loading import parse_yaml

# Among the keys of a sweep over several recipes: which one.
RECIPE = "recipe"


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
    def parse(cls, text: str, place: str) -> "Span":
        """Returns the span that is written as `16,32,64`, `1..4`, `0.5..4:log`, or a YAML list.

        Raises:
            RecipeError: it is not.

        Example:
            >>> Span.parse("1..4:log", "--over")
            Span(values=(), low=1, high=4, log=True, whole=True)
        """
        ends, _, scale = text.partition(":") if ".." in text else (text, "", "")
        if ".." not in ends:
            values = parse_yaml(text if text.strip().startswith("[") else f"[{text}]", place)
            if not isinstance(values, list) or not values:
                raise RecipeError(f"{place}: got no values, expected some, for example 16,32 or 1..4:log.")
            if len({json.dumps(value) for value in values}) < len(values):
                raise RecipeError(f"{place}: got a value twice, expected each once. Leave it out.")
            return cls(tuple(values))
        low, high = (parse_yaml(end, place) for end in ends.split("..", 1))
        numbers = all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in (low, high))
        if not numbers or not low < high or scale not in ("", "log") or (scale == "log" and low <= 0):
            raise RecipeError(
                f"{place}: expected LOW..HIGH or LOW..HIGH:log with LOW < HIGH (above 0 for log), such as 0.5..4:log."
            )
        return cls((), low, high, scale == "log", isinstance(low, int) and isinstance(high, int))

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


def parse_space(over: Sequence[str], file: str | os.PathLike | None = None) -> dict[str, Span]:
    """Returns key -> span.

    Args:
        over: strings `key=values`.
        file: YAML of `key: values`, values a list or text as in `over`.

    Raises:
        RecipeError: one line a fault, all together.
    """
    texts: list[tuple[str, str, str]] = []
    faults: list[str] = []
    if file is not None:
        try:
            content = parse_yaml(Path(file).read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{file}: cannot be read ({error}), expected YAML of key: values.") from None
        if not isinstance(content, dict) or not content:
            raise RecipeError(f"{file}: expected a mapping of keys to values, for example model.latent_dim: [16, 32].")
        texts += [
            (str(key), value if isinstance(value, str) else json.dumps(value), f"{file}: {key}")
            for key, value in content.items()
        ]
    for item in over:
        key, equals, text = item.partition("=")
        if not equals or not key.strip() or not text.strip():
            faults.append(f"--over {item}: expected KEY=VALUES, for example --over model.latent_dim=16,32.")
        else:
            texts.append((key.strip(), text.strip(), f"--over {item}"))
    space: dict[str, Span] = {}
    for key, text, place in texts:
        if key in space:
            faults.append(f"{place}: {key} is there already, expected each key once. Leave one out.")
        elif key.split(".")[0] in ("data", "preprocess"):
            faults.append(
                f"{place}: got a key of {key.split('.')[0]}, expected one of model or training: figures of other "
                "people or another grid cannot be compared. Make a sweep of each."
            )
        else:
            try:
                space[key] = Span.parse(text, place)
            except RecipeError as error:
                faults += error.faults
    if not texts and not faults:
        faults.append("sweep: got no keys to search over, expected at least one: --over KEY=VALUES, or --space FILE.")
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
        objective: "elbo" (the larger the better) or "mse", of validation people at the best epoch.
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
    faults = []
    if search == "grid":
        faults += [
            f"--over {key}: got a span, expected listed values, such as {key}=1,2,4: a grid is finite. Or --search tpe."
            for key, span in space.items()
            if not span.values
        ]
        size = math.prod(len(span.values) for span in space.values() if span.values)
        if trials is not None and trials != size:
            faults.append(f"--trials: got {trials}, and the grid has {size}. Leave it out, or use --search tpe.")
        trials = size
    is_vae = all(recipe.model.kind != "autoencoder" for recipe in several.values())
    objective = objective or ("elbo" if is_vae else "mse")
    if objective == "elbo" and not is_vae:
        faults.append("--objective elbo: got an autoencoder, which has no ELBO. Use --objective mse.")
    if any(recipe.data.split.validation == 0 for recipe in several.values()):
        faults.append("data.split.validation: got 0, expected more: a sweep goes by validation people.")
    for each, shared in several.items():
        text = dump_recipe(shared)
        for key, span in space.items():
            for value in span.ends() if key != RECIPE else ():
                try:
                    parse_recipe(text, each, [f"{key}={json.dumps(value)}"])
                except RecipeError as error:
                    faults += [fault.replace("--set ", "--over ", 1) for fault in error.faults]
    if faults:
        raise RecipeError(list(dict.fromkeys(faults)))
    return Plan(name, recipe, dict(space), search, trials or 20, objective, seed, prune, recipes or {})

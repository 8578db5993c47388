"""Whether a change of a covariate changes that and nothing else, in what a run makes of never-seen people."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mrigen.data.covariates import COLUMNS, Covariates
from mrigen.evaluation.bootstrap import fewest, percentiles, redraw, redrawn_interval
from mrigen.evaluation.covariate_judge import FEWEST, NAMES, CovariateJudge
from mrigen.evaluation.heads import SAMPLES, Material
from mrigen.evaluation.phantom_truth import has_truth, true_change
from mrigen.evaluation.result import HIGHER, LOWER, ONE, FigureKind, Row

if TYPE_CHECKING:
    from mrigen.runs import Run

# Of the synthetic cohort, people whose true counterparts are made.
MOST_TRUE = 12


def _figures() -> dict[str, FigureKind]:
    found, person = {}, "as a share of the difference of two people"
    for name in NAMES:
        found[f"counterfactual_{name}_slope"] = FigureKind(f"change of predicted on change of asked {name}", ONE)
    found["counterfactual_composition"] = FigureKind(f"change where no covariate is changed, {person}", LOWER)
    found["counterfactual_reversibility"] = FigureKind(f"change there and back again, {person}", LOWER)
    found["counterfactual_minimality"] = FigureKind(f"change of the latents with a covariate, {person}", LOWER)
    for name in ("sex", "age"):
        found[f"truth_{name}_slope"] = FigureKind(f"change with {name} over the true one (synthetic people)", ONE)
        found[f"truth_{name}_r"] = FigureKind(f"likeness of the change with {name} to the true one", HIGHER)
    return found


FIGURES_OF_RUN: Mapping[str, FigureKind] = _figures()


def judge_counterfactuals(
    material: Material, run: "Run", covariates: Covariates, judges: Mapping[str, CovariateJudge], notes: list[str]
) -> list[Row]:
    """Returns the figures of never-seen people with another sex, age or head size.

    Latents are the posterior means; a counterfactual decodes them with another covariate, as `transfer` does.
    """
    from mrigen.runs.encoding import decode_latents, encode_volumes

    heads, model, people = material.unseen, run.load_model(), material.unseen.people

    def encoded(volumes):
        return encode_volumes(model, np.rint(np.clip(volumes, 0.0, 1.0) * 255).astype(np.uint8))["loc"]

    def decoded(latents, table):
        return np.clip(decode_latents(model, latents, covariates.encode(table)), 0.0, 1.0).reshape(heads.volumes.shape)

    latents = encoded(heads.volumes)
    own = decoded(latents, people)
    own_latents = encoded(own)
    person, of_latents = _between(own), _between(own_latents)
    rows, back_again, moved, whose = [], [], [], []
    again = decoded(own_latents, people)
    rows.append(_person_row("counterfactual_composition", _away(again, own), person, np.arange(len(heads)), material))
    for name in NAMES:
        figure = f"counterfactual_{name}_slope"
        if name not in covariates.names:
            rows.append(Row(figure, SAMPLES, None, note="the run is not conditioned on it"))
            continue
        table, asked = _changed(name, people, material.seed)
        known = np.flatnonzero(np.isfinite(asked) & (asked != 0))
        if len(known) < FEWEST:
            rows.append(Row(figure, SAMPLES, None, n=len(known), note="of too few people it is known"))
            continue
        changed = decoded(latents, table)
        changed_latents = encoded(changed)
        back_again.append(_away(decoded(changed_latents, people), own)[known])
        moved.append(_away(changed_latents, own_latents)[known])
        whose.append(known)
        rows.append(_effect_row(figure, judges[name], changed, own, asked, known, material))
        rows += _truth_rows(name, run, people, table, changed - own, material)
    for figure, values, unit in (
        ("counterfactual_reversibility", back_again, person),
        ("counterfactual_minimality", moved, of_latents),
    ):
        if values:
            of_all = np.concatenate(values)
            # A person is there once for each covariate that was changed.
            rows.append(_person_row(figure, of_all, unit, np.concatenate(whose), material))
        else:
            rows.append(Row(figure, SAMPLES, None, note="no sex, age or head size conditions the run"))
    found = {row.figure for row in rows}
    missing = [figure for figure in FIGURES_OF_RUN if figure.startswith("truth") and figure not in found]
    rows += [Row(figure, SAMPLES, None, note="only of synthetic people is it known") for figure in missing]
    notes.append("Counterfactuals are of never-seen people: their latents, decoded with another covariate.")
    return rows


def _changed(name: str, people: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Returns people with another value each, which somebody else has, and by how much it is another (nan: unknown)."""
    column, table = COLUMNS[name], people.copy()
    if column not in table:
        return table, np.full(len(table), np.nan)
    if name == "sex":
        table[column] = table[column].map({"F": "M", "M": "F"})
        return table, np.array([{"M": 2.0, "F": -2.0}.get(value, np.nan) for value in table[column]])
    numbers = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    known = np.flatnonzero(np.isfinite(numbers))
    others = numbers.copy()
    order = known[np.argsort(numbers[known] + 1e-9 * np.random.default_rng([seed, 52]).random(len(known)))]
    others[order] = numbers[np.roll(order, len(order) // 2)]  # Half the people away: far, and never one's own.
    table[column] = others
    return table, others - numbers


def _between(values: np.ndarray) -> float:
    """Returns the root mean square difference of two people, from the variance of `values` (n, ...)."""
    return float(np.sqrt(2.0 * values.reshape(len(values), -1).var(axis=0, ddof=1).mean()))


def _away(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the mean square difference of each person, (n,)."""
    return np.square(values - others).reshape(len(values), -1).mean(axis=1)


def _person_row(figure, squares, unit, whose, material) -> Row:
    """Returns the size of changes: `squares` (n,) are their mean squares, `whose` the rows of the people."""
    count, families = len(np.unique(whose)), material.unseen.families[whose]
    if not unit > 1e-9:
        return Row(figure, SAMPLES, None, n=count, note="all people are reconstructed alike")

    def size(people=slice(None)) -> float:
        return float(np.sqrt(squares[people].mean()) / unit)

    low, high = redrawn_interval(size, [families], np.random.default_rng([material.seed, 53]))
    return Row(figure, SAMPLES, size(), low, high, n=count)


def _effect_row(figure, judge, changed, own, asked, known, material) -> Row:
    if not judge.has_power:
        return Row(figure, SAMPLES, None, n=len(known), note="no power")
    brains = material.unseen.brains[known]  # Of the person: what a covariate moves is seen in its place.
    told = judge.tell(changed[known], brains) - judge.tell(own[known], brains)
    asked = asked[known]

    def slope(rows=slice(None)) -> float:
        return float(asked[rows] @ told[rows] / (asked[rows] @ asked[rows])) / judge.slope

    families, generator = material.unseen.families[known], np.random.default_rng([material.seed, 54])
    low, high = redrawn_interval(slope, [families], generator)
    return Row(figure, SAMPLES, slope(), low, high, n=len(known))


def _truth_rows(name, run, people, table, change, material) -> list[Row]:
    """Returns how the change compares with that of the synthetic people of whom the images were made."""
    is_synthetic = run.recipe.data.source == "phantom" and has_truth(run.recipe)
    if name == "head_size" or not is_synthetic:
        return []
    chosen = np.arange(len(people))[:MOST_TRUE]
    column, truth, rows = COLUMNS[name], [], []
    for index in chosen:
        person = people.iloc[index]
        truth.append(true_change(run.recipe, person["participant_id"], name, table[column].iloc[index]))
    true, change = np.stack(truth), change[chosen]
    products, squares = (_sums(each, true) for each in (change, true))
    own = _sums(change, change)

    def figures(rows):
        above, below = products[rows].sum(), squares[rows].sum()
        return above / max(below, 1e-12), above / max(np.sqrt(below * own[rows].sum()), 1e-12)

    families = material.unseen.families[chosen]
    draws = redraw(figures, [families], np.random.default_rng([material.seed, 55]))
    for place, what in enumerate(("slope", "r")):
        low, high = percentiles(draws[:, place], fewest(families))
        rows.append(Row(f"truth_{name}_{what}", SAMPLES, float(figures(slice(None))[place]), low, high, n=len(chosen)))
    return rows


def _sums(first, second) -> np.ndarray:
    return (first * second).reshape(len(first), -1).sum(axis=1, dtype=np.float64)

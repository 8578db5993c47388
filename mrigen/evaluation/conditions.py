"""Whether samples are what was asked for, and whether a change of a covariate changes that and nothing else.

What judges is taught by never-seen people alone: ridge regression on the principal components of their heads.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from mrigen.data.covariates import COLUMNS, Covariates
from mrigen.evaluation.heads import FLOOR, SAMPLES, Heads, Material
from mrigen.evaluation.phantom_truth import has_truth, true_change
from mrigen.evaluation.result import HIGHER, LOWER, ONE, FigureKind, PartResult, Row
from mrigen.statistics.pca import gram_scores

if TYPE_CHECKING:
    from mrigen.runs import Run

UNSEEN = "unseen"
NAMES = ("sex", "age", "head_size")
UNITS = {"age": "years", "head_size": "ml"}
FOLDS, FEWEST, NUM_BOOTSTRAPS = 5, 8, 200
# Where real people themselves are told with a smaller correlation than this, nothing can be judged.
LEAST_CORRELATION = 0.3
VOXELS_AT_A_TIME = 2**18
# Of the synthetic cohort, people whose true counterparts are made.
MOST_TRUE = 12


def _figures() -> dict[str, FigureKind]:
    found = {}
    for name in NAMES:
        if name == "sex":
            found["asked_sex_auc"] = FigureKind("AUC of the sex that was asked for", HIGHER)
            found["asked_sex_error"] = FigureKind("share whose sex is called otherwise", LOWER)
        else:
            found[f"asked_{name}_r"] = FigureKind(f"correlation of asked and predicted {name}", HIGHER)
            found[f"asked_{name}_error"] = FigureKind(f"predicted less asked {name}, mean, {UNITS[name]}", "0")
        words = f"predicted on asked {name}, over that of real people by the same judge; more is overdone"
        found[f"asked_{name}_slope"] = FigureKind(words, ONE)
    for name in NAMES:
        found[f"counterfactual_{name}_slope"] = FigureKind(f"change of predicted on change of asked {name}", ONE)
    person = "as a share of the difference of two people"
    found["counterfactual_composition"] = FigureKind(f"change where no covariate is changed, {person}", LOWER)
    found["counterfactual_reversibility"] = FigureKind(f"change there and back again, {person}", LOWER)
    found["counterfactual_minimality"] = FigureKind(f"change of the latents with a covariate, {person}", LOWER)
    for name in ("sex", "age"):
        found[f"truth_{name}_slope"] = FigureKind(f"change with {name} over the true one (synthetic people)", ONE)
        found[f"truth_{name}_r"] = FigureKind(f"likeness of the change with {name} to the true one", HIGHER)
    return found


FIGURES: Mapping[str, FigureKind] = _figures()


def judge(material: Material) -> PartResult:
    """Returns whether the samples show what was asked for, and figures of the run's counterfactuals.

    References:
        Monteiro et al. 2023, Measuring axiomatic soundness of counterfactual image models, ICLR (composition,
        reversibility, effectiveness).
        Melistas et al. 2024, Benchmarking counterfactual image generation, NeurIPS (minimality).
    """
    notes: list[str] = []
    judges = {name: _Judge(name, material) for name in NAMES}
    rows = [row for name in NAMES for row in _asked(name, judges[name], material)]
    weak = [name for name, judge in judges.items() if judge.is_known and not judge.has_power]
    if weak:
        notes.append(
            f"Of real people, {', '.join(weak)} is told with a correlation below {LEAST_CORRELATION:g}, so "
            "nothing is said of it."
        )
    if not any(row.value is not None for row in rows if row.of == SAMPLES):
        notes.append("Nothing that could be judged was asked of the samples.")
    facts = {name: {"n": judge.count, "correlation": judge.correlation} for name, judge in judges.items()}
    if material.run is None or material.run.covariates is None:
        why = "the run is not conditioned on covariates"
        notes.append(f"There are no counterfactuals: {why}." if material.run else "There is no run to ask.")
        of_run = [name for name in FIGURES if name.startswith(("counterfactual", "truth"))]
        rows += [Row(name, SAMPLES, None, note=why if material.run else "no run") for name in of_run]
    else:
        rows += _counterfactuals(material, material.run, material.run.covariates, judges, notes)
    rows.sort(key=lambda row: list(FIGURES).index(row.figure))
    return PartResult(tuple(rows), tuple(notes), facts=facts)


class _Judge:
    """What says which sex, age or head size heads show; taught by the never-seen people.

    Attributes:
        is_known: whether enough of them are known. count: how many. rows: which.
        own: (n,) what is said of each of them by those of other families; nan where it is unknown.
        real: what is said of training people (told, true, families): the same judge has never seen them either. Of the
            never-seen people themselves, where too few training people are known.
        correlation, slope: of what is told with, and on, the truth, of `real`.
    """

    def __init__(self, name: str, material: Material):
        self.name = name
        self.values = _values(name, material.unseen)
        self.rows = np.flatnonzero(np.isfinite(self.values))
        self.count, families = len(self.rows), material.unseen.families
        self.own, self.correlation, self.slope = np.full(len(self.values), np.nan), 0.0, 0.0
        differ = self.count >= FEWEST and np.ptp(self.values[self.rows]) > 0
        self.is_known = bool(differ and len(set(families[self.rows])) >= FOLDS)
        if not self.is_known:
            return
        self._seen = self._shown(material.unseen.volumes, material.unseen.brains)
        self._products = _products(self._seen, self._seen)
        for train, test in GroupKFold(FOLDS).split(self.rows, groups=families[self.rows]):
            self.own[self.rows[test]] = self._told(self._products, self.rows[train])[self.rows[test]]
        true = _values(name, material.taught)
        known = np.isfinite(true)
        if known.sum() >= FEWEST and np.ptp(true[known]) > 0:
            told = self.tell(material.taught.volumes, material.taught.brains)
            self.real = told[known], true[known], material.taught.families[known]
        else:
            self.real = self.own[self.rows], self.values[self.rows], families[self.rows]
        self.correlation, self.slope = _line(*self.real[:2])

    @property
    def has_power(self) -> bool:
        """Whether it tells real people well enough."""
        return self.is_known and self.correlation >= LEAST_CORRELATION and self.slope > 0

    def tell(self, volumes: np.ndarray, brains: np.ndarray) -> np.ndarray:
        """Returns what is said of other heads (n, x, y, z) and their brains, (n,)."""
        both = np.concatenate([self._products, _products(self._shown(volumes, brains), self._seen)])
        return self._told(both, self.rows)[len(self._products) :]

    def _shown(self, volumes, brains) -> np.ndarray:
        # Of 25 people of `ixi-hh`, a judge of whole heads learned ages with a correlation of .52 (89 others), of brains
        # .58; sexes .80 and .74.
        return volumes * brains if self.name == "age" else volumes

    def _told(self, products, train) -> np.ndarray:
        # Of a Gram matrix, only the columns of the people that teach are ever read.
        scores = gram_scores(products, train, len(train))
        scale = np.square(scores[train]).sum(axis=1).mean()
        ridge = RidgeCV(scale * np.logspace(-4, 1, 16)).fit(scores[train], self.values[train])
        return ridge.predict(scores)


def _products(volumes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the inner products (n, m) float64 of heads, some voxels at a time."""
    first, second = (each.reshape(len(each), -1) for each in (volumes, others))
    products = np.zeros((len(first), len(second)))
    for start in range(0, first.shape[1], VOXELS_AT_A_TIME):
        part = slice(start, start + VOXELS_AT_A_TIME)
        products += first[:, part].astype(np.float64) @ second[:, part].astype(np.float64).T
    return products


def _values(name: str, heads: Heads) -> np.ndarray:
    """Returns a covariate as numbers, (n,): sex is 1 (M) or -1 (F), nan where it is unknown."""
    values = heads.column(COLUMNS[name])
    if name == "sex":
        return np.array([{"M": 1.0, "F": -1.0}.get(value, np.nan) for value in values])
    return pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float)


def _line(told, asked) -> tuple[float, float]:
    """Returns the correlation of what is told and asked, and the slope of the former on the latter."""
    away = asked - asked.mean()
    slope = float(away @ (told - told.mean()) / max(float(away @ away), 1e-12))
    if np.ptp(told) <= 1e-12:
        return 0.0, slope
    return float(np.corrcoef(told, asked)[0, 1]), slope


def _asked(name: str, judge: _Judge, material: Material) -> list[Row]:
    figures = [figure for figure in FIGURES if figure.startswith(f"asked_{name}_")]
    groups: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    rows: list[Row] = []
    if not judge.is_known:
        return [Row(figure, SAMPLES, None, note="of too few never-seen people it is known") for figure in figures]
    for of in (SAMPLES, FLOOR):
        heads = material.contenders.get(of)
        if heads is None:
            continue
        asked = _values(name, heads)
        known = np.isfinite(asked)
        differ = known.sum() >= FEWEST and np.ptp(asked[known]) > 0
        if not known.any() or not judge.has_power:
            note = "nothing was asked for" if not known.any() else "no power"
            rows += [Row(figure, of, None, n=int(known.sum()), note=note) for figure in figures]
            continue
        told = judge.tell(heads.volumes[known], heads.brains[known])
        if differ:
            groups[of] = told, asked[known], heads.families[known]
        else:  # One value for all: how far off they are can be said, no more.
            error = (told * asked[known] <= 0).mean() if name == "sex" else (told - asked[known]).mean()
            rows += [
                Row(figure, of, float(error), n=len(told))
                if figure.endswith("error")
                else Row(figure, of, None, n=len(told), note="all were asked for alike")
                for figure in figures
            ]
    if judge.has_power:
        groups[UNSEEN] = judge.own[judge.rows], judge.values[judge.rows], material.unseen.families[judge.rows]
    for of, (told, asked, families) in groups.items():
        generator = np.random.default_rng([material.seed, 51])
        draws = []
        for _ in range(NUM_BOOTSTRAPS):
            some, real = _by_family(families, generator), _by_family(judge.real[2], generator)
            slope = _line(judge.real[0][real], judge.real[1][real])[1]
            if np.ptp(asked[some]) > 0 and slope > 0.1 * judge.slope:
                draws.append(_said(name, told[some], asked[some], slope))
        for figure, value in _said(name, told, asked, judge.slope).items():
            low, high = _interval([draw[figure] for draw in draws])
            rows.append(Row(figure, of, value, low, high, n=len(told)))
    return rows


def _interval(draws) -> tuple[float | None, float | None]:
    if not len(draws):
        return None, None
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def _said(name, told, asked, real_slope) -> dict[str, float]:
    correlation, slope = _line(told, asked)
    slopes = {f"asked_{name}_slope": slope / real_slope}
    if name == "sex":
        auc, error = roc_auc_score(asked > 0, told), float((told * asked <= 0).mean())
        return {"asked_sex_auc": float(auc), "asked_sex_error": error, **slopes}
    return {f"asked_{name}_r": correlation, f"asked_{name}_error": float((told - asked).mean()), **slopes}


def _by_family(families, generator) -> np.ndarray:
    names, index = np.unique(families, return_inverse=True)
    members = [np.flatnonzero(index == each) for each in range(len(names))]
    return np.concatenate([members[each] for each in generator.integers(0, len(names), len(names))])


def _counterfactuals(
    material: Material, run: "Run", covariates: Covariates, judges: Mapping[str, _Judge], notes: list[str]
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
    rows, back_again, moved = [], [], []
    again = decoded(own_latents, people)
    rows.append(_person_row("counterfactual_composition", _away(again, own), person, heads.families, material.seed))
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
        rows.append(_effect_row(figure, judges[name], changed, own, asked, known, material))
        rows += _truth_rows(name, run, people, table, changed - own, material)
    for figure, values, unit in (
        ("counterfactual_reversibility", back_again, person),
        ("counterfactual_minimality", moved, of_latents),
    ):
        if values:
            of_all = np.concatenate(values)
            rows.append(_person_row(figure, of_all, unit, np.arange(len(of_all)), material.seed))
        else:
            rows.append(Row(figure, SAMPLES, None, note="no sex, age or head size conditions the run"))
    missing = [
        figure for figure in FIGURES if figure.startswith("truth") and figure not in {row.figure for row in rows}
    ]
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


def _person_row(figure, squares, unit, families, seed) -> Row:
    if not unit > 1e-9:
        return Row(figure, SAMPLES, None, n=len(squares), note="all people are reconstructed alike")
    generator = np.random.default_rng([seed, 53])
    draws = [np.sqrt(squares[_by_family(families, generator)].mean()) / unit for _ in range(NUM_BOOTSTRAPS)]
    return Row(figure, SAMPLES, float(np.sqrt(squares.mean()) / unit), *_interval(draws), n=len(squares))


def _effect_row(figure, judge, changed, own, asked, known, material) -> Row:
    if not judge.has_power:
        return Row(figure, SAMPLES, None, n=len(known), note="no power")
    brains = material.unseen.brains[known]  # Of the person: what a covariate moves is seen in its place.
    told = judge.tell(changed[known], brains) - judge.tell(own[known], brains)
    asked = asked[known]
    value = float(asked @ told / (asked @ asked)) / judge.slope
    generator, families, draws = np.random.default_rng([material.seed, 54]), material.unseen.families[known], []
    for _ in range(NUM_BOOTSTRAPS):
        rows = _by_family(families, generator)
        draws.append(float(asked[rows] @ told[rows] / (asked[rows] @ asked[rows])) / judge.slope)
    return Row(figure, SAMPLES, value, *_interval(draws), n=len(known))


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

    generator, families = np.random.default_rng([material.seed, 55]), material.unseen.families[chosen]
    draws = np.array([figures(_by_family(families, generator)) for _ in range(NUM_BOOTSTRAPS)])
    for place, what in enumerate(("slope", "r")):
        value = float(figures(slice(None))[place])
        rows.append(Row(f"truth_{name}_{what}", SAMPLES, value, *_interval(draws[:, place]), n=len(chosen)))
    return rows


def _sums(first, second) -> np.ndarray:
    return (first * second).reshape(len(first), -1).sum(axis=1, dtype=np.float64)

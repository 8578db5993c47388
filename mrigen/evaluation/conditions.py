"""Whether samples are what was asked for, and whether a change of a covariate changes that and nothing else.

What judges is taught by never-seen people alone: ridge regression on the principal components of their heads.
"""

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import roc_auc_score

from mrigen.evaluation.bootstrap import drawn_share_interval, fewest, percentiles, redraw
from mrigen.evaluation.counterfactuals import FIGURES_OF_RUN, judge_counterfactuals
from mrigen.evaluation.covariate_judge import FEWEST, LEAST_CORRELATION, NAMES, CovariateJudge, line, values_of
from mrigen.evaluation.heads import FLOOR, SAMPLES, Material
from mrigen.evaluation.result import HIGHER, LOWER, ONE, FigureKind, PartResult, Row

UNSEEN = "unseen"
UNITS = {"age": "years", "head_size": "ml"}


def _figures_asked() -> dict[str, FigureKind]:
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
    return found


FIGURES: Mapping[str, FigureKind] = {**_figures_asked(), **FIGURES_OF_RUN}


def judge(material: Material) -> PartResult:
    """Returns whether the samples show what was asked for, and figures of the run's counterfactuals.

    References:
        Monteiro et al. 2023, Measuring axiomatic soundness of counterfactual image models, ICLR (composition,
        reversibility, effectiveness).
        Melistas et al. 2024, Benchmarking counterfactual image generation, NeurIPS (minimality).
    """
    notes: list[str] = []
    judges = {name: CovariateJudge(name, material) for name in NAMES}
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
        rows += [Row(name, SAMPLES, None, note=why if material.run else "no run") for name in FIGURES_OF_RUN]
    else:
        rows += judge_counterfactuals(material, material.run, material.run.covariates, judges, notes)
    rows.sort(key=lambda row: list(FIGURES).index(row.figure))
    return PartResult(tuple(rows), tuple(notes), facts=facts)


def _asked(name: str, judge: CovariateJudge, material: Material) -> list[Row]:
    figures = [figure for figure in FIGURES if figure.startswith(f"asked_{name}_")]
    groups: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    rows: list[Row] = []
    if not judge.is_known:
        return [Row(figure, SAMPLES, None, note="of too few never-seen people it is known") for figure in figures]
    for of in (SAMPLES, FLOOR):
        heads = material.contenders.get(of)
        if heads is None:
            continue
        asked = values_of(name, heads)
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
        everyone = families, judge.real[2]

        def drawn(some, real, told=told, asked=asked):
            slope = line(judge.real[0][real], judge.real[1][real])[1]
            if np.ptp(asked[some]) > 0 and slope > 0.1 * judge.slope:
                return list(_said(name, told[some], asked[some], slope).values())
            return [np.nan] * len(figures)

        draws = redraw(drawn, everyone, np.random.default_rng([material.seed, 51]))
        for place, (figure, value) in enumerate(_said(name, told, asked, judge.slope).items()):
            if figure == "asked_sex_auc":
                number = fewest(families[asked > 0], families[asked <= 0])
                low, high = drawn_share_interval(value, draws[:, place], number)
            elif figure == "asked_sex_error":
                low, high = drawn_share_interval(value, draws[:, place], fewest(families))
            else:
                low, high = percentiles(draws[:, place], fewest(*everyone))
            rows.append(Row(figure, of, value, low, high, n=len(told)))
    return rows


def _said(name, told, asked, real_slope) -> dict[str, float]:
    correlation, slope = line(told, asked)
    slopes = {f"asked_{name}_slope": slope / real_slope}
    if name == "sex":
        auc, error = roc_auc_score(asked > 0, told), float((told * asked <= 0).mean())
        return {"asked_sex_auc": float(auc), "asked_sex_error": error, **slopes}
    return {f"asked_{name}_r": correlation, f"asked_{name}_error": float((told - asked).mean()), **slopes}

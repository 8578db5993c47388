"""Whether the intervals of a probe hold: python -m benchmarks.coverage [FOLDER] [DATASETS] [PERMUTED]

In each cell (the ROC AUC that the latents allow, the number of people, with and without twins) as many cohorts are
drawn, of 16 Gaussian latents of which one knows the class (in a last cell of 400, each of which knows a little), and
probed as `mrigen probe` does by default, beside a second predictor: the same latents with as much noise. The truth is
the expected figure, on 20,000 new people, of a probe trained on as many people as a fold trains on.

The scores of cohorts are kept, 25 in a file, under FOLDER/<cell>_scores, so a call that broke off goes on, a larger
number of cohorts adds to those that are there, and intervals that are made otherwise need no new fits. Cells come in
rounds: 100 cohorts of each, then 200, 400 and so on. Printed, and written to FOLDER/coverage.tsv, for each cell and
figure: how many of 100 intervals hold the truth (held_at_90: those made at 90 %, which must not pass for 95 %), how
many lie wholly below it, and their median width over that of the middle 95 % of the figures themselves. PERMUTED
cohorts at chance are given a permutation test of 99 permutations; the Kolmogorov-Smirnov test says whether the p-values
are uniform.

A quick form, of minutes: python -m benchmarks.coverage coverage 25
What the kept scores say, without new ones: python -m benchmarks.coverage coverage 0
"""

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from scipy import stats

from mrigen.probing import ProbeInputs, run_probe
from mrigen.probing.folds import derived_seed, target_folds
from mrigen.probing.permutation import permutation_test
from mrigen.probing.predictors import FoldScores, LogisticPredictor
from mrigen.probing.targets import SEX

AREAS, COUNTS = (0.5, 0.7, 0.85, 0.95), (60, 120, 300)
NUM_LATENTS, MANY_LATENTS, NUM_NEW, NUM_TRAININGS = 16, 400, 20_000, 300
NUM_FOLDS, NUM_REPEATS = 5, 5
# Cohorts of one file of scores.
BLOCK = 25
METRICS = ("roc_auc", "balanced_accuracy")
# Share of what twins have in common in the variance of a latent.
TWINS_ALIKE = 0.8


def main() -> None:
    """Scores the cohorts that are missing, and prints the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "coverage")
    num_datasets, num_permuted = (int(value) for value in (*sys.argv[2:4], *("1000", "0")[len(sys.argv[2:4]) :]))
    folder.mkdir(parents=True, exist_ok=True)
    cells = [(*cell, NUM_LATENTS) for cell in itertools.product(COUNTS, AREAS, (False, True))]
    cells.append((120, 0.95, False, MANY_LATENTS))
    for upto in sorted({min(part, num_datasets) for part in (100, 200, 400, num_datasets)} - {0}):
        for cell in cells:
            score_cohorts(folder, cell, upto)
    rows = []
    for cell in cells:
        count, area, twins, num_latents = cell
        truth = _kept(folder / f"{name_of(cell)}_truth.jsonl", 1, lambda _, cell=cell: expected(*cell))[0]
        calls = (joblib.delayed(one_cohort)(*cell, seed, scores) for seed, scores in kept_scores(folder, cell))
        found = joblib.Parallel(n_jobs=-1)(calls)
        if found:
            setting = {"people": count, "auc": area, "twins": twins, "latents": num_latents, "cohorts": len(found)}
            rows += [setting | row for row in judge(found, truth)]
            print(pd.DataFrame(rows[-3:]).to_string(index=False, header=len(rows) == 3), flush=True)
    table = pd.DataFrame(rows)
    table.to_csv(folder / "coverage.tsv", sep="\t", index=False)
    for figure, part in table.groupby("figure", sort=False):
        held = part["held"]
        print(f"{figure}: held in the mean {held.mean():.1f} (lowest {held.min()}, highest {held.max()})")
    if num_permuted:
        p = _kept(folder / "permutations.jsonl", num_permuted, permuted)
        print(f"permutation p: Kolmogorov-Smirnov p = {stats.kstest(p, 'uniform').pvalue:.3f} ({len(p)} cohorts)")


def name_of(cell: tuple[int, float, bool, int]) -> str:
    """Returns the name of the files of a cell."""
    count, area, twins, num_latents = cell
    name = f"n{count}_auc{area:g}_{'twins' if twins else 'strangers'}"
    return name + (f"_{num_latents}" if num_latents != NUM_LATENTS else "")


def score_cohorts(folder: Path, cell: tuple[int, float, bool, int], count: int) -> None:
    """Writes the scores of at least `count` cohorts of a cell that are not there."""
    home = folder / f"{name_of(cell)}_scores"
    home.mkdir(exist_ok=True)
    paths = [home / f"{block:03d}.npy" for block in range(-(-count // BLOCK))]
    for block, path in enumerate(paths):
        if not path.is_file():
            seeds = range(BLOCK * block, BLOCK * (block + 1))
            scores = joblib.Parallel(n_jobs=-1)(joblib.delayed(scores_of)(*cell, seed) for seed in seeds)
            part = path.with_name(f".{path.name}")
            np.save(part, np.stack(scores))
            part.rename(path)


def kept_scores(folder: Path, cell: tuple[int, float, bool, int]) -> Iterator[tuple[int, np.ndarray]]:
    """Returns the seeds of the cohorts of a cell that are there, each with its scores."""
    for path in sorted((folder / f"{name_of(cell)}_scores").glob("[0-9]*.npy")):
        yield from enumerate(np.load(path), start=BLOCK * int(path.stem))


def draw(
    generator, count: int, area: float, twins: bool, num_latents: int = NUM_LATENTS
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns classes, families and the latents of both predictors, of `count` people (a multiple of four)."""
    members = 2 if twins else 1
    targets = np.repeat(np.arange(count // members) % 2, members)
    families = np.repeat(np.arange(count // members), members).astype(str)

    def noise():
        shared = np.repeat(generator.standard_normal((count // members, num_latents)), members, axis=0)
        return np.sqrt(TWINS_ALIKE) * shared + np.sqrt(1 - TWINS_ALIKE) * generator.standard_normal(shared.shape)

    latents = noise() if twins else generator.standard_normal((count, num_latents))
    shift = np.sqrt(2.0) * stats.norm.ppf(area) * targets
    if num_latents == MANY_LATENTS:
        latents += shift[:, None] / np.sqrt(num_latents)
    else:
        latents[:, 0] += shift
    blurred = (latents + (noise() if twins else generator.standard_normal(latents.shape))) / np.sqrt(2.0)
    return targets, families, latents, blurred


def scores_of(count: int, area: float, twins: bool, num_latents: int, seed: int) -> np.ndarray:
    """Returns the scores (2 predictors, repeats, people) of a cohort, as `run_probe` has them with that seed."""
    targets, families, *latents = draw(_generator(count, area, twins, seed), count, area, twins, num_latents)
    scores = np.zeros((2, NUM_REPEATS, count), np.float32)
    for repeat, fold, train, test in _folds(targets, families, seed):
        for which, features in enumerate(latents):
            own = derived_seed(seed, repeat, fold + 1)
            found = LogisticPredictor(features).fit_score(targets, families, train, test, own)
            scores[which, repeat, test] = found.score
    return scores


def one_cohort(count: int, area: float, twins: bool, num_latents: int, seed: int, scores: np.ndarray) -> dict:
    """Returns figures and intervals of one cohort, metric -> [figure, low, high], "difference" among them.

    Args:
        scores: of `scores_of`.
    """
    targets, families, latents, blurred = draw(_generator(count, area, twins, seed), count, area, twins, num_latents)
    kept = {"latents": _Kept(latents, scores[0]), "blurred": _Kept(blurred, scores[1])}
    result = run_probe(_inputs(targets, families, latents), seed=seed, num_repeats=NUM_REPEATS, predictors=kept)
    row, other = result.rows()[0], result.comparisons()[0]
    found = {metric: [row[metric], *row[f"{metric}_ci"]] for metric in METRICS}
    summary = result._summaries["transductive", "latents"]
    narrow = {f"{metric}_90": summary.interval(metric, 0.9) for metric in METRICS}
    return found | {"difference": [other["difference"], *other["ci"]], "p": other["p"]} | narrow


class _Kept(LogisticPredictor):
    """A probe whose scores are there; the folds of a repeat come one after the other, and test each person once."""

    def __init__(self, features: np.ndarray, scores: np.ndarray):
        super().__init__(features)
        self._scores, self._tested = scores, np.zeros(scores.shape[1], int)

    def fit_score(self, targets, groups, train, test, seed) -> FoldScores:
        score = self._scores[self._tested[test], test].astype(np.float64)
        self._tested[test] += 1
        return FoldScores(score, (score > 0.0).astype(int), "")


def _folds(targets: np.ndarray, families: np.ndarray, seed: int) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    for repeat in range(NUM_REPEATS):
        for fold, (train, test) in enumerate(target_folds(targets, families, SEX, NUM_FOLDS, seed, repeat)):
            yield repeat, fold, train, test


def expected(count: int, area: float, twins: bool, num_latents: int) -> dict:
    """Returns the expected figures of a probe that learns from four fifths of `count` people, metric -> figure."""
    figures, training = [], 4 * round(count * 0.8 / 4)
    for seed in range(NUM_TRAININGS):
        generator = _generator(count, area, twins, seed, 1)
        targets, families, *latents = draw(generator, training, area, twins, num_latents)
        new_targets, new_families, *new = draw(generator, NUM_NEW, area, False, num_latents)
        names = np.char.add(["old"] * training + ["new"] * NUM_NEW, np.concatenate([families, new_families]))
        both = np.concatenate([targets, new_targets]), names
        rows = np.split(np.arange(training + NUM_NEW), [training])
        scored = [
            LogisticPredictor(np.concatenate(pair)).fit_score(*both, *rows, seed)
            for pair in zip(latents, new, strict=True)
        ]
        first, second = (area_of(new_targets, part.score) for part in scored)
        right = [np.mean(scored[0].prediction[new_targets == label] == label) for label in (0, 1)]
        figures.append((first, np.mean(right), first - second))
    return dict(zip((*METRICS, "difference"), np.mean(figures, axis=0).tolist(), strict=True))


def area_of(targets: np.ndarray, scores: np.ndarray) -> float:
    """Returns the ROC AUC by ranks: 20,000 people have too many pairs to be counted."""
    positive = int(targets.sum())
    ranks = stats.rankdata(scores)[targets == 1].sum() - positive * (positive + 1) / 2
    return float(ranks / (positive * (len(targets) - positive)))


def judge(found: list[dict], truth: dict) -> list[dict]:
    """Returns one row a figure: what its intervals are worth."""
    rows = []
    for metric in (*METRICS, "difference"):
        values = np.array([row[metric][0] for row in found])
        spread = np.diff(np.quantile(values, [0.025, 0.975]))[0]
        low, high = np.array([row[metric][1:] for row in found]).T
        row = {
            "figure": metric,
            "truth": round(truth[metric], 3),
            "mean": round(float(values.mean()), 3),
            "held": _percent((low <= truth[metric]) & (truth[metric] <= high)),
            "below": _percent(high < truth[metric]),
            "width": round(float(np.median(high - low) / spread), 2),
        }
        if f"{metric}_90" in found[0]:
            low, high = np.array([row[f"{metric}_90"] for row in found]).T
            row["held_at_90"] = _percent((low <= truth[metric]) & (truth[metric] <= high))
        rows.append(row)
    return rows


def _percent(chosen: np.ndarray) -> float:
    return round(100.0 * float(np.mean(chosen)), 1)


def permuted(seed: int) -> float:
    """Returns the p-value of a permutation test of 60 people without a signal."""
    targets, families, latents, _ = draw(_generator(60, 0.5, False, seed, 2), 60, 0.5, twins=False)
    predictor = LogisticPredictor(latents)
    return permutation_test(predictor, targets, families, SEX, 99, seed=seed, jobs=1, num_repeats=1).p_value


def _generator(count: int, area: float, twins: bool, *seed: int) -> np.random.Generator:
    return np.random.default_rng([count, round(1000 * area), int(twins), *seed])


def _inputs(targets, families, latents) -> ProbeInputs:
    names = np.arange(len(targets)).astype(str)
    return ProbeInputs(
        participant_ids=names, targets=targets, groups=families, site=np.full(len(names), "here"),
        split=np.full(len(names), "train"), latents=latents, latents_draw=None, volumes=latents,
        head_volume=np.ones(len(names)),
    )  # fmt: skip


def _kept(path: Path, count: int, make) -> list:
    """Returns `make(seed)` of the seeds below `count`: from the file where they are there, added to it where not."""
    known = {}
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                seed, value = json.loads(line)
            except ValueError:  # The line that was being written when the call broke off.
                continue
            known[seed] = value
    missing = [seed for seed in range(count) if seed not in known]
    with path.open("a") as file:
        calls = (joblib.delayed(make)(seed) for seed in missing)
        for seed, value in zip(missing, joblib.Parallel(n_jobs=-1, return_as="generator")(calls), strict=True):
            known[seed] = value
            file.write(json.dumps([seed, value]) + "\n")
            file.flush()
    return [known[seed] for seed in range(count)]


if __name__ == "__main__":
    main()

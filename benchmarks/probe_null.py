"""Whether a probe of nothing finds nothing: python -m benchmarks.probe_null RUN [SEEDS] [PERMUTATIONS]

The latents are those of the run's people; the classes are drawn anew for every seed, half of each, so there is nothing
to be told. One repeat of the cross-validation. Prints p-values, their Kolmogorov-Smirnov test against the uniform
distribution, and how many 95 % intervals of the AUC cover 0.5.
"""

import sys

import joblib
import numpy as np
from scipy import stats

from mrigen.probing import ProbeInputs, run_probe
from mrigen.probing.permutation import permutation_test
from mrigen.probing.predictors import LogisticPredictor
from mrigen.probing.targets import SEX
from mrigen.runs import open_run


def main() -> None:
    """Prints the figures."""
    latents = open_run(sys.argv[1]).load_latents()
    num_seeds, num_permutations = (int(value) for value in (*sys.argv[2:4], "20", "39")[:2])
    found = joblib.Parallel(n_jobs=2)(
        joblib.delayed(one_seed)(latents["loc"], seed, num_permutations) for seed in range(num_seeds)
    )
    p_values, intervals = zip(*found, strict=True)
    covered = sum(low <= 0.5 <= high for low, high in intervals)
    print("p:", " ".join(f"{value:.3f}" for value in sorted(p_values)))
    print(f"Kolmogorov-Smirnov p = {stats.kstest(p_values, 'uniform').pvalue:.3f}")
    print(f"intervals that cover 0.5: {covered} of {num_seeds}")


def one_seed(latents: np.ndarray, seed: int, num_permutations: int) -> tuple[float, list[float]]:
    """Returns p-value and interval of the AUC for classes drawn with `seed`."""
    count = len(latents)
    targets = np.random.default_rng([seed, 5]).permutation(np.arange(count) % 2)
    names = np.arange(count).astype(str)
    predictor = LogisticPredictor(latents)
    inputs = ProbeInputs(
        participant_ids=names, targets=targets, groups=names, site=names, split=np.full(count, "train"),
        latents=latents, latents_draw=None, volumes=latents, head_volume=np.ones(count),
    )  # fmt: skip
    row = run_probe(inputs, seed=seed, num_repeats=1, predictors={"latents": predictor}).rows()[0]
    test = permutation_test(predictor, targets, names, SEX, num_permutations, seed=seed, jobs=1, num_repeats=1)
    return test.p_value, row["roc_auc_ci"]


if __name__ == "__main__":
    main()

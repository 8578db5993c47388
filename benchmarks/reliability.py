"""Whether rows without confounds keep what they promise: python -m benchmarks.reliability [SETS] [PEOPLE] [FOLDER]

Synthetic people differ in true size (by sex, AUC .86); the size in the table goes with it by r = .89. Latents know the
true size well, and beside it nothing, or a signal that alone has an AUC of .70. Through `run_probe`, shipped defaults.
Prints for each row the mean figure, the share of intervals that hold .5, their median width, and people scored. With a
FOLDER, data sets that are done are kept there.
"""

import json
import os
import sys
from pathlib import Path

import joblib
import numpy as np
from scipy.stats import norm

from mrigen.probing import ProbeInputs, ProbePlan, run_probe
from mrigen.probing.rows import build_rows

SEPARATION = norm.ppf(0.86) * 2**0.5
SIGNAL = 0.9  # A probe of 300 people finds .70 of it.
RELIABILITY = 0.79
NUM_LATENTS = 16
ROWS = ("latents", "confounds", "confounds_and_latents", "latents_deconfounded", "latents_deconfounded_at_0.6",
        "latents_size_matched")  # fmt: skip


def people(seed: int, num_people: int, signal: float, said: bool, separation: float = SEPARATION) -> ProbeInputs:
    """Returns people whose latents know true size, and a signal of sex beside it; `said`: the reliability is known."""
    generator, names = np.random.default_rng([seed, 3]), np.arange(num_people).astype(str)
    targets = generator.permutation(np.arange(num_people) % 2)
    truth = separation * (targets - 0.5) + generator.normal(size=num_people)
    error = ((1 + separation**2 / 4) * (1 / RELIABILITY - 1)) ** 0.5
    size = 3500.0 + 300.0 * (truth + error * generator.normal(size=num_people))
    latents = generator.normal(size=(num_people, NUM_LATENTS))
    directions = np.random.default_rng(7).normal(size=(2, NUM_LATENTS))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    latents += 3.0 * truth[:, None] * directions[0] + signal * (targets - 0.5)[:, None] * directions[1]
    return ProbeInputs(
        participant_ids=names, targets=targets, groups=names, site=np.full(num_people, "here"),
        split=np.full(num_people, "train"), latents=latents, latents_draw=None, volumes=latents, head_volume=size,
        confounds=((size - size.mean()) / size.std())[:, None], confound_names=("head_size",),
        reliability=(RELIABILITY if said else None,),
    )  # fmt: skip


def one(seed: int, num_people: int, signal: float, said: bool, folder: Path | None = None, **settings) -> dict:
    """Returns row -> AUC, interval and people of one data set."""
    path = None if folder is None else folder / f"{num_people}-{signal:g}-{said}-{seed}.json"
    if path is not None and path.is_file():
        return json.loads(path.read_text())
    inputs, plan = people(seed, num_people, signal, said), ProbePlan(confounds=("head_size",))
    rows = {name: row for name, row in build_rows(inputs, plan).items() if name in ROWS}
    found = run_probe(inputs, plan=plan, predictors=rows, seed=seed, **settings).rows()
    found = {
        row["predictor"]: [row["roc_auc"], *row["roc_auc_ci"], row["num_subjects"]]
        for row in found
        if row["protocol"] == "transductive"
    }
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return found


def main() -> None:
    """Prints the figures."""
    num_sets, num_people = (int(value) for value in (*sys.argv[1:3], *("20", "300")[len(sys.argv[1:3]) :]))
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    for title, signal, said in (
        ("size alone, reliability .79 said", 0.0, True),
        ("size alone, reliability not said", 0.0, False),
        ("a signal of .70 beside size, reliability .79 said", SIGNAL, True),
    ):
        sets = joblib.Parallel(n_jobs=int(os.environ.get("JOBS", "1")))(
            joblib.delayed(one)(seed, num_people, signal, said, folder) for seed in range(num_sets)
        )
        print(f"{title}; {num_sets} data sets of {num_people} people", flush=True)
        for name in ROWS:
            if not all(name in found for found in sets):
                continue
            values, low, high, count = np.array([found[name] for found in sets], float).T
            hold = (low <= 0.5) & (high >= 0.5)
            print(
                f"  {name:30} AUC {values.mean():.3f} (sd {values.std():.3f})  hold .5: {hold.mean():.0%}  "
                f"width {np.median(high - low):.3f}  people {np.median(count):.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()

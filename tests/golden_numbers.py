"""What a run comes to: figures and arrays that later versions have to find again in golden runs."""

from pathlib import Path

import numpy as np

from mrigen.generation import encode, sample
from mrigen.probing import run_probe
from mrigen.probing.gathering import gather_inputs
from mrigen.probing.plan import ProbePlan
from mrigen.probing.rows import build_rows
from mrigen.runs import open_run

# Every so many voxels of a sample are kept.
STRIDE = 3
# Rows of the probe that cost little.
ROWS = ("latents", "pca", "head_volume")


def numbers_of(directory):
    """Returns (figures, arrays) of a run whose cohort is in the current folder."""
    run = open_run(directory)
    samples = sample(run, 2, seed=3, native_units=True)
    volumes = np.stack([np.asarray(image.dataobj) for image in samples])
    people = sorted(Path("cohort").rglob("*_T1w.nii.gz"))[:3]
    encoded = encode(run, people).latents
    inputs, plan = gather_inputs(run, run.open_dataset(), 0, ProbePlan()), ProbePlan()
    rows = {name: row for name, row in build_rows(inputs, plan).items() if name in ROWS}
    probe = run_probe(inputs, num_folds=3, num_repeats=1, plan=plan, predictors=rows)
    figures = {
        "sample_affine": samples[0].affine.tolist(),
        "density": samples.to_frame()["density"][0],
        "roc_auc": {row["predictor"]: row["roc_auc"] for row in probe.rows() if row["protocol"] == "transductive"},
        "heldout_mse": run.metrics["heldout"]["mse"],
    }
    arrays = {
        "samples": volumes[:, ::STRIDE, ::STRIDE, ::STRIDE].astype(np.float32),
        "sample_means": volumes.mean(axis=(1, 2, 3)),
        "probe_scores": probe.scores.query("predictor == 'latents' and protocol == 'transductive'")["score"].to_numpy(),
        **{f"encoded_{name}": values for name, values in encoded.items()},
    }
    return figures, arrays

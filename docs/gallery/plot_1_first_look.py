"""
A first look
============

Fit a small model, look at what a fit leaves, and draw heads from it.

The model is the morphing autoencoder of ``mrigen demo``, on a coarser grid and for fewer epochs, so
that it takes half a minute. The cohort is the synthetic one: 60 brains made of the MNI152 template,
whose sex, age and size are known.
"""

# %%
# Fit
# ---
# A recipe has a name (or is a path, a dictionary or a `Recipe`). What is to differ from it are
# keywords, named as in ``--set``.

import nilearn.plotting
import pandas as pd

import mrigen

run = mrigen.fit(
    "demo",
    directory="runs/first-look",
    force=True,
    num_subjects=60,
    zooms=6,
    volume_shape=[32, 38, 32],
    blocks=2,
    channels=[8, 16],
    epochs=12,
    learning_rate=3e-3,
)
print(run)

# %%
# A run is a folder, and stays one: ``mrigen.open_run("runs/first-look")`` opens it another day, on
# another machine.
#
# The course of the fit
# ---------------------
# `run.history` is a table with one row an epoch: ``elbo_nats`` is the evidence lower bound in nats a
# person, ``kl_nats`` what the latents cost, ``active_units`` how many of them are in use.

run.history[["elbo_nats", "kl_nats", "val_elbo_nats", "active_units"]].tail(3)

# %%
run.plot_history()

# %%
# The figures of people whom the fit never saw. ``explained_variance`` compares with the mean image:
# 0 is no better than showing everyone the same head.

pd.Series(run.metrics["heldout"]).round(4)

# %%
# Samples
# -------
# Samples are drawn where people are: from a density that is fitted on the latents of training
# people. They come as images of nibabel, made when they are asked for, with a table of what was
# drawn.

samples = run.sample(4, seed=1)
samples.plot()

# %%
samples.to_frame()

# %%
# An image lies in the world where the heads of the cohort lie, so any tool for NIfTI can take it.

display = nilearn.plotting.plot_anat(samples[0], cut_coords=(0, -18, 12), title="sub-synth0001")

# %%
# Nothing was written so far but the run itself. ``write`` makes the files that ``mrigen sample``
# makes.

paths = samples.write("runs/first-look-samples", force=True)
[path.name for path in paths]

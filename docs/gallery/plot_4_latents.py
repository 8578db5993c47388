"""
Latents into scikit-learn
=========================

The latents of a run are a table, and go wherever a table goes.
"""

# %%
# The run of :doc:`the first look <plot_1_first_look>`, the posterior means of everyone, and who
# they are.

import numpy as np
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mrigen

run = mrigen.open_run("runs/first-look")
run.latents.iloc[:4, :6].round(2)

# %%
# The rows of `run.latents` and of `run.subjects` are the same people in the same order. Siblings
# share part of their anatomy, so families stay whole: ``groups``.

classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
families = run.subjects["family"].fillna(run.subjects["participant_id"])
scores = cross_val_score(
    classifier, run.latents, run.subjects["sex"], groups=families, cv=GroupKFold(5), scoring="roc_auc"
)
print(f"Sex: ROC AUC {scores.mean():.2f}, from {scores.min():.2f} to {scores.max():.2f} over the folds")

# %%
# Numbers likewise.

import matplotlib.pyplot as plt

size = run.subjects["head_volume_ml"]
ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 11)))
predicted = cross_val_predict(ridge, run.latents, size, groups=families, cv=GroupKFold(5))

figure, axes = plt.subplots(figsize=(5, 5), layout="constrained")
axes.scatter(size, predicted, s=16)
axes.axline((size.mean(), size.mean()), slope=1, color="0.6", linewidth=1)
_ = axes.set(xlabel="volume (ml)", ylabel="predicted from the latents (ml)", aspect="equal")

# %%
# A map of the latents
# --------------------
# Everyone on the principal components of the latents, and what each latent variable goes with.
# ``q`` is corrected for all rows.

maps = run.map_latents()
maps.plot()

# %%
maps.correlations.sort_values("q")[["covariate", "latent", "statistic", "value", "q"]].head()

# %%
# From latents to heads
# ---------------------
# An array of latents becomes images again: a person, and the same with more and more of the latent
# variable that goes best with brain volume.

volume = maps.correlations.query("covariate == 'brain_volume'").sort_values("p").iloc[0]
person = run.latents.iloc[0]
step = run.latents[volume["latent"]].std() * np.sign(volume["value"])
changed = np.stack([person + amount * step * (person.index == volume["latent"]) for amount in (-2, 0, 2)])
run.decode(changed).plot()

# %%
# As a transformer
# ----------------
# In a cross-validation the encoder should not have seen the people on whom a fold is tested.
# `mrigen.MrigenEncoder` is a step of a pipeline: its ``fit`` trains a model of the images that it is
# given, ``transform`` returns latents. Here a small autoencoder, of 24 images and for two epochs.

paths = list(run.subjects["path"])
encoder = mrigen.MrigenEncoder("smoke", kind="autoencoder", epochs=2, directory="runs/encoder", force=True)
encoder.fit(paths[:24]).transform(paths[24:28]).round(2)

"""
Walks through the latents
=========================

From one person to another, and along the directions in which people differ most.
"""

# %%
# The run of :doc:`the first look <plot_1_first_look>`.

import matplotlib.pyplot as plt
import numpy as np

import mrigen

run = mrigen.open_run("runs/first-look")

# %%
# Between two people
# ------------------
# The latents go in equal steps from one to the other; the ends are the reconstructions of the two.
# The smallest and the largest brain of the cohort:

by_size = run.subjects.sort_values("head_volume_ml")["participant_id"]
walk = run.interpolate(by_size.iloc[0], by_size.iloc[-1], num_steps=5)
walk.plot()

# %%
# What changed between the ends, voxel by voxel, in the intensities of the model from 0 to 1.

first, last = np.asanyarray(walk[0].dataobj), np.asanyarray(walk[-1].dataobj)
middle = first.shape[2] // 2
figure, axes = plt.subplots(figsize=(4, 4))
shown = axes.imshow((last - first)[:, :, middle].T, origin="lower", cmap="RdBu_r", vmin=-0.5, vmax=0.5)
axes.set_axis_off()
_ = figure.colorbar(shown, shrink=0.7)

# %%
# Along the directions of the latents
# -----------------------------------
# The principal directions of the latents of training people, each from -2.5 to 2.5 standard
# deviations.

walks = run.traverse(num_directions=2, num_steps=5)
walks.plot()

# %%
# A direction of one's own
# ------------------------
# Ridge regression finds the direction of the latents that goes with age; decoding along it shows
# what the model has learned of it. This shows what goes with age in this cohort, not what age does.

from sklearn.linear_model import Ridge

latents = run.latents
direction = Ridge(alpha=10.0).fit(latents / latents.std(), run.subjects["age"]).coef_ * latents.std()
direction /= np.linalg.norm(direction)
steps = np.linspace(-2, 2, 5)[:, None] * (latents @ direction).std() * direction.to_numpy()
run.decode(latents.mean().to_numpy() + steps).plot()

"""
People one asks for
===================

A conditional model: samples of one sex, and the same head as another scanner would show it.
"""

# %%
# A model with conditions
# -----------------------
# ``condition`` names what prior and decoder are given of a person beside the latents;
# ``invariant_to`` what the latents are not to tell.

import matplotlib.pyplot as plt
import numpy as np

import mrigen

run = mrigen.fit(
    "demo",
    directory="runs/conditions",
    force=True,
    num_subjects=60,
    zooms=6,
    volume_shape=[32, 38, 32],
    blocks=2,
    channels=[8, 16],
    epochs=12,
    learning_rate=5e-3,
    condition=["sex", "site", "head_size"],
    invariant_to=["site"],
)

# %%
# Samples of one sex
# ------------------
# What is not asked for is that of training people who are like that, so that it goes together: a
# woman has a woman's head size.

women = run.sample(20, given={"sex": "F"}, seed=0)
men = run.sample(20, given={"sex": "M"}, seed=0)
women.to_frame()[["participant_id", "density", "sex", "site", "head_size"]].head(3)

# %%
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
for name, samples in {"women": women, "men": men}.items():
    volumes = [float((np.asanyarray(image.dataobj) > 0.2).sum()) * 0.216 for image in samples]
    axes.hist(volumes, bins=8, alpha=0.6, label=name)
axes.set(xlabel="voxels of brain in a sample (ml)", ylabel="samples")
_ = axes.legend()

# %%
# As another scanner would show it
# --------------------------------
# People's own latents, decoded under one site and under the other. ``keep_detail`` adds again what
# the model does not reconstruct of the person's own image, so that only what the site changes is
# changed.

sites = sorted(run.subjects["site"].unique())
heads = [np.asanyarray(run.transfer({"site": site}, keep_detail=True)[0].dataobj) for site in sites]
middle = heads[0].shape[2] // 2
figure, axes = plt.subplots(1, 3, figsize=(8, 3), layout="constrained")
for axis, head, site in zip(axes, heads, sites, strict=False):
    axis.imshow(head[:, :, middle].T, origin="lower", cmap="gray", vmin=0, vmax=1)
    axis.set_title(f"as of {site}")
change = (heads[1] - heads[0])[:, :, middle]
shown = axes[2].imshow(change.T, origin="lower", cmap="RdBu_r", vmin=-0.2, vmax=0.2)
axes[2].set_title("difference")
for axis in axes:
    axis.set_axis_off()
_ = figure.colorbar(shown, shrink=0.8)

# %%
# Do the latents still tell the site?
# -----------------------------------
# After training, what the latents still tell of the site linearly is taken out by one affine map,
# which new people need no covariate for. ``told_by_unseen`` is of people by whom nothing was
# fitted; 0.5 is chance.

run.metrics["told_by_unseen"]

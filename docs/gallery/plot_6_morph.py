"""
Heads that are moved, not painted
=================================

A morphing model learns one template and warps it for every person. So it knows where a voxel of a
head comes from: what has grown, and where the brain is in an image that it has never seen.
"""

# %%
# The run of :doc:`the first look <plot_1_first_look>` is one.

from pathlib import Path

import nilearn.plotting
import numpy as np

import mrigen
from mrigen.data.phantom import PhantomSettings

run = mrigen.open_run("runs/first-look")

# %%
# The mean woman and the mean man
# -------------------------------
# The decoded mean latents of each group: sharp, because they are the template, moved.

templates = run.template(by="sex")
templates.plot()

# %%
# How a sample was moved
# ----------------------
# With ``fields`` a sample comes with the displacement that made it of the template, and the
# logarithm of its Jacobian determinant: below 0 where the head is larger than the template, above 0
# where it is smaller.

samples = run.sample(1, seed=2, fields=True)
samples.write("runs/morph-samples", force=True)
files = sorted(Path("runs/morph-samples/sub-synth0001").rglob("*.nii.gz"))
print("\n".join(path.name for path in files))

# %%
growth = next(path for path in files if "logjacobian" in path.name)
display = nilearn.plotting.plot_stat_map(
    str(growth), bg_img=samples[0], cut_coords=(0, -18, 12), cmap="RdBu_r", title="log-Jacobian", vmax=0.5
)

# %%
# Where is the brain?
# -------------------
# The masks of the training people are carried into the template once, and from there to a new head,
# in its own orientation and resolution. The new head is a synthetic one of another cohort, at 2 mm;
# the model was fitted at 6 mm.

root = Path("runs/other-bids")
if not root.exists():
    mrigen.write_phantom_cohort(root, PhantomSettings(num_subjects=1, seed=99, zooms=2))
head = root / "sub-phantom0001/anat/sub-phantom0001_T1w.nii.gz"
masks = run.segment([head])
display = nilearn.plotting.plot_roi(masks[0], bg_img=str(head), alpha=0.4, title="found")

# %%
# The truth is known here. Dice is 1 where two masks are the same.

import nibabel

mask = root / "derivatives/phantom/sub-phantom0001/anat/sub-phantom0001_desc-brain_mask.nii.gz"
truth = np.asanyarray(nibabel.load(mask).dataobj) > 0
found = np.asanyarray(masks[0].dataobj) > 0
print(f"Dice {2 * (truth & found).sum() / (truth.sum() + found.sum()):.3f}")

"""
Your own data
=============

What mrigen takes, what it checks before anything is trained, and what it says when something is
wrong.

A BIDS folder is the easiest: ``sub-*/anat/*_T1w.nii.gz`` and a ``participants.tsv`` with sex and
age. Here one is made of synthetic people; with your own, only the path changes.
"""

# %%
# A cohort on disk
# ----------------

import shutil
from pathlib import Path

import nilearn.plotting
import pandas as pd

import mrigen
from mrigen.data.phantom import PhantomSettings

shutil.rmtree("runs/my-bids", ignore_errors=True)
root = mrigen.write_phantom_cohort("runs/my-bids", PhantomSettings(num_subjects=24, seed=3, zooms=4))
people = pd.read_csv(root / "participants.tsv", sep="\t")
people[["participant_id", "sex", "age", "site"]].head()

# %%
image = root / "sub-phantom0001/anat/sub-phantom0001_T1w.nii.gz"
display = nilearn.plotting.plot_anat(str(image), cut_coords=(0, -18, 12), title="sub-phantom0001")

# %%
# What a fit will take
# --------------------
# ``mrigen check`` in Python: people, memory and time, before anything starts. A few steps on random
# volumes are timed, and some training people's images are read, to forecast how many latent
# variables can stay in use.

plan = mrigen.plan_fit("smoke", data=root, batch_size=4)
print(f"{plan.num_images} images, {plan.num_train} of them for training")
print(f"{plan.num_parameters} parameters, {plan.latent_size} latent variables")
print(f"{plan.step_seconds:.2f} s a step, {plan.peak_bytes / 2**30:.1f} GiB of memory")
print(plan.forecast.in_words())

# %%
# What may be wrong
# -----------------
# Every image is read and checked before the first step. All that is wrong is said at once, with the
# place, what came, what was expected and what to do.

broken = root / "sub-phantom0002/anat/sub-phantom0002_T1w.nii.gz"
whole = broken.read_bytes()
broken.write_bytes(whole[: len(whole) // 2])
empty = root / "sub-phantom0005/anat/sub-phantom0005_T1w.nii.gz"
empty.write_bytes(b"")

try:
    mrigen.fit("smoke", data=root, directory="runs/my-first", force=True)
except mrigen.MrigenError as error:
    print(error)

# %%
# Restore the files, or go on without these people. Who was left out is in the log and in
# ``split.tsv``.

left_out = ["sub-phantom0002", "sub-phantom0005"]
run = mrigen.fit(
    "smoke",
    data=root,
    exclude=left_out,
    epochs=10,
    learning_rate=1e-2,
    directory="runs/my-first",
    force=True,
)
run.split["split"].value_counts()

# %%
# What an image has become
# ------------------------
# ``subjects`` is the cohort's table, with what was measured while images were prepared: the head's
# volume, and the units in which the image came.

run.subjects[["participant_id", "sex", "age", "head_volume_ml"]].head()

# %%
# New people
# ----------
# Paths or images go in, a table of latents comes out. The image goes through the preprocessing of
# the run, whatever its orientation and resolution.

new = sorted(Path(root).glob("sub-phantom002*/anat/*_T1w.nii.gz"))
run.encode(new)

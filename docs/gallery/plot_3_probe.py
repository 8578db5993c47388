"""
What do the latents know?
=========================

A probe that is honest: in the same folds as simpler predictors, with intervals, and with confounds
taken out.
"""

# %%
# The run of :doc:`the first look <plot_1_first_look>`.

import mrigen

run = mrigen.open_run("runs/first-look")

# %%
# Sex, from the latents
# ---------------------
# ``latents`` is a logistic regression on the latents, cross-validated five times over everybody.
# The other rows stand in the same folds: what the head's or brain's volume alone can do, principal
# components, and classifiers of the voxels. A row of latents means nothing without them.

result = run.probe(target="sex", confounds=["head_size", "age"], seed=0)
table = result.to_frame().set_index(["protocol", "predictor"])
columns = ["roc_auc", "roc_auc_low", "roc_auc_high", "num_subjects"]
table.loc["transductive", columns].round(3)

# %%
# The bounds are those of a 95 % interval, by a bootstrap over people. On 60 people of this cohort,
# the classifiers of voxels know more than the latents of so small a model: that is what the table
# is for.
#
# The encoder saw most of these people (never their sex): ``transductive``. ``heldout`` is fitted on
# training and validation people and scored once on those whom the encoder never saw; in a small
# cohort, its intervals are wide.

table.loc["heldout", columns].round(3)

# %%
result.plot_roc()

# %%
# Is it more than size?
# ---------------------
# Men have larger heads. ``confounds`` is the target from the confounds alone;
# ``latents_deconfounded`` what is left in the latents when what a linear regression on them
# explains has been taken out, fold by fold.

rows = ["latents", "confounds", "latents_deconfounded", "latents_size_matched"]
table.loc["transductive", columns].loc[rows].round(3)

# %%
# Are the probabilities right?
# ----------------------------

result.plot_calibration()

# %%
# Other questions
# ---------------
# Any column of the cohort's table is a target; numbers are predicted by ridge regression. Of the
# pitch of the head, its rotation around the axis from left to right:

table = run.probe(target="rotation_x").to_frame().set_index(["protocol", "predictor"])
table.loc["transductive", ["r2", "r2_low", "r2_high"]].round(2)

# %%
# Nothing was written. ``result.write()`` makes ``probe.json`` and its tables and pictures in the
# run, as ``mrigen probe`` does.

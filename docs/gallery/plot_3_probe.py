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
# The other rows stand in the same folds: what ``head_volume`` alone can do, principal components,
# and classifiers of the voxels. A row of latents means nothing without them.

result = run.probe(target="sex", seed=0)
table = result.to_frame()
table

# %%
# The encoder saw most of these people (never their sex): ``transductive``. ``heldout`` is fitted on
# training and validation people and scored once on those whom the encoder never saw; in a small
# cohort, its intervals are wide.

figure = result.plot_roc()

# %%
# Is it more than size?
# ---------------------
# Men have larger heads. ``confounds`` is the target from the confounds alone;
# ``latents_deconfounded`` what is left in the latents when what a linear regression on them
# explains has been taken out, fold by fold.

result = run.probe(target="sex", confounds=["head_size", "age"])
table = result.to_frame()
table[table["predictor"].isin(["latents", "confounds", "latents_deconfounded", "head_volume"])]

# %%
# Are the probabilities right?
# ----------------------------

figure = result.plot_calibration()

# %%
# Other questions
# ---------------
# Any column of the cohort's table is a target; numbers are predicted by ridge regression.

table = run.probe(target="age").to_frame()
table

# %%
# Nothing was written. ``result.write()`` makes ``probe.json`` and its tables and pictures in the
# run, as ``mrigen probe`` does.

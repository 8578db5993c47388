"""
Will it collapse?
=================

A VAE whose decoder is too unsure stops using its latents. That can be known before the fit, and
explained after it.
"""

# %%
# The forecast
# ------------
# The variance that the decoder believes in, compared with the spectrum of the training images, says
# how many latent variables can stay in use (exact for a linear VAE; Lucas et al. 2019). Of the
# smallest recipe with the objective of the term paper:

import mrigen

plan = mrigen.plan_fit("smoke", objective="paper")
for warning in plan.warnings:
    print(warning)

# %%
# The fit
# -------
# It says so itself while it runs; a recipe can ask it to stop then (``on_collapse="stop"``).

collapsed = mrigen.fit("smoke", objective="paper", epochs=6, directory="runs/collapsed", force=True)
collapsed.history[["kl_nats", "active_units"]].tail(3)

# %%
# The diagnosis
# -------------
# What each latent variable carries, beside what the data have to offer.

diagnosis = collapsed.diagnose()
print(diagnosis)

# %%
diagnosis.plot()

# %%
# The repair
# ----------
# The run of :doc:`the first look <plot_1_first_look>` has the ELBO in nats and a decoder whose
# variance is that of its residuals.

repaired = mrigen.open_run("runs/first-look").diagnose()
print(repaired)

# %%
repaired.plot()

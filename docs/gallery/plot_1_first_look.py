"""
A first look
============

Fit, look.
"""

# %%
# Hello.

import matplotlib.pyplot as plt

plt.plot([1, 2, 3])

# %%
# A table.
import pandas as pd

pd.DataFrame({"a": [1, 2]})

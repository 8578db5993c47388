"""The shipped recipes (data only), installed as `mrigen_recipes`."""

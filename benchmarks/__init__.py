"""Figures that do not belong in the test suite: they need a fitted run, root, or a quiet machine."""

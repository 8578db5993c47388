"""Figures: PNG files drawn from results, one module a figure."""

"""Volumes as NIfTI, and pictures of them."""

"""Heads that the parts of an evaluation are tried on."""

import pytest
from synthetic_heads import synthetic_people


@pytest.fixture(scope="session")
def unheard():
    """24 people whom no `make_material` has: samples as good as can be."""
    return synthetic_people(24, first=1000)

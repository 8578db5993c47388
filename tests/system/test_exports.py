"""Names that load on first use are there, and others are not."""

import importlib
import sys

import pytest

PACKAGES = ("mrigen.analysis", "mrigen.generation", "mrigen.models", "mrigen.probing")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_name_of_a_package_resolves_whatever_was_imported_before(package):
    module = importlib.import_module(package)
    for _ in range(2):  # Submodules become attributes as they are imported: none may hide a name.
        for name in module.__all__:
            assert getattr(module, name) is not sys.modules.get(f"{package}.{name}"), name
    assert list(module.__all__) == dir(module)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'mrigen.generation' has no attribute 'nothing'"):
        _ = importlib.import_module("mrigen.generation").nothing

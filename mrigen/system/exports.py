"""Names of a package that load on first use (PEP 562)."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Returns `__getattr__` and `__dir__` of a package whose names live in modules that are imported when asked for.

    Args:
        package: `__name__` of the package.
        modules: public name -> module.

    Example:
        >>> get, names = lazy_names("package", {"sqrt": "math"})
        >>> get("sqrt")(9.0), names()
        (3.0, ['sqrt'])
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(modules[name]), name)

    def names() -> list[str]:
        return sorted(modules)

    return get, names

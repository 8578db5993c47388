"""The tools that do the work, which the extra `prepare` brings: are they there, and which versions."""

import importlib.metadata
import importlib.util
from collections.abc import Iterable

from mrigen.derivatives.settings import Settings
from mrigen.errors import UsageError

# Module -> what it is for.
PURPOSES = {
    "SimpleITK": "bias fields and alignment",
    "deepbet": "brain masks",
    "quickshear": "faces",
}


def needed_tools(settings: Settings) -> list[str]:
    """Returns the modules that the steps of `settings` use.

    Example:
        >>> needed_tools(Settings(steps=("bias", "rigid")))
        ['SimpleITK', 'deepbet']
    """
    needed = {
        "SimpleITK": settings.has_bias or settings.alignment is not None,
        "deepbet": settings.mask is None,
        "quickshear": settings.has_deface,
    }
    return [name for name, is_used in needed.items() if is_used]


def require_tools(names: Iterable[str]) -> dict[str, str]:
    """Returns the version of each tool.

    Raises:
        UsageError: some are not installed.
    """
    names = list(names)
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        what = ", ".join(f"{name} ({PURPOSES[name]})" for name in missing)
        raise UsageError(
            f"got no {what}, expected the tools that prepare scans. Install them with pip install 'mrigen[prepare]'."
        )
    return {name: importlib.metadata.version(name) for name in names}

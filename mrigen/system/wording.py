"""Small pieces of sentences that many messages need."""

import difflib
from collections.abc import Iterable, Sequence

LIMIT = 20  # lines of one kind in a message


def some(names: Sequence[str], most: int = 5) -> str:
    """Returns the first names, and how many more there are.

    Example:
        >>> some(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    shown = ", ".join(map(str, list(names)[:most]))
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def limited(lines: Sequence[str], limit: int = LIMIT) -> list[str]:
    """Returns the first lines, and a last one that says how many more there are.

    Example:
        >>> limited(["a", "b", "c"], 2)
        ['a', 'b', '... and 1 more']
    """
    return [*lines[:limit], f"... and {len(lines) - limit} more"] if len(lines) > limit else list(lines)


def counted(number: int, one: str, many: str) -> str:
    """Returns the number with its noun.

    Example:
        >>> counted(1, "person", "people"), counted(3, "person", "people")
        ('1 person', '3 people')
    """
    return f"{number} {one if number == 1 else many}"


def closest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Returns the known word that was probably meant, whatever its case; None where none is like it.

    Example:
        >>> closest("Epoch", ["epochs", "seed"])
        'epochs'
    """
    lowered = {str(word).lower(): str(word) for word in known}
    close = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=cutoff)
    return lowered[close[0]] if close else None


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns a sentence (with a leading space) that names what was probably meant, or nothing.

    Example:
        >>> nearest("epoch", ["epochs", "seed"])
        " Did you mean 'epochs'?"
    """
    word = closest(name, known)
    return "" if word is None else f" Did you mean '{word}'?"

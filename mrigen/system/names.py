"""One rule for ids and names, in every reader and writer: what people and files may be called, what their files are
called, and what stands for it in a table."""

import re

# Of an id, in bytes: what is made of it is a file name of at most 255.
LONGEST_NAME = 180
# Control characters, line breaks of any kind, and bytes that were no UTF-8.
HIDDEN = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SAFE = re.compile(r"[\w+][\w.+-]*")
# What a spreadsheet takes for a formula; a number is none.
_FORMULA = re.compile(r"'*[=+\-@].", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def name_fault(text: str) -> str | None:
    """Returns why a text is no id, None if it is one: printable, with a letter or digit, and not too long.

    Example:
        >>> name_fault("sub-01"), name_fault("..")
        (None, 'which has no letter and no digit')
    """
    hidden = HIDDEN.search(text)
    if hidden:
        is_text = not "\ud800" <= hidden[0] <= "\udfff"
        return f"which holds {spelt(hidden[0])}, a character that is not shown" if is_text else "which is no UTF-8"
    if not any(letter.isalnum() for letter in text):
        return "which has no letter and no digit"
    if len(text.encode()) > LONGEST_NAME:
        return f"which is longer than {LONGEST_NAME} bytes"
    return None


def path_fault(path: str) -> str | None:
    """Returns why a path cannot be taken, None if it can be: it would not stand in a line of a table.

    Example:
        >>> path_fault("/data/sub-01 (2).nii"), path_fault("a\\nb.nii")
        (None, 'whose name holds \\\\n, a character that is not shown')
    """
    hidden = HIDDEN.search(path)
    if hidden is None:
        return None
    if "\ud800" <= hidden[0] <= "\udfff":
        return "whose name is no UTF-8"
    return f"whose name holds {spelt(hidden[0])}, a character that is not shown"


def spelt(text: str) -> str:
    """Returns a text whose characters that are not shown are spelt, so that it stays in its line.

    Example:
        >>> spelt("a\\tb")
        'a\\\\tb'
    """
    return HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def is_safe_name(text: str) -> bool:
    """Whether an id is fit to be part of a file's name: letters, digits and . + - _, not . or - in front.

    Example:
        >>> is_safe_name("sub-01_ses-2"), is_safe_name("-dev"), is_safe_name("a/b")
        (True, False, False)
    """
    return _SAFE.fullmatch(text) is not None and len(text.encode()) <= LONGEST_NAME


def safe_name(text: str) -> str:
    """Returns an id as part of a file's name; one that is safe stays as it is.

    Example:
        >>> [safe_name(text) for text in ("sub-01", "IXI 012/b", "-dev", "..", "")]
        ['sub-01', 'IXI-012-b', '_dev', '_.', '_']
    """
    name = re.sub(r"^[.-]|^$", "_", re.sub(r"[^\w.+-]", "-", text))
    return name.encode()[:LONGEST_NAME].decode(errors="ignore")


def defuse(cell: str) -> str:
    """Returns what stands for a text in a table that people open: with a mark in front where a spreadsheet would run it
    as a formula, and in one line. `restore` takes the mark away.

    Example:
        >>> defuse("=cmd"), defuse("-5.2"), defuse("sub-01"), defuse("'=cmd")
        ("'=cmd", '-5.2', 'sub-01', "''=cmd")
    """
    cell = HIDDEN.sub(" ", cell)
    return f"'{cell}" if _is_formula(cell) else cell


def restore(cell: str) -> str:
    """Returns the text that `defuse` was given, as long as it was printable.

    Example:
        >>> restore("'=cmd"), restore("'quoted'")
        ('=cmd', "'quoted'")
    """
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(cell: str) -> bool:
    return cell[:1] in "'=+-@" and _FORMULA.match(cell) is not None and not _NUMBER.fullmatch(cell)

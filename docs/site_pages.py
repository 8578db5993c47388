"""What the site has beside docs/*.md: the Markdown at the top of the repository, and the pages of the reference."""

import importlib
import inspect
import pkgutil
import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure
from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature
from sphinx_gallery.scrapers import figure_rst

ROOT = Path(__file__).parent.parent

# Pages of the site that stand elsewhere in the repository.
OUTSIDE = {
    "index": "README.md",
    "contributing": "CONTRIBUTING.md",
    "changes": "CHANGELOG.md",
    "security": "SECURITY.md",
    "benchmarks": "benchmarks/results.md",
}
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")


def fill_page(app, name: str, source: list[str]) -> None:
    """Puts the text of a file of `OUTSIDE` into its page, under the heading that the page has (if any) and before what
    follows its mark; links that hold in the repository become links that hold in the site."""
    if not (ROOT / "docs" / f"{name}.md").is_file():
        return
    pages = {path: f"docs/{page}.md" for page, path in OUTSIDE.items()}
    origin = OUTSIDE.get(name, f"docs/{name}.md")

    def turn(match: re.Match) -> str:
        before, target, after = match.groups()
        if "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        return before + posixpath.relpath(pages.get(path, path), "docs") + after

    text = LINK.sub(turn, (ROOT / origin).read_text(encoding="utf-8"))
    if name in OUTSIDE:
        app.env.note_dependency(str(ROOT / origin))
        stub, _, rest = source[0].partition("<!-- site -->\n")
        if stub.startswith("# "):
            text = stub.partition("\n")[0] + "\n\n" + re.sub(r"^#", "##", text, flags=re.MULTILINE)
        text += "\n" + rest
    source[0] = text


def prepare_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Keeps plain text of docstrings from being read as reStructuredText: `*`, `|`, a trailing `_`, the house's own
    one-line sections ("Input shape: ..."), and entries below an entry of a section."""
    prepared, extra, nested = [], 0, False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if not line.lstrip().startswith((">>>", "...")):
            parts = re.split(r"(`[^`]*`)", line)
            parts[::2] = [re.sub(r"([*|]|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
            # A name that begins with a dot would be looked for everywhere.
            parts[1::2] = [f"`{part}`" if part.startswith("`.") else part for part in parts[1::2]]
            line = "".join(parts)
        own = re.match(r"(Input shape|Output shape|Output|Call arguments?): (?=\S)", line)
        if own:
            prepared += ["", f"**{own[1]}:** {line[own.end() :]}"]
            extra = 4
            continue
        if indent == 0:
            extra = 0
        if indent == 8 and re.match(r" {8}\w+: ", line):
            prepared += [] if nested else [""]
            line, nested = f"        - {line.strip()}", True
        elif nested and indent > 8:
            line = " " * 10 + line.strip()
        elif nested:
            prepared.append("")
            nested = False
        prepared.append(line[min(indent, extra) :])
    # Of a property, Napoleon would take what stands before the first colon for its type.
    lines[:] = ["", *prepared] if what in ("property", "attribute", "data") else prepared


def prepare_signature(app, what, name, obj, options, signature, returns):
    """Returns the arguments of a Keras class: those of `__init__`, which Keras hides behind a `__new__` of its own."""
    if what != "class" or signature != "(*args, **kwargs)":
        return None
    return stringify_signature(signature_of(obj.__init__, bound_method=True)), returns


def skip_member(app, what, name, obj, skip, options) -> bool | None:
    """Leaves the fields of a named tuple to its docstring."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def scrape_figure(block, block_vars: dict, gallery_conf: dict) -> str:
    """Returns the picture of a figure that is the value of a cell: the library's figures are not pyplot's."""
    figure = block_vars["example_globals"].get("___")
    if not isinstance(figure, Figure) or figure.canvas.manager is not None or hasattr(figure, "is_shown"):
        return ""
    figure.is_shown = True
    path = next(block_vars["image_path_iterator"])
    figure.savefig(path, dpi=100, bbox_inches="tight", facecolor=figure.get_facecolor())
    return figure_rst([path], gallery_conf["src_dir"])


def list_wings() -> list[str]:
    """Returns the names of the modules that have a page: `mrigen`, then the packages and modules right below it."""
    package = importlib.import_module("mrigen")
    inner = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    return ["mrigen", *(f"mrigen.{name}" for name in inner)]


def write_reference(directory: Path) -> None:
    """Writes the pages of the reference into `directory`; what is the same as before is left alone."""
    pages = render_reference()
    for path in directory.glob("*"):
        if path.name not in pages:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        path = directory / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def render_reference() -> dict[str, str]:
    """Returns the pages of the reference, one a wing; a name stands in full on the first page that has it."""
    homes: dict[int | str, str] = {}
    return {f"{wing.removeprefix('mrigen.')}.rst": _render_wing(wing, homes) for wing in list_wings()}


def _render_wing(wing: str, homes: dict[int | str, str]) -> str:
    lines = [wing, "=" * len(wing), "", f".. automodule:: {wing}", "   :no-index:", ""]
    here, elsewhere = [], []
    for identifier, value in _public(wing):
        key = id(value) if callable(value) else identifier  # Equal constants may be one object.
        if key in homes:
            elsewhere.append(homes[key])
        else:
            homes[key] = identifier
            here.append((identifier, value))
    elsewhere = [identifier for identifier in elsewhere if not identifier.startswith(f"{wing}.")]
    if elsewhere:
        names = ", ".join(f":py:obj:`~{identifier}`" for identifier in elsewhere)
        lines += [f"Also here, and described on another page: {names}.", ""]
    for identifier, value in sorted(here, key=lambda entry: _rank(entry[1])):
        if inspect.isclass(value):
            lines += [f".. autoclass:: {identifier}", "   :members:", *_inherited(value), ""]
        elif callable(value):
            lines += [f".. autofunction:: {identifier}", ""]
        elif isinstance(value, dict):
            entries = ", ".join(f"``{key}``: :py:obj:`~{_home(inner)}`" for key, inner in value.items())
            lines += [f".. py:data:: {identifier}", "", f"   {entries}.", ""]
        else:
            lines += [f".. py:data:: {identifier}", f"   :value: {value!r}", ""]
    return "\n".join(lines)


def _rank(value) -> int:
    """Functions first, then classes, then errors and warnings, then the rest."""
    if inspect.isclass(value):
        return 2 if issubclass(value, Exception) else 1
    return 0 if callable(value) else 3


def _inherited(kind: type) -> list[str]:
    """Returns the option that shows what a class has of its parents, where these are the library's own."""
    foreign = {base.__name__ for base in kind.__mro__ if not base.__module__.startswith("mrigen.")}
    plain = foreign <= {"object", "ABC", "Sequence", "Reversible", "Collection", "Sized", "Iterable", "Container"}
    return [f"   :inherited-members: {', '.join(sorted(foreign))}"] if plain else []


def _public(wing: str) -> Iterator[tuple[str, object]]:
    """Yields the public names of a wing; of one without `__all__`, those of its modules."""
    module = importlib.import_module(wing)
    if hasattr(module, "__all__"):
        for name in module.__all__:
            value = getattr(module, name)
            if not name.startswith("__"):
                yield f"{wing}.{name}", value
    elif hasattr(module, "__path__"):
        for inner in pkgutil.iter_modules(module.__path__):
            if not inner.name.startswith("_"):
                yield from _public(f"{wing}.{inner.name}")
    else:
        for name, value in vars(module).items():
            if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == wing and name[0] != "_":
                yield f"{wing}.{name}", value


def _home(value) -> str:
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else f"{value}"

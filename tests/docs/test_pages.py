"""Every page is in the navigation, every link leads somewhere, and the site says what the repository says."""

import importlib.util
import re
from pathlib import Path
from unittest.mock import Mock

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
FENCE = re.compile(r"^( *)```.*?^\1```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site_pages():
    pytest.importorskip("sphinx_gallery")
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "docs" / "site_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def anchors(page: Path) -> set[str]:
    """Returns the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"^(?:.+<)?([\w/*]+)>?$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE))
    assert {page.stem for page in PAGES} - {"index"} <= listed
    assert {"generated/gallery/index", "generated/reference/mrigen", "generated/reference/*"} <= listed


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md"))],
    ids=lambda page: page.stem,
)
def test_links_lead_to_files_and_headings(page):
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", FENCE.sub("", page.read_text())):
        if "://" in target:
            continue
        other = page.parent / target if target else page
        assert other.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(other), f"{page.name}: {target}#{anchor}"


def test_every_wing_has_a_page_in_the_reference(site_pages):
    inside = (ROOT / "mrigen").iterdir()
    wings = {path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()}
    pages = site_pages.render_reference()
    assert set(pages) == {f"{name}.rst" for name in (wings - {"__init__"}) | {"mrigen"}}


def test_a_public_name_is_described_once(site_pages):
    pages = "\n".join(site_pages.render_reference().values())
    names = re.findall(r"^\.\. (?:autoclass|autofunction|py:data):: (.+)$", pages, re.MULTILINE)
    assert len(names) == len(set(names))
    assert {"mrigen.distributions.PRIORS", "mrigen.layers.warp", "mrigen.UsageError", "mrigen.fit"} <= set(names)


def test_links_of_the_readme_hold_in_the_site(site_pages):
    source = ["Not shown.\n<!-- site -->\nNavigation."]
    site_pages.fill_page(Mock(), "index", source)
    assert "](quickstart.md)" in source[0] and "](contributing.md)" in source[0] and "](images/demo.png)" in source[0]
    assert "](../CITATION.cff)" in source[0] and "](docs/" not in source[0]
    assert source[0].endswith("\nNavigation.") and "Not shown." not in source[0]


def test_docstrings_are_read_as_plain_text(site_pages):
    lines = ["A sum of x*y and |z|, `a*b`.", "", "Input shape: (batch, *sides),", "    in voxels.", "", ">>> x**2"]
    site_pages.prepare_docstring(None, "class", "x", None, None, lines)
    assert lines == [
        r"A sum of x\*y and \|z\|, `a*b`.",
        "",
        "",
        r"**Input shape:** (batch, \*sides),",
        "in voxels.",
        "",
        ">>> x**2",
    ]

"""The documentation as a site: python -m sphinx -W docs build/site, then open build/site/index.html.

It is made of the Markdown that GitHub shows, of the docstrings, and of the examples of docs/gallery, which are run.
Nothing is taken from the network, neither when it is built nor when it is read. Sphinx, because MkDocs is no longer
kept and the end of its theme Material is announced for May 2027.
"""

import os
import sys
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import site_pages  # noqa: E402

import mrigen  # noqa: E402

# Examples show what is said, not where the machine keeps them.
warnings.formatwarning = lambda message, category, *where: f"{category.__name__}: {message}\n"

project = "mrigen"
author = copyright = "The mrigen developers"
release = mrigen.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery", "generated/gallery/*.py", "generated/gallery/*.ipynb"]
highlight_language = "text"
html_theme = "furo"
html_title = f"mrigen {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False

# Headings have the anchors that GitHub gives them.
myst_heading_anchors = 4

# Docstrings hold names in single backticks: those that the reference knows become links.
default_role = "py:obj"
add_module_names = False
# A type that two wings have, where an annotation does not say which.
suppress_warnings = ["ref.python"]
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = False

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "filename_pattern": "plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": r"matplotlib[.]|nilearn[.]",
    "image_scrapers": ("matplotlib", "site_pages.scrape_figure"),
    "remove_config_comments": True,
    "show_signature": False,
    "min_reported_time": 1000,
    "write_computation_times": False,
}


def setup(app) -> None:
    """Connects what the site has beside docs/*.md."""
    site_pages.write_reference(HERE / "generated" / "reference")
    app.connect("source-read", site_pages.fill_page)
    app.connect("autodoc-process-docstring", site_pages.prepare_docstring, priority=100)
    app.connect("autodoc-process-signature", site_pages.prepare_signature)
    app.connect("autodoc-skip-member", site_pages.skip_member)

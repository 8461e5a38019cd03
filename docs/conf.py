"""How the documentation becomes a site: `make docs` writes it to build/docs; it is read without a network."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the two extensions in _site

project = "holotype"
author = "the authors of holotype"
version = release = version_of("holotype")
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "_site.pages", "_site.docstrings"]
exclude_patterns = ["_site"]
myst_heading_anchors = 4  # the names that GitHub gives to headings
highlight_language = "none"
smartquotes_action = "qe"  # two hyphens begin an option
default_role = "code"  # docstrings have one backtick around code, as Markdown has

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"holotype {release}"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = html_show_copyright = False
html_show_search_summary = False  # a summary is fetched, and a browser fetches nothing from a disk
html_theme_options = {"navigation_with_keys": True}

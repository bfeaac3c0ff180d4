"""How Sphinx builds the documentation: `make docs`."""

from __future__ import annotations

import pkgutil
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole
from sphinx.util.nodes import make_refnode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this checkout, and not an installed copy

import frozenbert  # noqa: E402
from frozenbert import errors  # noqa: E402

project = "frozenbert"
author = "The frozenbert authors"
copyright = "The frozenbert authors"
version = release = frozenbert.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
    "sphinx_design",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "README.md"]
templates_path = ["templates"]

# Markdown: :::{directive}, terms, anchors for the links between headings.
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# The API reference comes from the docstrings alone.
default_role = "code_or_link"
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"
autodoc_default_options = {
    "members": True,
    # What scikit-learn adds to every estimator, described in its own documentation.
    "exclude-members": "get_metadata_routing, set_fit_request, set_partial_fit_request, "
    "set_predict_request, set_predict_proba_request, set_score_request, set_transform_request",
}
autosummary_generate = True
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# Every link within the project must have a target. No inventories of other projects are fetched,
# so that the build needs no network; their names are shown as code.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!frozenbert\.).*")]

html_theme = "pydata_sphinx_theme"
html_title = "frozenbert"
html_static_path = ["static"]
html_css_files = ["narrow.css"]
html_context = {"default_mode": "auto"}
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "frozenbert"},
    "navigation_with_keys": False,
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
}
# Pages of one level have no section to navigate.
html_sidebars = {
    page: []
    for page in (
        "index",
        "getting-started",
        "design",
        "privacy",
        "contributing",
        "glossary",
        "changelog",
    )
}
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


LINKED = {name: f"~frozenbert.{name}" for name in frozenbert.__all__}
LINKED |= {name: f"~frozenbert.errors.{name}" for name in errors.__all__}


class CodeOrLink(SphinxRole):
    """Single backticks: a link for a name of the package, code for anything else."""

    def run(self) -> tuple[list[Any], list[Any]]:
        """Return the nodes of one piece of text in backticks."""
        target = LINKED.get(self.text, self.text)
        is_name = re.fullmatch(r"~?frozenbert(\.\w+)+", target)
        if not is_name:
            return [nodes.literal(self.rawtext, self.text)], []
        link = self.env.domains["py"].role("obj")
        return link("py:obj", self.rawtext, target, self.lineno, self.inliner, {}, [])


def find_documented(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Element
) -> nodes.Element | None:
    """Link a name by another path than the one it is documented under.

    A name that exists and is not documented becomes code; one that does not exist is an error.
    """
    target = node.get("reftarget", "")
    if not target.startswith("frozenbert."):
        return None
    try:
        named = pkgutil.resolve_name(target)
    except (ImportError, AttributeError):
        return None
    documented = env.domains.python_domain.objects
    name = getattr(named, "__qualname__", "")
    for path in (f"{getattr(named, '__module__', '')}.{name}", f"frozenbert.{name}"):
        if path in documented:
            place = documented[path]
            source = node.get("refdoc", env.docname)
            return make_refnode(app.builder, source, place.docname, place.node_id, content, path)
    return content


def setup(app: Sphinx) -> None:
    """Register the role of single backticks, and the search for names."""
    app.add_role("code_or_link", CodeOrLink())
    app.connect("missing-reference", find_documented)

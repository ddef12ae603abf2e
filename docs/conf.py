"""Sphinx: ``make docs``."""

from __future__ import annotations

from typing import Any

import disentangle_ext

project = "disentangle_ext"
author = "The disentangle_ext developers"
version = release = disentangle_ext.__version__
copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "matplotlib.sphinxext.plot_directive"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"disentangle_ext {release}"
html_show_copyright = False

myst_heading_anchors = 3

autodoc_inherit_docstrings = False
autodoc_default_options = {"members": True, "no-value": True, "exclude-members": "function"}
add_module_names = False

plot_formats = [("png", 144)]
plot_html_show_formats = plot_html_show_source_link = False
napoleon_numpy_docstring = False


def from_the_package(app: Any, env: Any, node: Any, contnode: Any) -> Any:
    """Docstrings say ``models.VAE`` for what is disentangle_ext.models.VAE."""
    target = f"disentangle_ext.{node['reftarget']}"
    return env.domains["py"].resolve_xref(env, node["refdoc"], app.builder, node["reftype"], target, node, contnode)


def without_alias(app: Any, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """Fields of named tuples that have no text of their own have Python's, which says nothing."""
    if lines and lines[0].startswith("Alias for field"):
        lines.clear()


def show_formulas(app: Any, what: str, name: str, member: Any, options: Any, lines: list[str]) -> None:
    """Indented formulas between paragraphs are shown as they are written."""
    shown: list[str] = []
    paragraph = "  "
    for line in lines:
        indented = line.startswith("    ")
        if indented and shown and not shown[-1].strip() and not paragraph.startswith((" ", ">>>")):
            shown += ["::", ""]
        shown.append(line)
        if line.strip():
            paragraph = line
    lines[:] = shown


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", without_alias)
    app.connect("autodoc-process-docstring", show_formulas, priority=100)  # before napoleon indents sections
    app.connect("missing-reference", from_the_package)

"""HTML from templates: whatever a person or a table names is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

from disentangle_ext.study.page.numbers import number_text

__all__ = ["breakable", "cell_html", "escape", "fill", "for_script", "read", "table_html"]


def read(name: str) -> str:
    """A file of templates/."""
    return resources.files(__package__).joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def fill(template: str, **parts: str) -> str:
    """A template with its parts, which are HTML already."""
    return Template(read(template)).substitute(parts)


def escape(text: Any) -> str:
    return html.escape(str(text), quote=True)


def breakable(text: Any) -> str:
    """Escaped text that a narrow column may break after an underscore."""
    return escape(text).replace("_", "_<wbr>")


def for_script(value: Any) -> str:
    """JSON that no text in it can end the element of, or begin a comment in: "</script>", "<!--"."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c").replace("&", "\\u0026")


def table_html(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, label: str) -> str:
    """A table of values, numbers to the right."""
    head = "".join(f'<th scope="col">{breakable(name.replace("_", " "))}</th>' for name in columns)
    body = "".join(f"<tr>{''.join(cell_html(row[name]) for name in columns)}</tr>\n" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}: table"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>"
    )


def cell_html(value: Any) -> str:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return f'<td class="n">{number_text(value)}</td>' if is_number else f"<td>{breakable(number_text(value))}</td>"

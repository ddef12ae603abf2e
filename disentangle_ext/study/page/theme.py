"""What all charts have in common: colours, fonts, zoom, and small panels side by side.

A chart is a Vega-Lite specification in plain dicts: the page draws it, and vl-convert makes the PNG and the PDF of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["INK", "Spec", "colour", "field", "label_expression", "panels", "tooltip", "zoom"]

Spec = dict[str, Any]
"""A part of a Vega-Lite specification."""

# The page sets the text's colour, dark or light; a picture for a paper has black.
INK = "currentColor"

# Okabe and Ito's colours, told apart by colour-blind readers, on white and on black; then others for more objectives.
_COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#8c6bb1",
    "#8c8c8c",
    "#b5a000",
    "#a0522d",
)

_GAP = 28
"""Pixels between panels."""
_PAGE = 940
"""Pixels of the page's column, which a picture for a paper is as wide as."""


def field(name: str, kind: str = "quantitative", **more: Any) -> Spec:
    """An encoding by a field."""
    return {"field": name, "type": kind, **more}


def colour(objectives: Sequence[str], *, legend: bool = True) -> Spec:
    """The colour of an objective, the same in every figure."""
    shades = [_COLOURS[i % len(_COLOURS)] for i in range(len(objectives))]
    shown = {"orient": "top", "symbolType": "circle", "symbolOpacity": 1, "columns": 4} if legend else None
    return field("objective", "nominal", legend=shown, scale={"domain": list(objectives), "range": shades})


def tooltip(*words: str, **numbers: str) -> list[Spec]:
    """Tooltips: fields of words, and fields of numbers with their formats."""
    names = {name: {"type": "nominal"} for name in words}
    names |= {name: {"type": "quantitative", "format": form} for name, form in numbers.items()}
    return [{"field": name, "title": name.replace("_", " "), **rest} for name, rest in names.items()]


def zoom(name: str, *encodings: str) -> list[Spec]:
    """Drag to move, Alt and wheel to zoom, double-click for all: a bare wheel scrolls the page."""
    select = {"type": "interval", "encodings": list(encodings), "zoom": "wheel![event.altKey]"}
    return [{"name": name, "select": select, "bind": "scales"}]


def label_expression(labels: Sequence[str]) -> str:
    """An expression of Vega that puts these texts at 0, 1, ...; between them there is nothing."""
    # Whole numbers from 32 bits of a text that is nobody's: no quote or backslash of a name reaches the parser.
    words = ", ".join("'" + "".join(f"\\u{unit:04x}" for unit in _utf16(label)) + "'" for label in labels)
    return f"[{words}][datum.value] || ''"


def _utf16(text: str) -> list[int]:
    raw = text.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


def panels(charts: Sequence[Spec], *, width: int) -> Spec:
    """Charts side by side, as many in a row as fit.

    Args:
        charts: the panels.
        width: the pixels of a panel, with its axis; the page reads it from ``usermeta``.
    """
    fitting = max(1, min(len(charts), (_PAGE + _GAP) // (width + _GAP)))
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "usermeta": {"panel": width + _GAP},
        "config": CONFIG,
        "spacing": _GAP,
        "columns": fitting,
        "concat": list(charts),
    }


_FONT = "system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', 'DejaVu Sans', sans-serif"

CONFIG: Spec = {
    "aria": False,  # the page labels each chart, and has its table
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK,
        "titleColor": INK,
        "domainColor": INK,
        "tickColor": INK,
        "gridColor": INK,
        "gridOpacity": 0.12,
        "domainOpacity": 0.4,
        "tickOpacity": 0.4,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "labelLimit": 170,
        "titleLimit": 280,
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 11, "titleFontSize": 11, "labelLimit": 220},
    "title": {
        "color": INK,
        "subtitleColor": INK,
        "anchor": "start",
        "fontSize": 13,
        "fontWeight": 600,
        "subtitleFontSize": 11,
        "limit": 600,
    },
}

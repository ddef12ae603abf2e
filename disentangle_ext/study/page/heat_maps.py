"""Heat maps with their numbers in the cells: correlations, and the odds of a selection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from disentangle_ext.study.page.numbers import fixed, interval_text, is_number, rows_of
from disentangle_ext.study.page.theme import Spec, field, panels, tooltip

__all__ = ["correlation_maps", "selection_maps"]

_WIDEST = 700
_LABELS = 150
_RED_TO_BLUE = ("#b2182b", "#ef8a62", "#fddbc7", "#f7f7f7", "#d1e5f0", "#67a9cf", "#2166ac")


def correlation_maps(table: Any, rows: Sequence[str], columns: Sequence[str]) -> Spec:
    """Spearman correlations of ``rows`` by ``columns``, one map per data set.

    Args:
        table: what :func:`disentangle_ext.study.analysis.rank_correlations` returns.
        rows: the metrics of ``metric_a``, from the top.
        columns: the metrics of ``metric_b``, from the left.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(table):
        if row["metric_a"] not in rows or row["metric_b"] not in columns:
            continue
        cell = {
            **_cell(row["metric_a"], row["metric_b"], row["correlation"], limit=0.6),
            "models": row["models"],
            "interval": interval_text(row["low"], row["high"]),
        }
        groups.setdefault(row["data_set"], []).append(cell)
    shown = tooltip("row", "column", "interval", number=".3f", models=",")
    shown[3]["title"] = "correlation"
    maps = []
    for data_set, cells in groups.items():
        models = sorted({cell["models"] for cell in cells})
        count = f"{models[0]:,}" if len(models) == 1 else f"{models[0]:,} to {models[-1]:,}"
        title = {"text": data_set, "subtitle": f"{count} models"}
        maps.append(_heat_map(cells, rows, columns, (-1, 1), "Spearman's rank correlation", shown, title))
    return _side_by_side(maps, columns)


def selection_maps(groups: dict[str, list[dict[str, Any]]], rows: Sequence[str], columns: Sequence[str]) -> Spec:
    """The probability that the run best by a criterion (row) beats a random one by a metric (column).

    Args:
        groups: by title, rows with ``criterion``, ``metric``, ``probability``, ``low``, ``high``, ``n``.
        rows: the criteria, from the top.
        columns: the metrics, from the left.
    """
    maps = []
    shown = tooltip("row", "column", "interval", number=".3f", n=",")
    for each, title in zip(shown, ("chosen by", "judged by", "interval", "probability", "seeds")):
        each["title"] = title
    for title, group in groups.items():
        cells = [
            {
                **_cell(each["criterion"], each["metric"], each["probability"], middle=0.5, limit=0.3),
                "n": each["n"],
                "interval": interval_text(each["low"], each["high"]),
            }
            for each in group
        ]
        maps.append(_heat_map(cells, rows, columns, (0, 1), "probability to beat a random run", shown, {"text": title}))
    return _side_by_side(maps, columns)


def _cell(row: str, column: str, number: float, *, middle: float = 0.0, limit: float) -> dict[str, Any]:
    known = is_number(number)
    return {
        "row": row,
        "column": column,
        "number": number if known else None,
        "text": fixed(number) if known else "–",
        "strong": known and abs(number - middle) > limit,
    }


def _side_by_side(maps: list[Spec], columns: Sequence[str]) -> Spec:
    """Panels, with what the page needs to make the cells of a narrow window narrower."""
    spec = panels(maps, width=_step(columns) * len(columns) + _LABELS)
    return {**spec, "usermeta": {**spec["usermeta"], "labels": _LABELS, "cells": len(columns)}}


def _step(columns: Sequence[str]) -> int:
    """Pixels of a cell: "-0.71" must fit into it."""
    return max(32, min(46, _WIDEST // max(1, len(columns))))


def _heat_map(
    cells: list[dict[str, Any]],
    rows: Sequence[str],
    columns: Sequence[str],
    domain: tuple[float, float],
    legend: str,
    tooltips: list[Spec],
    title: Spec,
) -> Spec:
    step = _step(columns)
    named = {"title": None, "ticks": False, "domain": False, "grid": False, "labelPadding": 6}
    slanted = {**named, "labelAngle": -40, "labelAlign": "right"}
    scale = {"domain": list(domain), "range": list(_RED_TO_BLUE), "interpolate": "rgb", "clamp": True}
    bar = {"title": legend, "orient": "bottom", "gradientLength": 220, "gradientThickness": 9, "titleLimit": 240}
    known = {"test": "isValid(datum.number)", **field("number", scale=scale, legend=bar)}
    ink = {"condition": {"test": "datum.strong", "value": "white"}, "value": "#1a1a1a"}
    return {
        "title": title,
        "width": {"step": step},
        "height": {"step": min(step, 30)},
        "data": {"values": cells},
        "encoding": {
            "x": field("column", "nominal", sort=list(columns), axis=slanted),
            "y": field("row", "nominal", sort=list(rows), axis=named),
            "tooltip": tooltips,
        },
        "layer": [
            {
                "mark": {"type": "rect", "stroke": "white", "strokeWidth": 1},
                "encoding": {"color": {"condition": known, "value": "#d9d9d9"}},
            },
            {
                "mark": {"type": "text", "fontSize": 11 if step > 36 else 10},
                "encoding": {"text": field("text", "nominal"), "color": ink},
            },
        ],
    }

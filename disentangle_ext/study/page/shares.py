"""The share of variance that objective, hyperparameter and seed explain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from disentangle_ext.study.page.numbers import interval_text, is_number, rows_of, value_or_none
from disentangle_ext.study.page.theme import Spec, field, panels, tooltip

__all__ = ["share_panels"]

_SOURCES = ("objective", "objective and hyperparameter", "seed")
_COLOURS = ("#0072b2", "#009e73", "#e69f00")
_STEP = 9


def share_panels(table: Any, metrics: Sequence[str]) -> Spec:
    """Shares of variance with their intervals, a row per metric, a panel per data set.

    Args:
        table: what :func:`disentangle_ext.study.analysis.variance_explained` returns.
        metrics: the rows, from the top.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(table):
        if is_number(row["share"]):
            cell = {name: value_or_none(each) for name, each in row.items()}
            cell["interval"] = interval_text(row["low"], row["high"])
            groups.setdefault(row["data_set"], []).append(cell)
    hints = tooltip("metric", "source", "interval", unbiased=".3f", share=".3f", n=",")
    bare = {"ticks": False, "domain": False, "grid": False, "labelPadding": 8, "title": None}
    axis = {"title": "share of variance", "format": "%", "values": [0, 0.25, 0.5, 0.75, 1]}
    legend = {"title": None, "orient": "top", "symbolOpacity": 1, "symbolType": "circle", "labelLimit": 240}
    encoding = {
        "y": field("metric", "nominal", sort=list(metrics), axis=bare),
        "yOffset": field("source", "nominal", sort=list(_SOURCES)),
        "color": field("source", "nominal", scale={"domain": list(_SOURCES), "range": list(_COLOURS)}, legend=legend),
        "tooltip": hints,
    }

    def x(name: str) -> Spec:
        return field(name, scale={"domain": [0, 1], "clamp": True}, axis=axis)

    marks = [
        {
            "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.55},
            "encoding": {"x": x("low"), "x2": {"field": "high"}},
        },
        {"mark": {"type": "point", "shape": "diamond", "size": 28, "opacity": 0.9}, "encoding": {"x": x("share")}},
        {"mark": {"type": "circle", "size": 42, "opacity": 1}, "encoding": {"x": x("unbiased")}},
    ]
    charts = [
        {
            "title": data_set,
            "width": 290,
            "height": {"step": _STEP},
            "data": {"values": cells},
            "encoding": encoding,
            "layer": marks,
        }
        for data_set, cells in groups.items()
    ]
    return panels(charts, width=456)

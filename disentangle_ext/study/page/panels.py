"""Small panels, one per metric: violins, medians against a hyperparameter, and scatter plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from disentangle_ext.study.analysis import Scores
from disentangle_ext.study.page.numbers import interval_text, is_number, rows_of, value_or_none
from disentangle_ext.study.page.theme import INK, Spec, colour, field, label_expression, panels, tooltip, zoom

__all__ = ["FEWEST", "POINTS", "hyperparameter_panels", "scatter_panels", "violin_panels"]

POINTS = 3000
"""Marks that stand for a single run in a figure, at most: a browser draws each as an element of its own."""

FEWEST = 10
"""Runs of a violin, at least: the density of fewer has humps that are but these runs."""

_WIDTH, _HEIGHT = 236, 160
_AXIS = 46
_TICKS = 30
"""Pixels of the axis of scores and its labels."""
_GRID = 48
_HALF = 0.42
"""Half the width of the widest violin, where objectives are 1 apart."""

_RUN = tooltip("run", "objective", "value", "seed")
_NUMBERS = {"median": ".3f", "q25": ".3f", "q75": ".3f", "mean": ".3f", "n": ","}
_SPREAD = tooltip("objective", "interval_of_the_median", **_NUMBERS)
_SPREAD_AT_VALUE = tooltip("objective", "hyperparameter", "value", "interval_of_the_median", **_NUMBERS)


def violin_panels(
    scores: Scores, spread: Any, metrics: Sequence[str], objectives: Sequence[str], *, points: int = POINTS
) -> tuple[Spec, int]:
    """A violin per objective for each metric, with runs as points, and how many runs these are.

    Args:
        scores: the runs of one data set.
        spread: the rows of :func:`disentangle_ext.study.analysis.distributions` for it.
        metrics: one panel each.
        objectives: the violins of a panel, from the left; with fewer than :data:`FEWEST` runs, points alone.
        points: how many there may be in the figure.
    """
    drawn = _some(len(scores.run), points // max(1, len(metrics)))
    about = {(row["objective"], row["metric"]): row for row in rows_of(spread)}
    x = _places(objectives, None, (-0.6, len(objectives) - 0.4))
    if sum(map(len, objectives)) > 25:
        x["axis"] |= {"labelAngle": -25, "labelAlign": "right"}
    hue = colour(objectives, legend=False)
    charts = []
    for i, metric in enumerate(metrics):
        column = scores.scores[:, scores.metrics.index(metric)]
        shapes, dots, bars = [], [], []
        for place, objective in enumerate(objectives):
            own = scores.objective == objective
            shapes += _violin(column[own], place, objective)
            dots += _points(scores, column, drawn[own[drawn]], place)
            bars += _median(about.get((objective, metric)), place)
        y = _upright("y", column)
        body = {"x": x, "x2": {"field": "x2"}, "y": y, "color": hue, "detail": field("objective", "nominal")}
        point = {"x": x, "y": y, "color": hue, "tooltip": [*_RUN, {**field("y", format=".4g"), "title": metric}]}
        bar = {"x": x, "x2": {"field": "x2"}, "y": y, "tooltip": _SPREAD}
        layer = [
            _layer(shapes, {"type": "area", "orient": "horizontal", "opacity": 0.3}, body),
            {
                **_layer(dots, {"type": "circle", "size": 16, "opacity": 0.75}, point),
                "params": zoom(f"violin_{i}", "y"),
            },
            _layer(bars, {"type": "rule", "color": INK, "strokeWidth": 2}, bar),
        ]
        charts.append({"title": metric, "width": _WIDTH, "height": _HEIGHT, "layer": layer})
    return panels(charts, width=_WIDTH + _AXIS), len(drawn)


def hyperparameter_panels(table: Any, metrics: Sequence[str], objectives: Sequence[str]) -> Spec:
    """Median and quartiles over seeds at each value, a panel per metric and a line per objective.

    Where one objective takes all values that others take, the axis says which; else it counts them from the smallest,
    as the study's figures do, and the tooltip has the value. Runs without a value are a level across the panel.

    Args:
        table: the rows of :func:`disentangle_ext.study.analysis.by_hyperparameter` for one data set.
        metrics: one panel each.
        objectives: the lines.
    """
    rows = rows_of(table)
    x, places = _value_axis(rows)
    charts = []
    for i, metric in enumerate(metrics):
        known = [row for row in rows if row["metric"] == metric and is_number(row["median"])]
        levels = [_spread(row) for row in known if not row["value"]]
        cells = []
        for row in known:
            if row["value"]:
                dodge = 0.07 * (list(objectives).index(row["objective"]) - (len(objectives) - 1) / 2)
                cells.append({**_spread(row), "x": places[row["objective"], row["value"]] + dodge})
        y = _upright("median", [row[each] for row in known for each in ("q25", "q75")])
        quartiles = {"y": {**y, "field": "q25"}, "y2": {"field": "q75"}}
        line = {"x": x, "y": y, "detail": field("hyperparameter", "nominal")}
        circle = _layer(cells, {"type": "circle", "size": 34, "opacity": 1}, {"x": x, "y": y})
        layer = [
            *_levels(levels, quartiles, y),
            _layer(cells, {"type": "rule", "strokeWidth": 1.5, "opacity": 0.55}, {"x": x, **quartiles}),
            _layer(cells, {"type": "line", "strokeWidth": 1.5}, line),
            {**circle, "params": zoom(f"value_{i}", "y")},
        ]
        shared = {"color": colour(objectives), "tooltip": _SPREAD_AT_VALUE}
        charts.append({"title": metric, "width": _WIDTH, "height": _HEIGHT, "encoding": shared, "layer": layer})
    return panels(charts, width=_WIDTH + _AXIS)


def scatter_panels(
    scores: Scores, pairs: Sequence[tuple[str, str]], objectives: Sequence[str], *, name: str, points: int = POINTS
) -> tuple[Spec, int]:
    """A point per run for each pair of scores, and how many runs these are.

    Args:
        scores: the runs of one data set.
        pairs: the scores on the x and y axes of each panel.
        objectives: the colours.
        name: begins the names of the selections.
        points: how many there may be in the figure.
    """
    drawn = _some(len(scores.run), points // max(1, len(pairs)))
    charts = []
    for i, (across, up) in enumerate(pairs):
        xs, ys = (scores.scores[:, scores.metrics.index(each)] for each in (across, up))
        cells = [
            {**_run(scores, row), "x": float(xs[row]), "y": float(ys[row])}
            for row in drawn
            if np.isfinite(xs[row]) and np.isfinite(ys[row])
        ]
        hints = [{**field("x", format=".4g"), "title": across}, {**field("y", format=".4g"), "title": up}]
        y = _upright("y", ys[drawn])
        encoding = {
            "x": field("x", scale=_around(xs[drawn]), axis={"title": across, "tickCount": 5}),
            "y": {**y, "axis": {**y["axis"], "title": up}},
            "color": colour(objectives),
            "tooltip": [*_RUN, *hints],
        }
        chart = _layer(cells, {"type": "circle", "size": 30, "opacity": 0.75}, encoding)
        size = {"width": _WIDTH - 14, "height": _HEIGHT}
        charts.append({**chart, **size, "params": zoom(f"{name}_{i}", "x", "y")})
    return panels(charts, width=_WIDTH + _AXIS), len(drawn)


def _value_axis(rows: Sequence[dict[str, Any]]) -> tuple[Spec, dict[tuple[str, str], int]]:
    """The axis of a hyperparameter, and the place on it of each objective's values."""
    values: dict[str, list[str]] = {}
    for row in rows:
        own = values.setdefault(row["objective"], [])
        if row["value"] and row["value"] not in own:
            own.append(row["value"])
    longest = max(values.values(), key=len, default=[])
    common = all(set(own) <= set(longest) for own in values.values())
    names = sorted({row["hyperparameter"] for row in rows if row["hyperparameter"]})
    title = " / ".join(names)[:40] if common else "value, from the smallest"
    labels = longest if common else [str(i + 1) for i in range(len(longest))]
    x = _places(labels, title, (-0.4, max(1, len(longest)) - 0.6))
    x["axis"]["labelOverlap"] = True
    return x, {(name, each): (longest if common else own).index(each) for name, own in values.items() for each in own}


def _levels(rows: list[Spec], quartiles: Spec, median: Spec) -> list[Spec]:
    """Medians and quartiles across the panel, of runs that have no place on its axis."""
    if not rows:
        return []
    rule = {"type": "rule", "strokeWidth": 1.5, "strokeDash": [5, 3]}
    return [_layer(rows, {"type": "rect", "opacity": 0.12}, quartiles), _layer(rows, rule, {"y": median})]


def _layer(rows: list[Spec], mark: Spec, encoding: Spec) -> Spec:
    return {"data": {"values": rows}, "mark": mark, "encoding": encoding}


def _places(labels: Sequence[str], title: str | None, domain: tuple[float, float]) -> Spec:
    """An axis of names at 0, 1, ..., so that marks can stand beside one another."""
    axis = {
        "title": title,
        "values": list(range(len(labels))),
        "labelExpr": label_expression(labels),
        "labelOverlap": False,
        "grid": False,
    }
    return field("x", axis=axis, scale={"domain": list(domain), "nice": False, "zero": False})


def _some(count: int, most: int) -> np.ndarray:
    """Indices of at most ``most`` of ``count`` runs, evenly spaced: every objective and value has its part."""
    return np.unique(np.linspace(0, count - 1, min(count, max(1, most))).round().astype(np.int64))


def _upright(name: str, values: Any) -> Spec:
    """The axis of scores, as wide in every panel, so that panels stand in columns."""
    return field(name, scale=_around(values), axis={"title": None, "tickCount": 5, "minExtent": _TICKS})


def _around(values: Any) -> Spec:
    """A scale with room around the values: a mark at its end would be cut in half."""
    known = [float(each) for each in values if is_number(each)]
    if not known:
        return {"zero": False}
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 0.1 * abs(high) or 0.1
    return {"domain": [low - margin, high + margin], "nice": False, "zero": False}


def _run(scores: Scores, row: int) -> dict[str, Any]:
    return {
        "run": str(scores.run[row]),
        "objective": str(scores.objective[row]),
        "value": str(scores.value[row]),
        "seed": int(scores.seed[row]),
    }


def _points(scores: Scores, column: np.ndarray, rows: np.ndarray, place: int) -> list[dict[str, Any]]:
    """Runs beside one another, those with nearly the same score apart."""
    golden = 0.6180339887498949  # multiples of it, modulo 1, never come close to one another
    return [
        {**_run(scores, row), "x": round(place + 0.24 * ((i * golden) % 1 - 0.5), 3), "y": float(column[row])}
        for i, row in enumerate(rows)
        if np.isfinite(column[row])
    ]


def _violin(scores: np.ndarray, place: int, objective: str) -> list[dict[str, Any]]:
    """The outline of a density with a Gaussian kernel, as wide as Scott's rule says, cut at the extremes."""
    scores = np.sort(scores[np.isfinite(scores)])
    if len(scores) < FEWEST or scores[0] == scores[-1]:
        return []
    quartiles = np.percentile(scores, [25, 75])
    width = min(float(scores.std(ddof=1)), float(quartiles[1] - quartiles[0]) / 1.34 or np.inf) * len(scores) ** -0.2
    width = max(width, float(scores[-1] - scores[0]) / 100)
    edges = np.linspace(scores[0], scores[-1], _GRID)
    sample = scores[_some(len(scores), 1000)]
    density = np.exp(-0.5 * ((edges[:, None] - sample) / width) ** 2).sum(1)
    half = _HALF * density / density.max()
    return [
        {"objective": objective, "x": round(place - h, 4), "x2": round(place + h, 4), "y": float(y)}
        for y, h in zip(edges, half)
    ]


def _median(row: dict[str, Any] | None, place: int) -> list[dict[str, Any]]:
    if row is None or not is_number(row["median"]):
        return []
    return [{**_spread(row), "x": place - 0.2, "x2": place + 0.2, "y": row["median"]}]


def _spread(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value_or_none(each) for name, each in row.items()}
    return {**kept, "interval_of_the_median": interval_text(row["low"], row["high"])}

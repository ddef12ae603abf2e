"""Charts are valid Vega-Lite, and draw what they are given."""

from __future__ import annotations

import json
import re

import pytest

from disentangle_ext.study.page.theme import label_expression

from .conftest import Written


def test_every_chart_is_valid_vega_lite(written: Written) -> None:
    altair = pytest.importorskip("altair")
    specs = re.findall(r'<script type="application/json" id="spec-(.*?)">(.*?)</script>', written.html)
    assert len(specs) == 9
    charts = [json.loads(text) for _, text in specs]
    for chart in charts:
        chart["concat"] = chart["concat"][-1:]  # panels are alike, and the check is slow
        altair.Chart.from_dict(chart, validate=True)
    wrong = charts[0]
    wrong["concat"][0]["layer"][0]["mark"]["type"] = "rectangle"
    with pytest.raises(pytest.importorskip("jsonschema").ValidationError, match="rectangle"):
        altair.Chart.from_dict(wrong, validate=True)


def test_labels_are_escaped_for_the_expression() -> None:
    assert label_expression(["a'", "\\β"]) == r"['\u0061\u0027', '\u005c\u03b2'][datum.value] || ''"
    assert label_expression(["\U0001d6fd"]) == r"['\ud835\udefd'][datum.value] || ''"

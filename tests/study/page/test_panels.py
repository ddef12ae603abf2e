"""Panels draw what there is: no place on an axis, no hump and no sign that the numbers do not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow
import pytest

from disentangle_ext.study import analysis
from disentangle_ext.study.analysis import Scores
from disentangle_ext.study.page.heat_maps import correlation_maps
from disentangle_ext.study.page.numbers import fixed, interval_text, number_text
from disentangle_ext.study.page.panels import FEWEST, hyperparameter_panels, violin_panels

Setting = tuple[str, str, str]


def scores_of(settings: dict[Setting, Any]) -> Scores:
    """The scores by "mig" of seeds 0, 1, ..., for each objective, hyperparameter and value."""
    rows = [
        {"data_set": "d", "objective": objective, "hyperparameter": name, "value": value}
        | {"seed": seed, "metric": "mig", "score": float(score)}
        for (objective, name, value), scores in settings.items()
        for seed, score in enumerate(scores)
    ]
    return Scores.read(pyarrow.Table.from_pylist(rows))


def marks(panel: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [each for each in panel["layer"] if each["mark"]["type"] == kind]


def by_value(settings: dict[Setting, Any]) -> dict[str, Any]:
    table = analysis.by_hyperparameter(scores_of(settings))
    (panel,) = hyperparameter_panels(table, ["mig"], sorted({objective for objective, _, _ in settings}))["concat"]
    return dict(panel)


def test_runs_without_a_value_have_no_place_on_the_axis_of_values() -> None:
    panel = by_value(
        {("beta_vae", "beta", "1"): [0.1, 0.2], ("beta_vae", "beta", "4"): [0.3, 0.4], ("vae", "", ""): [0.5, 0.6]}
    )
    placed = [row for layer in panel["layer"] if "x" in layer["encoding"] for row in layer["data"]["values"]]
    assert {row["objective"] for row in placed} == {"beta_vae"}
    (level,) = [each for each in marks(panel, "rule") if "x" not in each["encoding"]]
    (row,) = level["data"]["values"]
    assert (row["objective"], row["median"]) == ("vae", pytest.approx(0.55))
    assert "x" not in row
    assert "x" not in panel["encoding"]
    low, high = level["encoding"]["y"]["scale"]["domain"]
    assert low < row["q25"] < row["q75"] < high


def test_a_run_stands_at_its_own_value() -> None:
    panel = by_value({("a", "beta", "1"): [0.1], ("a", "beta", "4"): [0.2], ("b", "beta", "4"): [0.3]})
    (circles,) = marks(panel, "circle")
    assert [(row["objective"], round(row["x"])) for row in circles["data"]["values"]] == [("a", 0), ("a", 1), ("b", 1)]
    assert circles["encoding"]["x"]["axis"]["title"] == "beta"


def violin(scores: Any) -> list[dict[str, Any]]:
    """The outline that is drawn of the scores of one objective."""
    table = scores_of({("a", "beta", "1"): scores})
    chart, drawn = violin_panels(table, analysis.distributions(table), ["mig"], ["a"])
    (panel,) = chart["concat"]
    (area,), (dots,), (median,) = (marks(panel, kind) for kind in ("area", "circle", "rule"))
    assert len(dots["data"]["values"]) == drawn == len(scores)
    assert len(median["data"]["values"]) == 1
    return list(area["data"]["values"])


def test_a_violin_of_nearly_equal_scores_has_the_extremes_of_the_scores() -> None:
    scores = np.random.default_rng(0).uniform(36.68461, 36.68567, 36)
    heights = [row["y"] for row in violin(scores)]
    assert (heights[0], heights[-1]) == (scores.min(), scores.max())
    assert (np.diff(heights) > 0).all()


def test_a_few_runs_have_no_violin() -> None:
    assert violin(np.linspace(0, 1, FEWEST - 1)) == []
    assert violin(np.linspace(0, 1, FEWEST)) != []
    assert FEWEST == 10


def test_a_zero_has_no_sign() -> None:
    row = {"data_set": "d", "metric_a": "a", "metric_b": "b", "correlation": -0.004, "low": -0.001, "high": 0.2}
    (chart,) = correlation_maps(pyarrow.Table.from_pylist([{**row, "models": 9}]), ["a"], ["b"])["concat"]
    (cell,) = chart["data"]["values"]
    assert (cell["text"], cell["interval"]) == ("0.00", "0.00 to 0.20")
    assert [fixed(-0.005001), fixed(-0.25), fixed(0.0)] == ["-0.01", "-0.25", "0.00"]
    assert interval_text(-0.5, -0.0) == "-0.50 to 0.00"
    assert number_text(-0.0) == "0.000"

"""The tables of docs/study/analysis.md: what is measured, and how."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.rows import ABSENT, read
from disentangle_ext.study import analysis
from studies import analysis_coverage
from studies.analysis_coverage import (
    ANALYSES,
    CASES,
    COVERAGE,
    COVERAGE_COLUMNS,
    SPEED,
    Case,
    coverage_table,
    measure,
    measure_speed,
    speed_table,
)


def test_every_analysis_is_measured():
    public = {name for name in analysis.__all__ if name.islower()}
    assert set(ANALYSES) == public
    # distributions has the interval of by_hyperparameter, the summary that of model_selection, exemplars none.
    assert {name for name, _ in CASES} == public - {"distributions", "model_selection_summary", "exemplars"}


@pytest.mark.parametrize(("name", "case"), CASES, ids=lambda value: value)
def test_every_case_has_an_interval(name, case, monkeypatch):
    monkeypatch.setitem(CASES, (name, case), Case((12,), CASES[name, case].draw, lambda: 0.5))
    row = measure(name, case, 12, repetitions=3)
    assert tuple(row) == COVERAGE_COLUMNS
    assert float(row["width"]) > 0


ROWS = read(COVERAGE)


def test_every_case_is_in_the_table():
    assert {(row["analysis"], row["case"], int(row["size"])) for row in ROWS} == {
        (*key, size) for key, case in CASES.items() for size in case.sizes
    }
    assert {row["analysis"] for row in read(SPEED)} == set(ANALYSES)


def floor(row: dict[str, str]) -> float:
    """The least share that the page's words allow."""
    if row["analysis"] == "by_hyperparameter":
        return min(0.95, 1 - 2 ** (1 - int(row["size"])))
    if "others in each study" in row["case"]:
        return 0.0
    if row["analysis"] == "variance_explained":
        return 0.75 if "skewed" in row["case"] else 0.87
    return 0.92


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['analysis']}, {row['case']}, {row['size']}")
def test_intervals_hold_what_the_page_says(row):
    share = floor(row)
    assert float(row["holds"]) >= share - 3 * math.sqrt(share * (1 - share) / int(row["repetitions"]))


def test_the_report_of_12_600_models_takes_less_than_ten_seconds():
    assert {row["runs"] for row in read(SPEED)} == {"12600"}
    assert sum(float(row["seconds"]) for row in read(SPEED)) < 10


def test_shares_and_widths_are_counted(monkeypatch):
    ends = np.array([[1.0, 2.0, 3.0, 6.0], [0.0, 1.0, 3.5, 5.0], [2.0, 3.0, 4.0, 7.0]])
    monkeypatch.setattr(analysis_coverage, "estimates", lambda name, case, scores: ends)
    monkeypatch.setitem(CASES, ("a", "b"), Case((5,), lambda rng, tables, size: {}, lambda: 2.0))
    row = measure("a", "b", 5, repetitions=4)
    assert (row["truth"], row["mean"], row["holds"]) == ("2.0000", "3.0000", "0.5000")
    assert float(row["width"]) == pytest.approx(1.625 / (2 * 1.96 * np.std(ends[0], ddof=1)), abs=1e-4)
    assert coverage_table([row]).splitlines()[-1] == f"| `a` | b | 5 | 2.00 | 3.00 | 50 | {float(row['width']):.2f} |"


def test_the_truths_agree_with_what_is_known():
    assert analysis_coverage.normal_spearman(1) == pytest.approx(1)
    draw = analysis_coverage.two_metrics(0.5)
    assert analysis_coverage.spearman(draw, 1000) == pytest.approx(analysis_coverage.normal_spearman(0.5), abs=0.025)
    assert analysis_coverage.chance(0.0, 4000) == pytest.approx(0.5, abs=0.01)
    assert analysis_coverage.chance(1000.0, 4000) == pytest.approx(23 / 24)


def test_speed_is_measured_and_added_up():
    rows = measure_speed(models=504, metrics=2)
    assert [row["analysis"] for row in rows] == list(ANALYSES)
    assert {row["runs"] for row in rows} == {"504"}
    total = sum(float(row["seconds"]) for row in rows)
    assert speed_table(rows).splitlines()[-1] == f"| all |  | {total:.2f} |"


def test_nothing_measured_is_said_so():
    assert coverage_table([]) == speed_table([]) == ABSENT

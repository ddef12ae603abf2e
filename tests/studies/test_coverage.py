"""Coverage of docs/metrics/foundation.md: what is measured, and how."""

from __future__ import annotations

import dataclasses
import inspect
import math

import numpy as np
import pytest

from bench.rows import ABSENT, read
from disentangle_ext import metrics
from disentangle_ext.metrics import Metric
from disentangle_ext.metrics._result import Interval, MetricResult
from studies import coverage
from studies.coverage import CASES, COLUMNS, LEVELS, RESULTS, Case, Table, measure, population, table, torus


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Number(MetricResult):
    title = "number"


def with_interval(score: float, low: float, high: float) -> MetricResult:
    return Number(score=score, settings={}, interval=Interval(low, high, 0.0, 0.95, 2, 0))


def test_every_metric_with_an_interval_is_measured() -> None:
    classes = [each for each in vars(metrics).values() if inspect.isclass(each) and issubclass(each, Metric)]
    offers = {
        each.function.__name__
        for each in classes
        if each is not Metric and "bootstrap" in inspect.signature(each.function).parameters
    }
    measured = {name for name in offers if any(case == name or case.startswith(f"{name}_") for case in CASES)}
    assert measured == offers
    assert all(max(offers, key=lambda name: len(name) * case.startswith(name)) in offers for case in CASES)


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("dci_fast", "dci_lasso")])
def test_every_case_has_a_score_and_an_interval(name: str) -> None:
    rng, level = np.random.default_rng(0), "between"
    points = torus(144, level, rng) if CASES[name].grid else population(level).draw(800, rng)
    result = CASES[name].score(points, bootstrap=2, seed=0)
    assert result.interval is not None
    assert result.interval.low <= result.score <= result.interval.high


ROWS = read(RESULTS)
SLOW_BIAS = ("jemmig", "mig_sup", "sap", "infomec", "modularity", "dci_fast")
"""Cases of which the page says that the score of the population may lie outside."""


def test_every_case_is_in_the_table() -> None:
    cases = {
        (name, str(points), level) for name, case in CASES.items() for points in case.repetitions for level in LEVELS
    }
    assert {(row["metric"], row["points"], row["level"]) for row in ROWS} == cases


@pytest.mark.parametrize("name", CASES)
def test_intervals_hold_what_the_page_says(name: str) -> None:
    for row in (row for row in ROWS if row["metric"] == name):
        least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / int(row["repetitions"]))
        assert float(row["covers_expected"]) > least, row
        if row["covers_population"] and name not in SLOW_BIAS:
            assert float(row["covers_population"]) > least, row


def test_levels_mix_factors_more_and_more() -> None:
    scores = [metrics.mig(population(level).codes, population(level).factors).score for level in LEVELS]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 3 * scores[2]
    bounded, normal = population("between", bounded=True), population("between")
    np.testing.assert_array_equal(bounded.factors, normal.factors)
    assert bounded.codes.std(0) == pytest.approx(normal.codes.std(0), rel=0.01)
    assert (np.ptp(bounded.codes, 0) < 0.8 * np.ptp(normal.codes, 0)).any()
    codes = population("between").codes
    assert population("between").codes is codes
    rows = population("between").draw(50, np.random.default_rng(0))
    assert len(np.unique(rows.codes[:, 0])) == 50
    assert np.isin(rows.codes[:, 0], codes[:, 0]).all()


def test_shares_and_widths_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def score(points: Table, *, bootstrap: int = 0, seed: int = 0) -> MetricResult:
        """The population scores .5; draws score 1, 2, 1, 2, ... in intervals of which each fourth holds .5."""
        if not bootstrap:
            return with_interval(0.5, math.nan, math.nan)
        calls.append((len(points.codes), bootstrap, seed))
        value = 1.0 + seed % 2
        return with_interval(value, value - (2 if seed % 4 == 0 else 0.25), value + 1)

    monkeypatch.setitem(CASES, "m", Case(score, {30: 8}, halves=7, population=1000))
    row = measure("m", 30, "entangled")
    assert calls == [(30, 7, seed) for seed in range(8)]
    assert tuple(row) == COLUMNS
    assert (row["population"], row["expected"]) == ("0.500000", "1.500000")
    assert (row["covers_population"], row["covers_expected"]) == ("0.2500", "0.5000")
    deviation = np.std([1.0, 2.0] * 4, ddof=1)
    assert float(row["deviation"]) == pytest.approx(deviation, abs=1e-6)
    assert float(row["width"]) == pytest.approx((3 + 3 * 1.25) / 4 / (2 * 1.96 * deviation), abs=1e-4)
    assert table([row]).splitlines()[2] == f"| `m` | 30 | 8 | 25 | 50 | {float(row['width']):.2f} |"
    assert table([{**row, "covers_population": "", "width": "nan"}]).splitlines()[2] == "| `m` | 30 | 8 | - | 50 | - |"


def test_a_row_is_written_when_it_is_measured(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(coverage, "RESULTS", tmp_path / "coverage.csv")
    monkeypatch.setattr(coverage.pages, "write", lambda page, tables: written.append(tables["coverage"]))
    given = Case(lambda points, **_: with_interval(0.0, -1.0, 1.0), {10: 2})
    monkeypatch.setattr(coverage, "CASES", {"m": given})
    coverage.main()
    assert [len(each.splitlines()) for each in written] == [3, 3, 3]
    assert written[-1].splitlines()[2].startswith("| `m` | 10 | 2 | 100, 100, 100 |")
    assert len(coverage.read(coverage.RESULTS)) == 3
    with pytest.raises(SystemExit, match="no such metric: n; known: m"):
        coverage.main(["n"])


def test_nothing_measured_is_said_so() -> None:
    assert table([]) == ABSENT


@pytest.mark.parametrize("name", ["gaussian_total_correlation", "independence"])
def test_intervals_hold_what_they_should(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    points, repetitions = min(CASES[name].repetitions), 60
    monkeypatch.setitem(
        CASES, name, dataclasses.replace(CASES[name], repetitions={points: repetitions}, halves=20, population=20_000)
    )
    row = measure(name, points, "between")
    least = 0.95 - 3 * math.sqrt(0.95 * 0.05 / repetitions)
    assert float(row["covers_expected"]) > least
    assert not row["covers_population"] or float(row["covers_population"]) > least

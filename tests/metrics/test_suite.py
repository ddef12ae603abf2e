"""Many metrics of one representation."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_ext import metrics
from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics import (
    FactorResult,
    MetricResult,
    active_units,
    downstream,
    linear_symmetry,
    lsbd,
    mig,
    sap,
)
from disentangle_ext.metrics.suite import SUITE, Failure, score_all

GRID = np.stack(np.meshgrid(np.arange(12), np.arange(15), np.arange(4), indexing="ij"), -1).reshape(-1, 3)
CODES = GRID @ np.diag([1.0, -2.0, 0.5]) + np.random.default_rng(0).normal(size=GRID.shape) * 0.1
TURN = {"factor_0": 12, "factor_1": 15, "factor_2": 4}
QUICK = [name for name in SUITE if name not in ("dci", "dci_fast", "mig_aggregate")]


def test_rows_in_the_order_of_a_grid_are_scored_by_every_metric() -> None:
    results = score_all(CODES, GRID, metrics=QUICK, periods=TURN, seed=3)
    assert list(results) == QUICK
    assert {name: str(result) for name, result in results.items() if isinstance(result, Failure)} == {}
    scored = {name: result for name, result in results.items() if isinstance(result, MetricResult)}
    assert scored["mig"].score == mig(CODES, GRID).score
    assert scored["active_units"].score == active_units(CODES).score == 3
    assert scored["sap"].score == sap(CODES, GRID, shuffle=True, seed=3).score
    assert all(np.isfinite(result.score) for result in scored.values())


def test_what_is_not_given_leaves_out_the_metrics_that_need_it() -> None:
    alone = {name for name, entry in SUITE.items() if entry.inputs == ("codes",)}
    assert set(score_all(CODES)) == alone >= {"active_units", "mutual_information_score"}
    with pytest.raises(ValueError, match="score_all: metrics: mig needs factors, which is not given"):
        score_all(CODES, metrics=["mig"])
    with pytest.raises(ValueError, match="score_all: metrics: mig_aggregate needs logvar, which is not given"):
        score_all(CODES, GRID, metrics=["mig_aggregate"])


def test_every_metric_is_in_the_suite_or_the_error_says_where_it_is() -> None:
    public = {name for name in metrics.__all__ if name.islower()}
    elsewhere = public - {entry.function.__name__ for entry in SUITE.values()}
    assert elsewhere == {"udr", "correlation", "exact_elbo"}
    for name in elsewhere:
        with pytest.raises(
            MistakeError, match=f"^score_all: metrics: {name} .*: call disentangle_ext.metrics.{name}\\("
        ):
            score_all(CODES, GRID, metrics=[name])


def test_posteriors_names_and_intervals_reach_the_metrics() -> None:
    logvar = np.full(CODES.shape, -4.0)
    seen = []
    results = score_all(
        CODES,
        GRID,
        logvar=logvar,
        metrics=["mig_aggregate", "mig"],
        factor_names=["x", "y", "shape"],
        bootstrap=3,
        seed=1,
        progress=lambda *each: seen.append(each),
    )
    assert seen == [("mig_aggregate", 0, 2), ("mig", 1, 2), ("", 2, 2)]
    for result in results.values():
        assert isinstance(result, FactorResult)
        assert result.factor_names == ("x", "y", "shape")
        assert result.interval is not None
    assert results["mig_aggregate"].as_dict()["settings"]["protocol"] == "aggregate"


def test_codes_that_no_metric_can_score_are_refused_once() -> None:
    with pytest.raises(ValueError, match=r"score_all: codes must be finite, got nan at \[0, 0\]"):
        score_all(CODES * np.nan, GRID)
    with pytest.raises(ValueError, match="score_all: factors must have a row for each of the 720 rows of codes, got 1"):
        score_all(CODES, GRID[:1])


def test_a_seed_may_be_larger_than_those_of_scikit_learn() -> None:
    results = score_all(CODES, GRID, metrics=["sap", "downstream", "dci_fast"], seed=(1 << 63) - 1)
    assert [str(result) for result in results.values() if isinstance(result, Failure)] == []
    rows = slice(0, 60)  # few, as a tree is grown for each class
    for predictor in ("boosted_trees", "histogram_boosting"):
        options = {"predictor": predictor, "train_sizes": (30,), "shuffle": True}
        assert downstream(CODES[rows], GRID[rows, 1:], **options, seed=1 << 62).score > 0


CYCLIC = ["linear_symmetry", "independence", "lsbd"]


def test_factors_that_end_somewhere_have_no_symmetry_to_score() -> None:
    for periods, names in (({}, "factor_0, factor_1, factor_2"), ({**TURN, "factor_1": 3}, None), (None, "factor_0")):
        for name, result in score_all(CODES, GRID, metrics=CYCLIC, periods=periods).items():
            if names is None:
                assert isinstance(result, MetricResult)
            else:
                assert isinstance(result, Failure)
                expected = f"{name}: factors must be on a circle, got some without a period: {names}"
                assert result.reason.startswith(expected)
    some = score_all(CODES, GRID, metrics=CYCLIC, factor_names=["x", "y", "hue"], periods={"x": 12, "hue": 4})
    assert {result.reason.partition("period: ")[2] for result in some.values()} == {"y"}


def test_a_constant_factor_needs_no_period_and_the_first_class_may_come_twice() -> None:
    rows = GRID[:, 2] == 1
    turn = {"factor_0": 12, "factor_1": 15}
    results = score_all(CODES[rows], GRID[rows], metrics=CYCLIC, periods=turn)
    expected = linear_symmetry(CODES[rows], GRID[rows][:, :2], sizes=[12, 15]).score
    assert results["linear_symmetry"].score == pytest.approx(expected, abs=1e-12)
    # Class 14 is the image of class 0, as the orientation of dSprites has it.
    twice = score_all(CODES[rows], GRID[rows], metrics=CYCLIC, periods={**turn, "factor_1": 14})
    once = rows & (GRID[:, 1] < 14)
    assert twice["lsbd"].score == pytest.approx(lsbd(CODES[once], GRID[once][:, :2]).score, abs=1e-12)


def test_periods_of_no_factor_are_refused() -> None:
    with pytest.raises(ValueError, match=r"score_all: periods: unknown factor 'factor0': did you mean 'factor_0'\?"):
        score_all(CODES, GRID, periods={"factor0": 3})
    with pytest.raises(ValueError, match=r"score_all: periods\['factor_0'\] must be an integer of at least 1, got 0"):
        score_all(CODES, GRID, periods={"factor_0": 0})

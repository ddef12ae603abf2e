"""Many metrics of one representation."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_ext.metrics import FactorResult, MetricResult, active_units, mig, sap
from disentangle_ext.metrics.suite import SUITE, Failure, score_all

GRID = np.stack(np.meshgrid(np.arange(12), np.arange(15), np.arange(4), indexing="ij"), -1).reshape(-1, 3)
CODES = GRID @ np.diag([1.0, -2.0, 0.5]) + np.random.default_rng(0).normal(size=GRID.shape) * 0.1
QUICK = [name for name in SUITE if name not in ("dci", "dci_fast", "mig_aggregate")]


def test_rows_in_the_order_of_a_grid_are_scored_by_every_metric() -> None:
    results = score_all(CODES, GRID, metrics=QUICK, seed=3)
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

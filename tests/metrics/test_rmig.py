"""RMIG of points and of posteriors, against the masses of Gaussians, and at its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.metrics import RMIG, rmig
from tests.metrics.checks import OF_GAPS
from tests.metrics.problems import GRID, random_problem, standard


@pytest.mark.parametrize("check", OF_GAPS, ids=lambda check: check.__name__)
def test_as_every_gap(check):
    check(rmig)


def test_a_factor_in_two_dimensions_has_no_gap():
    assert rmig(np.repeat(standard(GRID), 2, axis=1), GRID).score == pytest.approx(0, abs=1e-12)


def mass_by_hand(mean, std, low, high):
    def phi(x):
        return 0.5 * (1 + math.erf((x - mean) / std / math.sqrt(2)))

    return (phi(high) if high is not None else 1.0) - (phi(low) if low is not None else 0.0)


def test_the_information_of_posteriors_is_that_of_their_masses():
    means, logvars, factor = [[-1.0], [0.5], [0.2], [2.0]], [[0.0], [-2.0], [-1.0], [0.3]], [0, 0, 1, 1]
    ends = [None, -2.0, 0.0, 2.0, None]
    table = np.zeros((2, 4))
    for (mean,), (logvar,), label in zip(means, logvars, factor):
        for b in range(4):
            table[label, b] += mass_by_hand(mean, math.exp(logvar / 2), ends[b], ends[b + 1]) / 4
    expected = sum(
        table[v, b] * math.log(table[v, b] / (table[v].sum() * table[:, b].sum())) for v in range(2) for b in range(4)
    )
    result = rmig(means, np.array(factor)[:, None], logvar=logvars, num_bins=4)
    assert result.gaps[0] == pytest.approx(expected, abs=1e-12)
    assert result.score == pytest.approx(expected / math.log(2), abs=1e-12)


def test_narrow_posteriors_are_points_and_wide_ones_know_nothing():
    codes, factors = random_problem()
    points = rmig(codes, factors).score
    assert rmig(codes, factors, logvar=np.full(codes.shape, -60.0)).score == pytest.approx(points, abs=1e-12)
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        assert rmig(codes, factors, logvar=np.full(codes.shape, -1e30)).score == pytest.approx(points, abs=1e-12)
        assert rmig(codes, factors, logvar=np.full(codes.shape, 1e30)).score == pytest.approx(0, abs=1e-12)
    assert rmig(codes, factors, logvar=np.full(codes.shape, 40.0)).score == pytest.approx(0, abs=1e-12)
    assert 0.1 < rmig(standard(GRID), GRID, logvar=np.full(GRID.shape, -2.0)).score < 0.9
    assert rmig(codes * 1e6, factors, value_range=(-4e6, 4e6)).score == pytest.approx(points, abs=1e-12)


def test_batches_take_their_posteriors():
    codes, factors = random_problem()
    logvar = np.random.default_rng(0).normal(-2, 1, codes.shape)
    metric = RMIG()
    for rows in np.array_split(np.arange(len(codes)), 3):
        metric.update(codes[rows], factors[rows], logvar=logvar[rows])
    assert metric.compute().score == rmig(codes, factors, logvar=logvar).score


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"value_range": (1, 1)}, ValueError, "rmig: value_range must be two numbers, the lower one first"),
        ({"value_range": (0, math.inf)}, ValueError, "rmig: value_range must be"),
        ({"logvar": [[0.0]]}, ValueError, r"rmig: logvar must have the shape of codes \[2, 1\], got \[1, 1\]"),
        ({"logvar": [[0.0], [math.nan]]}, ValueError, r"rmig: logvar must be finite, got nan at \[1, 0\]"),
        ({"logvar": [["a"], ["b"]]}, TypeError, "rmig: logvar must be real numbers"),
    ],
)
def test_errors_name_the_argument(options, error, message):
    with pytest.raises(error, match=message):
        rmig([[0.0], [1.0]], [[0], [1]], **options)

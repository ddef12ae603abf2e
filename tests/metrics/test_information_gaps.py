"""MIG-sup, DCIMIG, JEMMIG and RMIG, against the code of Zaidi et al. 2020, their definitions, and at their edges."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from disentangle_ext.metrics import RMIG, dcimig, jemmig, mig, mig_sup, rmig

ORACLES = Path(__file__).parent / "oracles"
CASES = json.loads((ORACLES / "information.json").read_text())["cases"]
BINNED = {"mig_sup": mig_sup, "dcimig": dcimig, "jemmig": jemmig}
SCORES = [*BINNED.values(), rmig]
GRID = np.stack(np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij"), -1).reshape(-1, 3)


@pytest.fixture(scope="module")
def arrays():
    with np.load(ORACLES / "mig.npz") as stored:
        return dict(stored)


def random_problem(seed=0, rows=400, dims=4, sizes=(3, 5, 4)):
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, rows) for size in sizes], 1)
    codes = rng.normal(size=(rows, dims))
    codes[:, : len(sizes)] += factors
    return codes, factors


def standard(factors):
    return (factors - factors.mean(0)) / factors.std(0)


def entropy(values):
    return -sum(count / len(values) * math.log(count / len(values)) for count in Counter(values).values())


def by_definition(name, codes, factors, num_bins):
    """Entropies of lists of pairs, and the formulas of the docstrings in plain Python."""
    bins = [np.digitize(column, np.histogram(column, num_bins)[1][:-1]).tolist() for column in codes.T]
    labels = factors.T.tolist()
    joint = [[entropy(list(zip(z, v))) for v in labels] for z in bins]
    known = [[entropy(z) + entropy(v) - joint[d][k] for k, v in enumerate(labels)] for d, z in enumerate(bins)]
    if name == "mig_sup":
        gaps = [np.diff(sorted(row)[-2:])[0] / entropy(z) for row, z in zip(known, bins)]
        return sum(gaps) / len(gaps)
    if name == "dcimig":
        captured = [0.0] * len(labels)
        for row in known:
            best = row.index(max(row))
            captured[best] = max(captured[best], np.diff(sorted(row)[-2:])[0])
        return sum(captured) / sum(entropy(v) for v in labels)
    scores = []
    for k, v in enumerate(labels):
        column = [row[k] for row in known]
        second, first = sorted(column)[-2:]
        value = joint[column.index(first)][k] - first + second
        scores.append(1 - value / (entropy(v) + math.log(num_bins)))
    return sum(scores) / len(scores)


# Of a dead code and a constant factor it makes something else: tested below.
APART = {("c06_dead_dims_exact", "mig_sup"), ("c21_constant_factor", "jemmig")}


@pytest.mark.parametrize("num_bins", [10, 20])
@pytest.mark.parametrize(("case", "name"), [(c, name) for c in CASES for name in BINNED if (c, name) not in APART])
def test_equal_the_code_of_zaidi(arrays, case, name, num_bins):
    theirs = CASES[case]["zaidi"][f"{name}_{num_bins}"]
    # It rescales codes before it bins them, which takes a few that lie on edges into other bins.
    tolerance = 1e-3 if (case, num_bins) == ("c10_merged_code", 10) else 1e-9
    result = BINNED[name](arrays[f"{case}__codes"], arrays[f"{case}__factors"], num_bins=num_bins)
    assert result.score == pytest.approx(theirs, abs=tolerance)


def test_dead_codes_are_named_where_public_code_returns_nan(arrays):
    case = "c06_dead_dims_exact"
    codes, factors = arrays[f"{case}__codes"], arrays[f"{case}__factors"]
    assert math.isnan(CASES[case]["zaidi"]["mig_sup_20"])
    result = mig_sup(codes, factors)
    assert result.dead == (1, 3, 4, 7)
    assert result.score == mig_sup(codes[:, [0, 2, 5, 6]], factors).score
    assert result.best[1] == -1
    assert math.isnan(result.gaps[1])


def test_constant_factors_are_skipped(arrays):
    case = "c21_constant_factor"
    codes, factors = arrays[f"{case}__codes"], arrays[f"{case}__factors"]
    for score in SCORES:
        result = score(codes, factors, factor_names=["size", "colour"])
        assert result.skipped == (1,)
        assert result.score == pytest.approx(score(codes, factors[:, :1]).score, abs=1e-12)
        assert result.as_dict()["skipped"] == ["colour"]
        json.dumps(result.as_dict(), allow_nan=False)
    # The public code takes the constant factor into the mean, with no code for it.
    both = CASES[case]["zaidi"]["jemmig_20"]
    assert jemmig(codes, factors).score - both > 0.2


@pytest.mark.parametrize("name", BINNED)
@pytest.mark.parametrize("seed", range(3))
def test_equal_the_definition(name, seed):
    codes, factors = random_problem(seed)
    expected = by_definition(name, codes, factors, 7)
    assert BINNED[name](codes, factors, num_bins=7).score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_a_perfect_code_scores_one_and_an_uninformative_one_its_floor(score):
    assert score(standard(GRID), GRID).score == pytest.approx(1, abs=1e-12)
    noise = np.random.default_rng(0).uniform(-4, 4, (20_000, 4))
    factors = np.random.default_rng(1).integers(0, 4, (20_000, 3))
    assert score(noise, factors).score < 0.01
    assert score(noise, factors).score >= 0


def test_what_each_gap_asks_for():
    twice = np.repeat(standard(GRID), 2, axis=1)
    assert mig_sup(twice, GRID).score == pytest.approx(1, abs=1e-12)
    assert dcimig(twice, GRID).score == pytest.approx(1, abs=1e-12)
    assert rmig(twice, GRID).score == pytest.approx(0, abs=1e-12)
    merged = np.stack([GRID[:, 0] + 4 * GRID[:, 1], GRID[:, 2]], 1)
    result = mig_sup(merged, GRID)
    assert result.gaps[0] == pytest.approx((math.log(5) - math.log(4)) / math.log(20), abs=1e-12)
    assert result.best.tolist() == [1, 2]
    expected = (math.log(5) - math.log(4) + math.log(6)) / (math.log(4) + math.log(5) + math.log(6))
    assert dcimig(merged, GRID).score == pytest.approx(expected, abs=1e-12)
    # MIG does not see that the first code holds two factors; the joint entropy does.
    assert mig(merged, GRID).score == pytest.approx(1, abs=1e-12)
    values = jemmig(merged, GRID)
    np.testing.assert_allclose(values.jemmig, [math.log(5), math.log(4), 0], atol=1e-12)


def test_mig_sup_can_divide_by_the_factor_instead():
    merged = np.stack([GRID[:, 0] + 4 * GRID[:, 1], GRID[:, 2]], 1)
    result = mig_sup(merged, GRID, normalize="factors")
    np.testing.assert_allclose(result.gaps, [0, 1], atol=1e-12)
    with pytest.raises(ValueError, match="unknown normalize 'factor'"):
        mig_sup(merged, GRID, normalize="factor")


def test_jemmig_of_dead_and_of_uneven_codes_is_the_documented_floor():
    dead = jemmig(np.zeros((120, 2)), GRID, num_bins=20)
    expected = [math.log(20) / (math.log(size) + math.log(20)) for size in (4, 5, 6)]
    np.testing.assert_allclose(dead.normalized, expected, atol=1e-12)
    uneven = np.tile([[0.0], [1.0]], (60, 1))[np.argsort(GRID[:, 2] % 2, kind="stable").argsort()]
    factor = np.repeat([0, 1], 60)[:, None]
    floor = (math.log(20) - entropy(uneven[:, 0].tolist())) / (math.log(2) + math.log(20))
    assert jemmig(uneven, factor).score == pytest.approx(floor, abs=1e-12)


def test_one_code_and_one_factor():
    code = standard(GRID)[:, :1]
    for score in SCORES:
        assert score(code, GRID[:, :1]).score == pytest.approx(1, abs=1e-12)
        assert 0 <= score(code, GRID).score <= 1
        assert 0 <= score(np.ones((120, 1)), GRID).score <= 1
    assert mig_sup(np.ones((120, 2)), GRID).score == 0


@pytest.mark.parametrize("score", SCORES)
def test_labels_may_be_anything_that_tells_classes_apart(score):
    codes, factors = random_problem()
    expected = score(codes, factors).score
    gappy = np.array([-7, 100, 3, 12, 5])[factors]
    assert score(torch.from_numpy(codes), gappy).score == pytest.approx(expected, abs=1e-12)


def mass_by_hand(mean, std, low, high):
    def phi(x):
        return 0.5 * (1 + math.erf((x - mean) / std / math.sqrt(2)))

    return (phi(high) if high is not None else 1.0) - (phi(low) if low is not None else 0.0)


def test_rmig_of_posteriors_is_that_of_their_masses():
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


def test_rmig_of_narrow_posteriors_is_that_of_points_and_wide_ones_know_nothing():
    codes, factors = random_problem()
    points = rmig(codes, factors).score
    assert rmig(codes, factors, logvar=np.full(codes.shape, -60.0)).score == pytest.approx(points, abs=1e-12)
    assert rmig(codes, factors, logvar=np.full(codes.shape, -1e30)).score == pytest.approx(points, abs=1e-12)
    assert rmig(codes, factors, logvar=np.full(codes.shape, 40.0)).score == pytest.approx(0, abs=1e-12)
    assert 0.1 < rmig(standard(GRID), GRID, logvar=np.full(GRID.shape, -2.0)).score < 0.9
    assert rmig(codes * 1e6, factors, value_range=(-4e6, 4e6)).score == pytest.approx(points, abs=1e-12)


def test_rmig_of_batches_takes_their_posteriors():
    codes, factors = random_problem()
    logvar = np.random.default_rng(0).normal(-2, 1, codes.shape)
    metric = RMIG()
    for rows in np.array_split(np.arange(len(codes)), 3):
        metric.update(codes[rows], factors[rows], logvar=logvar[rows])
    assert metric.compute().score == rmig(codes, factors, logvar=logvar).score


@pytest.mark.parametrize("score", SCORES)
def test_intervals_and_plots(score):
    codes, factors = random_problem()
    result = score(codes, factors, bootstrap=20, seed=1)
    assert result.interval.low < result.score < result.interval.high
    assert result.score == score(codes, factors).score
    pytest.importorskip("matplotlib").use("Agg")
    assert result.title in result.plot().get_title(loc="left")
    assert score(np.ones((400, 2)), factors * [1, 0, 1]).plot() is not None


@pytest.mark.parametrize("score", SCORES)
def test_errors_name_the_argument(score):
    name = score.__name__
    with pytest.raises(ValueError, match=rf"{name}: codes must be finite, got nan at \[0, 0\]"):
        score([[math.nan], [1.0]], [[0], [1]])
    with pytest.raises(ValueError, match=f"{name}: factors must have a row for each of the 2 rows.*got 3"):
        score([[0.0], [1.0]], [[0], [1], [2]])
    with pytest.raises(ValueError, match=f"{name}: factors must hold a column with two values or more, got 1"):
        score([[0.0]], [[0, 1]])
    with pytest.raises(ValueError, match=f"{name}: num_bins must be .* at least 2, got 1"):
        score([[0.0], [1.0]], [[0], [1]], num_bins=1)


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
def test_rmig_names_its_arguments(options, error, message):
    with pytest.raises(error, match=message):
        rmig([[0.0], [1.0]], [[0], [1]], **options)

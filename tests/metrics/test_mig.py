"""MIG against disentanglement_lib, against its definition, and at the edges of what it is defined for."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from disentangle_ext.metrics import mig
from disentangle_ext.metrics._discrete import histogram_bins
from tests.metrics.parity import data as stored
from tests.metrics.parity import read
from tests.metrics.problems import information_by_definition, random_problem

CASES = read("mig.json")["cases"]


@pytest.mark.parametrize("num_bins", [20, 10])
@pytest.mark.parametrize("case", [name for name in CASES if "constant_factor" not in name])
def test_equals_disentanglement_lib(case, num_bins):
    arrays, result = read("mig.npz"), mig(*stored(case), num_bins=num_bins)
    assert result.score == pytest.approx(CASES[case][f"mig_{num_bins}"], abs=1e-9)
    np.testing.assert_allclose(result.gaps, CASES[case][f"gaps_{num_bins}"], rtol=0, atol=1e-9)
    information = arrays[f"{case}__mutual_information_{num_bins}"]
    np.testing.assert_allclose(result.mutual_information, information, rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.entropy, arrays[f"{case}__entropy_{num_bins}"], rtol=0, atol=1e-9)
    assert result.skipped == ()


def test_skips_the_constant_factor_where_disentanglement_lib_gives_nan():
    case = "c21_constant_factor"
    assert math.isnan(CASES[case]["mig_20"])
    codes, factors = stored(case)
    result = mig(codes, factors, factor_names=["size", "colour"])
    assert result.score == pytest.approx(CASES[case]["gaps_20"][0], abs=1e-9)
    assert result.skipped == (1,)
    assert math.isnan(result.gaps[1])
    assert result.best[1] == -1
    assert result.entropy[1] == 0
    assert "skipped, constant: colour" in str(result)
    assert result.score == mig(codes, factors[:, :1]).score


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition(seed):
    codes, factors = random_problem(seed)
    _, known, _, of_factors = information_by_definition(codes, factors, 20)
    gaps = [np.diff(sorted(column)[-2:])[0] / h for column, h in zip(zip(*known), of_factors)]
    assert mig(codes, factors).score == pytest.approx(np.mean(gaps), abs=1e-12)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(2, 40), st.integers(1, 4)), elements=st.floats(-1e6, 1e6)),
    st.integers(2, 30),
    st.data(),
)
def test_stays_in_range(codes, num_bins, data):
    values = st.integers(-5, 5)
    factors = data.draw(hnp.arrays(np.int64, (len(codes), 2), elements=values).filter(lambda f: np.ptp(f, 0).any()))
    result = mig(codes, factors, num_bins=num_bins)
    varies = np.ptp(factors, 0) > 0
    assert 0 <= result.score <= 1
    assert ((result.gaps[varies] >= 0) & (result.gaps[varies] <= 1)).all()
    assert np.isnan(result.gaps[~varies]).all()
    assert (result.mutual_information >= 0).all()
    assert (result.mutual_information <= np.minimum(result.entropy, math.log(num_bins)) + 1e-12).all()


@given(st.integers(0, 2**32 - 1))
def test_does_not_depend_on_the_order_of_rows_and_code_dimensions(seed):
    codes, factors = random_problem(seed, rows=60)
    rng = np.random.default_rng(seed)
    rows, dims = rng.permutation(len(codes)), rng.permutation(codes.shape[1])
    expected, moved = mig(codes, factors), mig(codes[rows][:, dims], factors[rows])
    assert moved.score == expected.score
    np.testing.assert_array_equal(moved.mutual_information, expected.mutual_information[dims])
    np.testing.assert_array_equal(dims[moved.best], expected.best)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(-(2**62), 2**62), min_size=5, max_size=5, unique=True))
def test_does_not_depend_on_what_factor_values_are_called(seed, names):
    codes, factors = random_problem(seed, rows=60)
    relabelled = np.array(names, np.int64)[factors]
    assert mig(codes, relabelled).score == pytest.approx(mig(codes, factors).score, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3), st.booleans(), st.floats(-100, 100))
def test_does_not_depend_on_scale_and_offset_of_codes(seed, scale, mirrored, offset):
    rng = np.random.default_rng(seed)
    # Rows well inside their bins, and the ends of the range, so that rounding moves nothing over an edge.
    codes = rng.integers(0, 20, (60, 3)) + rng.uniform(0.1, 0.9, (60, 3))
    codes[0], codes[1] = 0, 20
    factors = rng.integers(0, 4, (60, 2))
    changed = (-scale if mirrored else scale) * codes + offset
    assert mig(changed, factors).score == pytest.approx(mig(codes, factors).score, abs=1e-12)


@settings(max_examples=200)
@given(
    hnp.arrays(
        st.sampled_from([np.float32, np.float64]),
        st.integers(1, 50),
        elements=st.floats(-1000, 1000, width=32),
    ),
    st.integers(2, 40),
)
def test_bins_are_those_of_numpy_histogram(column, num_bins):
    try:
        _, edges = np.histogram(column, num_bins)
    except ValueError:  # NumPy refuses a range too narrow for that many distinct edges
        return
    bins = histogram_bins(column[:, None], num_bins)[:, 0]
    if column.min() == column.max():
        assert (bins == 0).all()
    else:
        np.testing.assert_array_equal(bins, np.digitize(column, edges[:-1]) - 1)
        assert bins.min() == 0
        assert bins.max() == num_bins - 1


@pytest.mark.parametrize(
    "column",
    [[-1.7e308, 0.0, 1.7e308], [1.0, np.nextafter(1.0, 2), 1.0], [0.0, 5e-324, 0.0]],
    ids=["widest range", "narrowest range", "subnormal range"],
)
def test_any_finite_range_can_be_binned(column):
    codes = np.array(column)[:, None]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        bins = histogram_bins(codes, 20)[:, 0]
    assert (bins >= 0).all()
    assert (bins < 20).all()
    assert mig(codes, [[0], [1], [0]]).score >= 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_on_an_edge_fall_where_numpy_puts_them(dtype):
    rng = np.random.default_rng(0)
    for low, high in np.sort(rng.normal(size=(50, 2)), axis=1).astype(dtype):
        edges = np.histogram(np.array([low, high]), 20)[1]
        assert edges.dtype == dtype
        bins = histogram_bins(edges[:, None], 20)[:, 0]
        np.testing.assert_array_equal(bins, [*range(20), 19])


@pytest.mark.parametrize("seed", range(20))
def test_rounding_takes_no_gap_above_one(seed):
    factor = np.random.default_rng(seed).integers(0, 2 + seed // 2, (150, 1))
    assert 1 - 1e-12 < mig(factor, factor).score <= 1


def test_a_perfect_code_scores_one_and_an_uninformative_one_zero():
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij"), -1).reshape(-1, 3)
    assert mig(grid, grid).score == pytest.approx(1, abs=1e-12)
    assert mig(grid[:, :1], grid[:, 1:]).score == 0
    twice = mig(np.repeat(grid, 2, axis=1), grid)
    assert twice.score == 0
    assert twice.best.tolist() == [0, 2, 4]


def test_dead_codes_change_nothing_and_one_code_competes_with_a_dead_one():
    codes, factors = random_problem()
    dead = np.hstack([np.zeros((len(codes), 1)), codes, np.full((len(codes), 2), 1.5)])
    with_dead = mig(dead, factors)
    assert with_dead.score == mig(codes, factors).score
    assert (with_dead.mutual_information[[0, -2, -1]] == 0).all()
    alone = mig(codes[:, :1], factors)
    np.testing.assert_array_equal(alone.gaps, alone.mutual_information[0] / alone.entropy)
    assert alone.score == mig(dead[:, :2], factors).score
    assert mig(dead[:, :1], factors).score == 0


def test_the_aggregate_protocol_draws_its_own_samples():
    arrays = read("aggregate_mig.npz")
    stored = read("aggregate_mig.json")["cases"]["g1_perfect"]
    mu, logvar = arrays["g1_perfect__mu"], arrays["g1_perfect__logvar"]
    factors = np.stack(np.unravel_index(np.arange(len(mu)), arrays["g1_perfect__sizes"]), 1)
    scores = [mig(mu, factors, protocol="aggregate", logvar=logvar, seed=seed).score for seed in range(5)]
    assert len(set(scores)) == 5
    assert np.mean(scores) == pytest.approx(stored["MIG"], abs=0.02)
    assert stored["disvae"] < 0.6
    few = mig(mu, factors, protocol="aggregate", logvar=logvar, queries=50, bootstrap=50)
    assert few.settings["queries"] == 50
    assert few.interval.low <= few.score <= few.interval.high


def test_tensors_and_arrays_of_any_real_type_are_taken():
    codes, factors = random_problem()
    codes = np.round(codes * 4) / 4
    expected = mig(codes, factors).score
    tensor = torch.from_numpy(codes)
    assert mig(tensor.requires_grad_(), torch.from_numpy(factors)).score == expected
    assert mig(codes, factors.astype(np.float64) * 2 - 1).score == expected
    assert mig(codes[::-1].T.copy().T, factors[::-1]).score == expected
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        half = tensor.detach().to(dtype)
        assert mig(half, factors).score == mig(half.to(torch.float32), factors).score
    whole = np.round(codes).astype(np.int64)
    assert mig(whole, factors).score == mig(whole.astype(np.float64), factors).score


def test_the_result_says_how_it_was_made():
    codes, factors = random_problem()
    result = mig(codes, factors, num_bins=12, factor_names=("a", "b", "c"))
    assert result.settings == {"protocol": "histogram", "num_bins": 12, "num_points": 400, "seed": None}
    assert result.mutual_information.shape == (4, 3)
    stored = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert stored["score"] == result.score
    assert stored["gaps"] == dict(zip("abc", result.gaps.tolist()))
    constant = mig(codes, factors * [1, 0, 1], factor_names=("a", "b", "c")).as_dict()
    assert constant["gaps"]["b"] is None
    assert constant["skipped"] == ["b"]
    json.dumps(constant, allow_nan=False)


NAN = [[0.0, math.nan], [1.0, 2.0]]


@pytest.mark.parametrize(
    ("codes", "factors", "options", "error", "message"),
    [
        (NAN, [[0], [1]], {}, ValueError, r"mig: codes must be finite, got nan at \[0, 1\]"),
        ([[0.0], [math.inf]], [[0], [1]], {}, ValueError, r"mig: codes must be finite, got inf at \[1, 0\]"),
        (
            [[0.0], [1.0]],
            [[0.0], [math.nan]],
            {},
            ValueError,
            r"mig: factors must be finite, got nan at \[1, 0\]",
        ),
        ([0.0, 1.0], [[0], [1]], {}, ValueError, r"mig: codes must be \[N, D\].*got \[2\]"),
        (np.zeros((0, 3)), np.zeros((0, 2)), {}, ValueError, r"mig: codes must be \[N, D\].*got \[0, 3\]"),
        (np.zeros((2, 0)), [[0], [1]], {}, ValueError, r"mig: codes must be \[N, D\].*got \[2, 0\]"),
        ([[0.0], [1.0]], [0, 1], {}, ValueError, r"mig: factors must be \[N, K\].*got \[2\]"),
        ([[0.0], [1.0]], np.zeros((2, 0)), {}, ValueError, r"mig: factors must be \[N, K\].*got \[2, 0\]"),
        (
            [[0.0], [1.0]],
            [[0], [1], [2]],
            {},
            ValueError,
            "mig: factors must have a row for each of the 2 rows.*got 3",
        ),
        ([[0.0]], [[0, 1]], {}, ValueError, "mig: factors must hold a column with two values or more, got 1"),
        (
            [[0.0], [1.0]],
            [[3], [3]],
            {},
            ValueError,
            "mig: factors must hold a column with two values or more, got 2",
        ),
        ([[1j], [2]], [[0], [1]], {}, TypeError, "mig: codes must be real numbers, got complex128"),
        ([[0.0], [1.0]], [["a"], ["b"]], {}, TypeError, "mig: factors must be numbers, got <U1"),
        (
            [[0.0], [1.0]],
            [[0], [1]],
            {"num_bins": 1},
            ValueError,
            "mig: num_bins must be .* at least 2, got 1",
        ),
        ([[0.0], [1.0]], [[0], [1]], {"num_bins": 2.5}, ValueError, "mig: num_bins must be .* got 2.5"),
        (
            [[0.0], [1.0]],
            [[0], [1]],
            {"factor_names": "ab"},
            ValueError,
            "mig: factor_names must be 1 distinct",
        ),
        (
            [[0.0], [1.0]],
            [[0], [1]],
            {"protocol": "histogran"},
            ValueError,
            "'histogran'.*mean 'histogram'.*known",
        ),
        ([[0.0], [1.0]], [[0], [1]], {"protocol": "aggregate"}, ValueError, "mig: logvar must be given"),
        ([[0.0], [1.0]], [[0], [1]], {"logvar": [[0.0], [1.0]]}, ValueError, "mig: logvar is of the aggregate"),
    ],
)
def test_errors_name_the_argument(codes, factors, options, error, message):
    with pytest.raises(error, match=message):
        mig(codes, factors, **options)


def test_the_study_size_takes_milliseconds():
    codes, factors = stored("c20_standard_10k")
    assert codes.shape == (10_000, 10)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        mig(codes, factors)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.05

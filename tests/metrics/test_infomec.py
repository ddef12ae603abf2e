"""InfoMEC against the programs of its authors, scikit-learn's estimator, and at its edges."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from disentangle_ext.metrics import infomec
from tests.metrics.parity import data, read

pytest.importorskip("sklearn")

CASES = read("information.json")["cases"]
THEIRS = [(case, estimator) for case in CASES for estimator in CASES[case]["hsu"]]


def random_problem(seed=0, rows=400, sizes=(3, 5, 4)):
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, rows) for size in sizes], 1)
    return factors + 0.3 * rng.normal(size=factors.shape), factors


@pytest.mark.parametrize(("case", "estimator"), THEIRS)
def test_equals_the_authors_programs(case, estimator):
    theirs = CASES[case]["hsu"][estimator]
    result = infomec(*data(case), estimator=estimator)
    assert result.active.tolist() == theirs["active"]
    # Their logistic regression is another version's, with other steps towards an optimum at infinity.
    assert result.explicitness == pytest.approx(theirs["infoe"], abs=1e-3)
    drawn = "nmi" not in theirs
    if not drawn:
        np.testing.assert_allclose(result.normalized.T, theirs["nmi"], rtol=0, atol=1e-9)
    for name in ("infom", "infoc"):
        ours = {"infom": result.modularity, "infoc": result.compactness}[name]
        if math.isnan(theirs[name]):
            assert 0 <= ours <= 1
        else:
            assert ours == pytest.approx(theirs[name], abs=0.025 if drawn else 1e-9)


def test_a_dimension_without_information_gives_a_number_where_the_programs_give_nan():
    case = "c12_small_float32"
    assert math.isnan(CASES[case]["hsu"]["knn"]["infom"])
    result = infomec(*data(case))
    silent = result.normalized.sum(1) == 0
    assert silent.sum() == 1
    share = result.normalized[~silent].max(1) / result.normalized[~silent].sum(1)
    expected = ((share.sum() + 1 / 3) / 6 - 1 / 3) / (1 - 1 / 3)
    assert result.modularity == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("neighbors", [1, 3, 10])
def test_the_estimate_is_that_of_scikit_learn(neighbors):
    selection = pytest.importorskip("sklearn.feature_selection")
    rng = np.random.default_rng(neighbors)
    factors = rng.integers(0, 4, (300, 2))
    factors[0, 0] = 9  # a class of a single row
    codes = factors + rng.normal(0, 0.5, (300, 2))
    result = infomec(codes, factors, neighbors=neighbors)
    for k in range(2):
        counts = np.unique(factors[:, k], return_counts=True)[1]
        entropy = -float(counts / 300 @ np.log(counts / 300))
        theirs = selection.mutual_info_classif(codes, factors[:, k], n_neighbors=neighbors, random_state=0) / entropy
        np.testing.assert_allclose(result.normalized[:, k], theirs, atol=1e-9)


def test_noise_on_equal_codes_is_drawn_from_the_seed():
    factors = random_problem()[1]
    first, again, other = (infomec(factors.astype(float), factors, seed=seed) for seed in (0, 0, 1))
    assert first.as_dict() == again.as_dict()
    assert first.modularity != other.modularity
    assert first.modularity > 0.9


def test_a_perfect_code_scores_one_and_noise_its_floor():
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij"), -1).reshape(-1, 3)
    quantized = infomec(grid, grid, estimator="discrete")
    assert (quantized.modularity, quantized.compactness) == (1, 1)
    assert quantized.explicitness > 0.999
    codes, factors = random_problem(rows=2000)
    codes = factors + 0.01 * (codes - factors)
    result = infomec(codes, factors, max_iter=1000)
    assert min(result.modularity, result.compactness, result.explicitness) > 0.95
    noise = infomec(np.random.default_rng(0).normal(size=(2000, 5)), factors)
    assert 0 <= noise.explicitness < 0.02
    assert 0 <= noise.modularity < 0.75
    # Shares of what little chance leaves are not small: the information itself is.
    assert noise.normalized.max() < 0.03


def test_pruning():
    codes, factors = random_problem()
    rng = np.random.default_rng(0)
    still = 0.01 * rng.normal(size=(400, 1))
    rare = np.where(rng.random((400, 1)) < 0.1, 3.0 * rng.random((400, 1)), 0.01 * still)
    wide = np.hstack([codes, still, rare, np.ones((400, 1))])
    expected = {"iqr": [1, 1, 1, 0, 0, 0], "range": [1, 1, 1, 0, 1, 0], "none": [1, 1, 1, 1, 1, 0]}
    for prune, active in expected.items():
        result = infomec(wide, factors, prune=prune)
        assert result.active.tolist() == [bool(each) for each in active]
        assert 0 <= result.modularity <= 1
    assert infomec(wide, factors).modularity == infomec(codes, factors).modularity


def test_dead_codes_constant_factors_one_code_and_one_factor():
    codes, factors = random_problem()
    dead = infomec(np.full((400, 3), 0.5), factors)
    assert (dead.modularity, dead.explicitness, dead.compactness) == (0, 0, 0)
    skipped = infomec(codes, factors * [1, 0, 1], factor_names=["a", "b", "c"])
    assert skipped.skipped == (1,)
    assert math.isnan(skipped.by_factor_explicitness[1])
    assert "skipped, constant: b" in str(skipped)
    json.dumps(skipped.as_dict(), allow_nan=False)
    one_code = infomec(codes[:, :1], factors)
    assert one_code.compactness == pytest.approx((infomec(codes, factors).normalized[0] > 0).mean())
    one_factor = infomec(codes, factors[:, :1])
    assert one_factor.modularity == (one_factor.normalized[:, 0] > 0).mean()


def test_few_rows_give_numbers():
    for rows in (2, 3, 5):
        codes = np.arange(rows, dtype=float)[:, None] * [1, -1]
        result = infomec(codes, np.arange(rows)[:, None] % 2)
        assert 0 <= result.modularity <= 1
        assert 0 <= result.explicitness <= 1


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    assert "InfoE" in infomec(*random_problem()).plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "knnn"}, "infomec: unknown estimator 'knnn'"),
        ({"prune": "iqrr"}, "infomec: unknown prune 'iqrr'"),
        ({"neighbors": 0}, "infomec: neighbors must be an integer of at least 1, got 0"),
        ({"max_iter": 0}, "infomec: max_iter must be an integer of at least 1, got 0"),
        ({"codes": [[math.nan], [0.0]], "factors": [[0], [1]]}, "infomec: codes must be finite"),
        ({"factors": np.zeros((400, 2))}, "infomec: factors must hold a column with two values or more"),
    ],
)
def test_errors_name_the_argument(options, message):
    codes, factors = random_problem()
    with pytest.raises(ValueError, match=message):
        infomec(**{"codes": codes, "factors": factors, **options})

"""SAP by its three ways to predict a factor, and at the scales where its solver would not return."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from disentangle_ext.metrics import sap
from tests.metrics.parity import data, read
from tests.metrics.problems import random_problem

sklearn_svm = pytest.importorskip("sklearn.svm")


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_matrix_is_that_of_disentanglement_lib(continuous):
    case = "c16_correlated_unbalanced"
    stored = read("classical.json")["cases"][case]["sap_matrix_continuous" if continuous else "sap_matrix_discrete"]
    np.testing.assert_allclose(sap(*data(case), continuous=continuous).predictability, stored, rtol=0, atol=1e-3)


def test_the_support_vector_machine_learns_from_the_first_rows_and_is_scored_on_the_last():
    codes, factors = random_problem()
    result = sap(codes, factors, test_share=0.25, seed=3)
    for d, k in itertools.product(range(4), range(3)):
        model = sklearn_svm.LinearSVC(C=0.01, class_weight="balanced", random_state=3)
        model.fit(codes[:300, [d]], factors[:300, k])
        accuracy = np.mean(model.predict(codes[300:, [d]]) == factors[300:, k])
        assert result.predictability[d, k] == pytest.approx(accuracy, abs=1e-12)
    ranked = np.sort(result.predictability, axis=0)
    np.testing.assert_array_equal(result.gaps, ranked[-1] - ranked[-2])
    assert result.score == pytest.approx(result.gaps.mean())


def test_continuous_factors_are_predicted_by_a_line_on_the_training_rows():
    codes, factors = random_problem()
    values = factors + 0.25
    result = sap(codes, values, continuous=True, test_share=0.25)
    expected = np.corrcoef(codes[:300].T, values[:300].T)[:4, 4:] ** 2
    np.testing.assert_allclose(result.predictability, expected, atol=1e-12)
    assert result.settings["predictor"] == "line"


def best_balanced_accuracy(code, labels):
    """Every set of thresholds between the values, and every way to name the intervals."""
    classes, values = np.unique(labels), np.unique(code)
    between, best = (values[1:] + values[:-1]) / 2, 0.0
    for count in range(len(classes)):
        for thresholds in itertools.combinations(between, count):
            interval = np.searchsorted(thresholds, code)
            for names in itertools.product(classes, repeat=count + 1):
                named = np.array(names)[interval]
                best = max(best, np.mean([np.mean(named[labels == each] == each) for each in classes]))
    return best


@pytest.mark.parametrize("seed", range(12))
def test_thresholds_are_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    codes = np.round(rng.normal(size=(9, 3)), seed % 2)  # with equal codes, which no threshold parts
    factors = np.stack([rng.integers(0, size, 9) for size in (2, 3)], 1)
    result = sap(codes, factors, predictor="thresholds")
    expected = [[best_balanced_accuracy(code, labels) for labels in factors.T] for code in codes.T]
    np.testing.assert_allclose(result.predictability, expected, atol=1e-12)
    ranked = np.sort(expected, axis=0)
    assert result.score == pytest.approx(np.mean(ranked[-1] - ranked[-2]))


def test_thresholds_read_what_the_support_vector_machine_does_not():
    grid = np.stack(np.meshgrid(np.arange(12), np.arange(10), np.arange(5), indexing="ij"), -1).reshape(-1, 3)
    result = sap(grid, grid, predictor="thresholds")
    np.testing.assert_allclose(np.diag(result.predictability), 1, atol=1e-12)
    # A dimension that knows nothing of a factor names one class everywhere.
    np.testing.assert_allclose(result.gaps, 1 - 1 / np.array([12, 10, 5]), atol=1e-12)
    shuffled = sap(grid, grid, shuffle=True)
    assert shuffled.score < 0.6
    assert result.settings["test_share"] == 0


def test_thresholds_mind_neither_order_nor_monotone_changes_nor_how_many_rows_a_class_has():
    codes, factors = random_problem(rows=120)
    expected = sap(codes, factors, predictor="thresholds")
    order = np.random.default_rng(1).permutation(120)
    moved = sap(np.exp(codes[order][:, ::-1]), factors[order], predictor="thresholds")
    np.testing.assert_allclose(moved.predictability[::-1], expected.predictability, atol=1e-12)
    first = np.flatnonzero(factors[:, 0] == 0)
    repeated = np.concatenate([np.arange(120), first, first])
    more = sap(codes[repeated], factors[repeated, :1], predictor="thresholds")
    np.testing.assert_allclose(more.predictability, expected.predictability[:, :1], atol=1e-12)


@pytest.mark.parametrize("options", [{"predictor": "thresholds"}, {"continuous": True}])
def test_a_dead_dimension_predicts_nothing_and_a_single_one_competes_with_it(options):
    codes, factors = random_problem()
    dead = np.hstack([codes, np.full((400, 1), 2.0), 1e-7 * codes[:, :1]])
    result = sap(dead, factors, **options)
    assert (result.predictability[4:] == 0).all()
    assert result.score == sap(codes, factors, **options).score
    alone = sap(codes[:, :1], factors, **options)
    np.testing.assert_array_equal(alone.gaps, alone.predictability[0])


def test_constant_factors_are_skipped():
    codes, factors = random_problem()
    for options in ({}, {"predictor": "thresholds"}, {"continuous": True}):
        result = sap(codes, factors * [1, 0, 1], factor_names=["a", "b", "c"], **options)
        assert result.skipped == (1,)
        assert math.isnan(result.gaps[1])
        assert result.score == pytest.approx(result.gaps[[0, 2]].mean())
        assert json.loads(json.dumps(result.as_dict(), allow_nan=False))["gaps"]["b"] is None


# Where the classes of the training rows are in balance, nothing but the codes has a gradient, and its square may be 0.
TINY = """
    import resource
    import warnings
    import numpy as np
    from disentangle_ext.metrics import sap

    resource.setrlimit(resource.RLIMIT_CPU, (40, 40))
    warnings.simplefilter("ignore")
    for labels in ([0, 1, 0, 1, 0], [1, 0, 1, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 1, 0, 1, 1]):
        factors = np.array(labels)[:, None]
        codes = np.random.default_rng(0).normal(size=(len(labels), 1))
        expected = sap(codes * 1e-30, factors).predictability
        for scale in (1e-165, 1e-300):
            assert (sap(codes * scale, factors).predictability == expected).all()
        outlier, cancels = codes.copy(), codes * 1e-165
        outlier[-1] = 1.7e308
        cancels[labels.index(0)] = cancels[labels.index(1)] = 1
        for table in (outlier, cancels, codes * 5e-324):
            assert 0 <= sap(table, factors).score <= 1
"""


@pytest.mark.forks
def test_codes_whose_squares_vanish_are_scored_as_small_ones():
    # In a process that the system ends: liblinear loops in C, where no signal reaches Python.
    subprocess.run([sys.executable, "-c", textwrap.dedent(TINY)], check=True, timeout=600)


def test_codes_far_out_are_scaled_down():
    codes, factors = random_problem()
    expected = sap(codes / np.abs(codes).max(0) * 1e6, factors).predictability
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(sap(codes * 1e300, factors).predictability, expected, atol=0.05)


def test_the_plot_says_what_it_shows():
    pytest.importorskip("matplotlib").use("Agg")
    codes, factors = random_problem(rows=60)
    for options, score in (({}, "accuracy"), ({"predictor": "thresholds"}, "balanced accuracy")):
        title = sap(codes, factors, **options).plot().get_title(loc="left")
        assert title.startswith("SAP")
        assert title.replace("\n", " ").endswith(f": {score}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "threshold"}, "sap: unknown predictor 'threshold': did you mean 'thresholds'"),
        (
            {"predictor": "thresholds", "continuous": True},
            "sap: predictor must be left out for continuous factors, got 'thresholds'",
        ),
        ({"test_share": 1.5}, "sap: test_share must be"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        sap(*random_problem(), **options)

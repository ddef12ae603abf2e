"""DCI by its formulas and predictors, and at the scales and class counts that scikit-learn warns of."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from disentangle_ext.metrics import FactorResult, dci
from disentangle_ext.metrics.suite import score_all
from tests.metrics.parity import data, read
from tests.metrics.problems import random_problem, standard

ensemble = pytest.importorskip("sklearn.ensemble")

CASES = {case: values for case, values in read("classical.json")["cases"].items() if "dci_gbt" in values}


def separated(seed=0, rows=200):
    """Codes of which the first two hold a factor each, with little noise."""
    codes, factors = random_problem(seed, rows, dims=3, sizes=(3, 5))
    codes[:, :2] += 2 * factors
    return codes, factors


def concentration(weights):
    """1 less the entropy of the shares, in units of that of equal ones, in plain Python."""
    shares = [weight / sum(weights) for weight in weights if weight > 0]
    return 1 + sum(share * math.log(share) for share in shares) / math.log(len(weights))


def test_the_scores_are_those_of_the_importances():
    codes, factors = separated()
    result = dci(codes, factors, predictor="fast")
    rows, columns = result.importance.tolist(), result.importance.T.tolist()
    by_code, by_factor = [concentration(row) for row in rows], [concentration(column) for column in columns]
    np.testing.assert_allclose(result.disentanglement_by_code, by_code, atol=1e-12)
    np.testing.assert_allclose(result.completeness_by_factor, by_factor, atol=1e-12)
    weights = [sum(row) for row in rows]
    assert result.score == pytest.approx(sum(w * d for w, d in zip(weights, by_code)) / sum(weights), abs=1e-12)
    assert result.completeness == pytest.approx(np.mean(by_factor), abs=1e-12)


def test_importances_and_accuracies_are_those_of_the_predictor():
    codes, factors = separated()
    result = dci(codes, factors, predictor="forest", seed=4)
    random = np.random.RandomState(4)
    for k in range(2):
        model = ensemble.RandomForestClassifier(
            criterion="entropy", max_depth=10, max_features=None, random_state=random
        ).fit(codes[:160], factors[:160, k])
        np.testing.assert_allclose(result.importance[:, k], model.feature_importances_, atol=1e-12)
        assert result.informativeness_by_factor[k] == model.score(codes[160:], factors[160:, k])
    assert result.informativeness_test == pytest.approx(result.informativeness_by_factor.mean())
    assert result.informativeness_train == pytest.approx(1)


@pytest.mark.parametrize("predictor", ["fast", "forest", "lasso"])
def test_a_perfect_code_scores_one(predictor):
    factors = separated()[1]
    result = dci(standard(factors), factors, predictor=predictor)
    assert result.score > 0.95
    assert result.completeness > 0.95
    assert result.informativeness_test > 0.95
    assert result.predictor == predictor


def test_the_importances_are_those_of_disentanglement_lib():
    case = "c18_binary_xor"
    np.testing.assert_allclose(dci(*data(case)).importance, CASES[case]["dci_gbt"]["importance_matrix"], atol=1e-9)


def test_fast_trees_are_close_to_the_reference():
    differences = []
    for case, values in CASES.items():
        if case != "c20_standard_10k":
            ours = dci(*data(case), predictor="fast").score
            differences.append(abs(ours - values["dci_gbt"]["disentanglement"]))
    assert len(differences) == 9
    assert np.mean(differences) <= 0.05


def test_a_forest_scores_as_in_tripod_only_with_its_choice_of_dimensions():
    case = "c06_dead_dims_exact"
    assert dci(*data(case), predictor="forest_sqrt").score == pytest.approx(CASES[case]["dci_tripod"]["D"], abs=0.05)
    assert dci(*data(case), predictor="forest").score > 0.99


@pytest.mark.parametrize("case", ["c01_perfect_dsprites", "c06_dead_dims_exact", "c14_circular"])
def test_lasso_is_close_to_that_of_ubisoft(case):
    theirs = read("classical.json")["cases"][case]["dci_lasso_ubisoft"]
    assert dci(*data(case), predictor="lasso").score == pytest.approx(theirs[0], abs=0.05)


def fast_without_warnings(codes, factors):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = score_all(codes, factors, metrics=["dci_fast"])["dci_fast"]
    assert isinstance(result, FactorResult)
    return result


def test_codes_whose_sum_float32_cannot_hold_are_scored_without_a_warning():
    codes, factors = separated()
    expected = fast_without_warnings(codes, factors)
    for scale in (1e38, 1.5e306):
        signs = codes - codes.mean(0)
        np.testing.assert_array_equal(
            fast_without_warnings(signs * scale, factors).importance, fast_without_warnings(signs, factors).importance
        )
    assert fast_without_warnings(codes * [1, 1e300, 1], factors).score == pytest.approx(expected.score, abs=1e-6)


def test_factors_with_a_class_for_most_rows_are_scored_without_a_warning():
    rng = np.random.default_rng(0)
    codes, factors = rng.normal(size=(45, 3)), np.stack([np.arange(45) % 40, np.arange(45) % 3], 1)
    assert 0 <= fast_without_warnings(codes, factors).score <= 1


def test_constant_factors_are_skipped_and_one_of_anything_has_nothing_to_share():
    codes, factors = separated()
    result = dci(codes, factors * [1, 0], predictor="fast", factor_names=["a", "b"])
    assert result.skipped == (1,)
    assert math.isnan(result.completeness_by_factor[1])
    assert (result.importance[:, 1] == 0).all()
    assert "skipped, constant: b" in str(result)
    assert result.score == 1  # of one factor
    assert dci(codes[:, :1], factors, predictor="fast").completeness == 1
    dead = dci(np.ones((200, 2)), factors, predictor="fast")
    assert (dead.score, dead.completeness) == (0, 0)


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    assert "DCI disentanglement" in dci(*separated(rows=50), predictor="lasso").plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predictor": "tree"}, "dci: unknown predictor 'tree'"),
        ({"test_share": 1.0}, "dci: test_share must be"),
        ({"codes": np.eye(5), "factors": np.eye(5), "predictor": "lasso"}, "dci: codes must have 5 training rows"),
        ({"factors": np.zeros((200, 2))}, "dci: factors must hold a column with two values or more"),
    ],
)
def test_errors_name_the_argument(options, message):
    codes, factors = separated()
    with pytest.raises(ValueError, match=message):
        dci(**{"codes": codes, "factors": factors, **options})

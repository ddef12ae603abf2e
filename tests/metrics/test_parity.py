"""Our metrics against what public codes return, and the named errors of those codes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from disentangle_ext.metrics import beta_vae_score, dci, factor_vae_score, irs, mig, sap
from tests.metrics.parity import SLOW, comparisons, data, largest, read

SKIPPED = () if os.environ.get("PARITY_SLOW") else SLOW

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("comparison", comparisons(SKIPPED), ids=lambda each: each.metric)
def test_equals_the_peer(comparison):
    count, worst, where = largest(comparison)
    assert count >= 8
    assert worst <= comparison.tolerance, where


def test_the_sap_matrix_is_that_of_disentanglement_lib():
    case = "c16_correlated_unbalanced"
    stored = read("classical.json")["cases"][case]
    for continuous, key in ((False, "sap_matrix_discrete"), (True, "sap_matrix_continuous")):
        ours = sap(*data(case), continuous=continuous).predictability
        np.testing.assert_allclose(ours, stored[key], rtol=0, atol=1e-3)


def test_the_importances_are_those_of_disentanglement_lib():
    case = "c18_binary_xor"
    ours = dci(*data(case)).importance
    np.testing.assert_allclose(ours, read("classical.json")["cases"][case]["dci_gbt"]["importance_matrix"], atol=1e-9)


def test_fast_trees_are_close_to_the_reference():
    differences = []
    for case, values in read("classical.json")["cases"].items():
        if case != "c20_standard_10k" and "dci_gbt" in values:
            ours = dci(*data(case), predictor="fast").score
            differences.append(abs(ours - values["dci_gbt"]["disentanglement"]))
    assert len(differences) == 9
    assert np.mean(differences) <= 0.05


def test_a_forest_scores_as_in_tripod_only_with_its_choice_of_dimensions():
    case = "c06_dead_dims_exact"
    theirs = read("classical.json")["cases"][case]["dci_tripod"]["D"]
    assert dci(*data(case), predictor="forest_sqrt").score == pytest.approx(theirs, abs=0.05)
    assert dci(*data(case), predictor="forest").score > 0.99


@pytest.mark.parametrize("case", ["c01_perfect_dsprites", "c06_dead_dims_exact", "c14_circular"])
def test_lasso_is_close_to_that_of_ubisoft(case):
    theirs = read("classical.json")["cases"][case]["dci_lasso_ubisoft"]
    assert dci(*data(case), predictor="lasso").score == pytest.approx(theirs[0], abs=0.05)


def test_binning_the_factors_again_spoils_a_perfect_code():
    codes, factors = data("c01_perfect_dsprites")
    assert irs(codes, factors).score == pytest.approx(1, abs=1e-12)
    assert irs(codes, factors, factor_bins=20).score == pytest.approx(0.985, abs=1e-3)


def test_an_exactly_dead_dimension_wins_no_vote():
    codes, sizes = read("sampled.npz")["S1__perfect_plus_exactly_dead"], read("sampled.json")["sizes"]["S1"]
    factors = np.stack(np.unravel_index(np.arange(len(codes)), sizes), 1)
    theirs = read("sampled.json")["results"]["S1__perfect_plus_exactly_dead"]["factor_vae_0"]["eval_accuracy"]["mean"]
    assert theirs == pytest.approx(0.25, abs=0.02)
    for threshold in (0, 0.05):
        result = factor_vae_score(codes, factors, num_train=500, num_test=200, prune_threshold=threshold)
        assert result.score == 1
        assert len(result.active) == 4
    assert beta_vae_score(codes, factors, num_train=500, num_test=200).score == 1


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

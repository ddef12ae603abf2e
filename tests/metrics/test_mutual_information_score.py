"""The mean pairwise mutual information against disentanglement_lib and on codes that determine each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from disentangle_ext.metrics import mutual_information_score
from tests.metrics.checks import OF_CODES_ALONE
from tests.metrics.parity import data, read
from tests.metrics.problems import GRID

CASES = read("information.json")["cases"]


@pytest.mark.parametrize("check", OF_CODES_ALONE, ids=lambda check: check.__name__)
def test_as_every_score_of_codes_alone(check):
    check(mutual_information_score)


@pytest.mark.parametrize("num_bins", [10, 20])
@pytest.mark.parametrize("case", CASES)
def test_equals_disentanglement_lib(case, num_bins):
    expected = CASES[case]["dlib"][f"mutual_info_score_{num_bins}"]
    assert mutual_information_score(data(case)[0], num_bins=num_bins).score == pytest.approx(expected, rel=1e-9)


def test_dead_dimensions_share_nothing_with_the_others():
    table = data("c06_dead_dims_exact")[0]
    live = mutual_information_score(table[:, [0, 2, 5, 6]]).score
    assert mutual_information_score(table).score == pytest.approx(live * (4 * 3) / (8 * 7))


def test_pairs_of_bins_that_determine_each_other_share_their_entropy():
    classes = np.repeat(np.arange(8), 5)[:, None]
    assert mutual_information_score(np.hstack([classes, -classes])).score == pytest.approx(math.log(8))


def test_independent_codes_and_a_single_dimension_score_zero():
    assert mutual_information_score(GRID).score == pytest.approx(0, abs=1e-12)
    assert mutual_information_score(GRID[:, :1]).score == 0


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="mutual_information_score: num_bins must be .* got 1"):
        mutual_information_score([[0.0], [1.0]], num_bins=1)

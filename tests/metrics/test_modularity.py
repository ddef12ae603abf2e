"""Modularity against its definition, and what becomes of dead dimensions."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_ext.metrics import modularity
from tests.metrics.problems import GRID, information_by_definition, random_problem, standard


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_definition(seed):
    codes, factors = random_problem(seed)
    _, known, _, _ = information_by_definition(codes, factors, 7)
    by_code = []
    for row in known:
        others = sorted(row)[:-1]
        by_code.append(1 - sum(value**2 for value in others) / (max(row) ** 2 * (len(row) - 1)))
    result = modularity(codes, factors, num_bins=7)
    np.testing.assert_allclose(result.by_code, by_code, atol=1e-12)
    np.testing.assert_allclose(result.mutual_information, known, atol=1e-12)
    assert result.score == pytest.approx(np.mean(by_code), abs=1e-12)


def test_it_asks_that_a_dimension_knows_one_factor_and_not_that_no_other_does():
    assert modularity(standard(GRID), GRID).score == pytest.approx(1, abs=1e-12)
    assert modularity(np.repeat(standard(GRID), 2, axis=1), GRID).score == pytest.approx(1, abs=1e-12)
    merged = modularity(np.stack([GRID[:, 0] + 4 * GRID[:, 1], GRID[:, 2]], 1), GRID)
    # The first dimension knows log 4 nats of one factor and log 5 of another.
    expected = 1 - np.log(4) ** 2 / (np.log(5) ** 2 * 2)
    np.testing.assert_allclose(merged.by_code, [expected, 1], atol=1e-12)


def test_a_dead_dimension_counts_zero_or_not_at_all():
    codes = np.hstack([standard(GRID), np.ones((120, 1))])
    counted, left_out = (modularity(codes, GRID, dead_codes=each) for each in ("zero", "skip"))
    assert counted.score == pytest.approx(3 / 4, abs=1e-12)
    assert left_out.score == pytest.approx(1, abs=1e-12)
    assert counted.dead == left_out.dead == (3,)
    assert counted.by_code[3] == 0
    assert np.isnan(left_out.by_code[3])
    assert modularity(np.ones((120, 2)), GRID, dead_codes="skip").score == 0


def test_constant_factors_are_skipped_and_one_factor_has_no_others():
    codes, factors = random_problem()
    result = modularity(codes, factors * [1, 0, 1], factor_names=["a", "b", "c"])
    assert result.skipped == (1,)
    assert result.score == pytest.approx(modularity(codes, factors[:, [0, 2]]).score, abs=1e-12)
    assert modularity(codes, factors[:, :1]).score == 1


def test_plot():
    pytest.importorskip("matplotlib").use("Agg")
    assert "Modularity" in modularity(*random_problem(rows=60)).plot().get_title(loc="left")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bins": 1}, "modularity: num_bins must be an integer of at least 2, got 1"),
        ({"dead_codes": "nan"}, "modularity: unknown dead_codes 'nan'"),
    ],
)
def test_errors_name_the_argument(options, message):
    with pytest.raises(ValueError, match=message):
        modularity(*random_problem(rows=20), **options)

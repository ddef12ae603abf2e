"""Whatever codes and factors come, a metric gives a number in its range or one clear error.

DISENTANGLE_EXT_EXAMPLES is the number of tables that each metric in closed form is tried on, and a hundredth of it that
of those that fit a model.
"""

from __future__ import annotations

import json
import math
import os
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disentangle_ext.metrics import (
    active_units,
    dci_es,
    dcimig,
    downstream,
    gaussian_total_correlation,
    independence,
    infomec,
    jemmig,
    linear_symmetry,
    lsbd,
    mig_sup,
    mutual_information_score,
    rmig,
    udr,
    wasserstein_correlation,
)

EXAMPLES = int(os.environ.get("DISENTANGLE_EXT_EXAMPLES", "60"))
WITH_FACTORS = [mig_sup, dcimig, jemmig, rmig, linear_symmetry, independence, lsbd]
ALONE = [gaussian_total_correlation, wasserstein_correlation, mutual_information_score, active_units]
CLOSED = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
FITTED = settings(CLOSED, max_examples=max(10, EXAMPLES // 100))

VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 1e-320, 1e-300, 1e300, -1.7e308, 1e-8, 3.0]),
    st.floats(-10, 10),
)
BROKEN = st.sampled_from([math.nan, math.inf, -math.inf])


@st.composite
def columns(draw, rows, values, kinds=("dead", "few", "any", "copy")):
    """A table [rows, 1 to 4] of columns that are constant, of few values, of any values, or copies."""
    made = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(kinds if made else [each for each in kinds if each != "copy"]))
        if kind == "dead":
            made.append(np.full(rows, draw(values)))
        elif kind == "few":
            chosen = draw(st.lists(values, min_size=2, max_size=3))
            made.append(np.array(chosen)[np.array(draw(st.lists(st.integers(0, 1), min_size=rows, max_size=rows)))])
        elif kind == "copy":
            made.append(made[0])
        else:
            made.append(np.array(draw(st.lists(values, min_size=rows, max_size=rows))))
    return np.stack(made, 1)


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 14))
    codes = draw(columns(rows, VALUES))
    factors = draw(columns(rows, st.integers(-3, 6).map(float)))
    if draw(st.integers(0, 9)) == 0:
        codes[draw(st.integers(0, rows - 1)), 0] = draw(BROKEN)
    if draw(st.integers(0, 9)) == 0:
        factors = factors[: rows - 1]
    return codes, factors


def check(name, call):
    """A score in its range, no warning, and no NaN that JSON would trip over; or an error that names the metric."""
    message = None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = call()
        except ValueError as error:
            message = str(error)
    if message is not None:
        assert message.startswith(name)
        assert ": " in message
        return
    low, high = result.bounds
    assert low <= result.score <= high
    assert math.isfinite(result.score)
    stored = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert stored["score"] == result.score
    assert result.title in str(result)


@pytest.mark.parametrize("score", WITH_FACTORS, ids=lambda score: score.__name__)
def test_of_codes_and_factors(score):
    @CLOSED
    @given(tables())
    def every(table):
        check(score.__name__, lambda: score(*table))

    every()


@pytest.mark.parametrize("score", ALONE, ids=lambda score: score.__name__)
def test_of_codes(score):
    @CLOSED
    @given(tables())
    def every(table):
        check(score.__name__, lambda: score(table[0]))

    every()


@pytest.mark.parametrize("score", [infomec, downstream, dci_es], ids=lambda score: score.__name__)
def test_of_fitted_models(score):
    pytest.importorskip("sklearn")
    options = {downstream: {"train_sizes": (1, 5)}, dci_es: {"features": (0, 4)}}.get(score, {})

    @FITTED
    @given(tables())
    def every(table):
        check(score.__name__, lambda: score(*table, **options))

    every()


@pytest.mark.parametrize("similarity", ["lasso", "spearman"])
def test_of_pairs_of_models(similarity):
    pytest.importorskip("sklearn")

    @FITTED
    @given(tables())
    def every(table):
        check("udr", lambda: udr(list(table), similarity=similarity))

    every()

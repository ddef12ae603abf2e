"""Whatever finite numbers come, each metric gives a score in its range or one error that names the argument.

DISENTANGLE_EXT_EXAMPLES is the number of examples of each closed-form metric; a fitted one gets a hundredth, at least
ten.
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
from hypothesis.extra import numpy as hnp

from disentangle_ext import metrics

EXAMPLES = int(os.environ.get("DISENTANGLE_EXT_EXAMPLES", "100"))
SAMPLED = {"num_train": 20, "num_test": 10, "batch_size": 4}
CLOSED = {
    "mig": {},
    "modularity": {},
    "sap, continuous": {"continuous": True},
    "irs": {},
    "factor_vae_score": {**SAMPLED, "num_variance": 20},
}
FITTED = {
    "sap": {},
    "explicitness": {},
    "explicitness, one_vs_rest": {"variant": "one_vs_rest"},
    "beta_vae_score": SAMPLED,
    "dci, fast": {"predictor": "fast"},
    "dci, forest": {"predictor": "forest"},
    "dci, lasso": {"predictor": "lasso"},
}


@st.composite
def problems(draw):
    rows, dims, count = draw(st.integers(1, 30)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    scale = draw(st.sampled_from([1.0, 1e-30, 1e30, 1.7e308]))
    dtype = draw(st.sampled_from([np.float32, np.float64])) if scale < 1e38 else np.float64
    codes = draw(hnp.arrays(np.float64, (rows, dims), elements=st.floats(-1, 1)))
    codes = (codes * scale).astype(dtype)
    factors = draw(hnp.arrays(np.int64, (rows, count), elements=st.sampled_from([-(2**40), -3, 0, 1, 2, 9, 2**40])))
    dead = draw(st.lists(st.integers(0, dims - 1), max_size=2))
    codes[:, dead] = draw(st.sampled_from([0.0, 1.5, -1e30]))
    if draw(st.integers(0, 9)) == 0:
        codes[draw(st.integers(0, rows - 1)), 0] = draw(st.sampled_from([math.nan, math.inf]))
    return codes, factors


def check(name, options, codes, factors):
    function = getattr(metrics, name.partition(",")[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        warnings.filterwarnings("ignore", module="sklearn")
        warnings.filterwarnings("ignore", module="scipy")
        try:
            result = function(codes, factors, **options)
        except ValueError as error:
            if not str(error).startswith(f"{function.__name__}: "):
                raise
            return
    low, high = result.bounds
    assert low <= result.score <= high
    json.dumps(result.as_dict(), allow_nan=False)
    assert str(result)


@pytest.mark.parametrize("name", CLOSED)
def test_closed_form_metrics(name):
    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(problems())
    def each(problem):
        check(name, CLOSED[name], *problem)

    each()


@pytest.mark.parametrize("name", FITTED)
def test_fitted_metrics(name):
    @settings(max_examples=max(10, EXAMPLES // 100), deadline=None, suppress_health_check=list(HealthCheck))
    @given(problems())
    def each(problem):
        check(name, FITTED[name], *problem)

    each()

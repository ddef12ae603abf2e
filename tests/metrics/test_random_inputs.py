"""Whatever codes and factors come, each metric gives a score in its range, or one error that begins with its name.

The gate tries the same tables every time, a few of them on metrics that fit a model. DISENTANGLE_EXT_EXAMPLES=10000
draws that many fresh tables for each metric in closed form, and a hundredth of it for the others.
"""

from __future__ import annotations

import inspect
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
from disentangle_ext.metrics import Metric

exceptions = pytest.importorskip("sklearn.exceptions")

EXAMPLES = int(os.environ.get("DISENTANGLE_EXT_EXAMPLES", "0"))
SAMPLED = {"num_train": 20, "num_test": 10, "batch_size": 4}
CLOSED = {
    "mig": {},
    "modularity": {},
    "sap, continuous": {"continuous": True},
    "sap, thresholds": {"predictor": "thresholds"},
    "irs": {},
    "factor_vae_score": {**SAMPLED, "num_variance": 20},
    "mig_sup": {},
    "dcimig": {},
    "jemmig": {},
    "rmig": {},
    "correlation": {},
    "linear_symmetry": {},
    "independence": {},
    "lsbd": {},
    "gaussian_total_correlation": {},
    "wasserstein_correlation": {},
    "mutual_information_score": {},
    "active_units": {},
}
FITTED = {
    "sap": {},
    "explicitness": {},
    "explicitness, one_vs_rest": {"variant": "one_vs_rest"},
    "explicitness, auc": {"variant": "auc"},
    "beta_vae_score": SAMPLED,
    "dci": {},
    "dci, fast": {"predictor": "fast"},
    "dci, forest": {"predictor": "forest"},
    "dci, lasso": {"predictor": "lasso"},
    "infomec": {},
    "downstream": {"train_sizes": (1, 5)},
    "dci_es": {"features": (0, 4)},
    "udr": {},
    "udr, spearman": {"similarity": "spearman", "average": "latents"},
}

VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 1e-320, 1e-300, 1e300, -1.7e308, 1e-8, 3.0]),
    st.floats(-10, 10),
)
BROKEN = st.sampled_from([math.nan, math.inf, -math.inf])


@st.composite
def scaled(draw):
    """Codes of one scale and dtype, with dead columns, and factors with classes that are far apart."""
    rows, dims, count = draw(st.integers(1, 30)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    scale = draw(st.sampled_from([1.0, 1e-30, 1e30, 1.7e308]))
    dtype = draw(st.sampled_from([np.float32, np.float64])) if scale < 1e38 else np.float64
    codes = draw(hnp.arrays(np.float64, (rows, dims), elements=st.floats(-1, 1)))
    codes = (codes * scale).astype(dtype)
    factors = draw(hnp.arrays(np.int64, (rows, count), elements=st.sampled_from([-(2**40), -3, 0, 1, 2, 9, 2**40])))
    dead = draw(st.lists(st.integers(0, dims - 1), max_size=2))
    codes[:, dead] = draw(st.sampled_from([0.0, 1.5, -1e30]))
    if draw(st.integers(0, 9)) == 0:
        codes[draw(st.integers(0, rows - 1)), 0] = draw(BROKEN)
    return codes, factors


@st.composite
def columns(draw, rows, values):
    """A table [rows, 1 to 4] of columns that are constant, of few values, of any values, or copies."""
    made = []
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["dead", "few", "any", "copy"] if made else ["dead", "few", "any"]))
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
def mixed(draw):
    """Few rows, each column of its own kind and scale; at times a row of factors is missing."""
    rows = draw(st.integers(1, 14))
    codes = draw(columns(rows, VALUES))
    factors = draw(columns(rows, st.integers(-3, 6).map(float)))
    if draw(st.integers(0, 9)) == 0:
        codes[draw(st.integers(0, rows - 1)), 0] = draw(BROKEN)
    if draw(st.integers(0, 9)) == 0:
        factors = factors[: rows - 1]
    return codes, factors


def arguments(name, codes, factors):
    if name == "udr":
        return ([codes, factors],)
    return (codes, factors) if "factors" in inspect.signature(getattr(metrics, name)).parameters else (codes,)


def check(key, options, codes, factors):
    """A score in its range, no warning, and no NaN that JSON would trip over; or an error that names the metric."""
    name = key.partition(",")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        try:
            result = getattr(metrics, name)(*arguments(name, codes, factors), **options)
        except ValueError as error:
            begins = str(error).partition(": ")[0]
            if begins != name and not (name == "udr" and begins.startswith("udr, model ")):
                raise
            return
    low, high = result.bounds
    assert low <= result.score <= high
    assert math.isfinite(result.score)
    stored = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert stored["score"] == result.score
    assert result.title in str(result)


def run(key, options, gate, examples):
    """On ``gate`` tables of each kind that are always the same, or on ``examples`` that are not."""
    # Where liblinear does not return nothing stops it: in the gate, test_sap.py tries the smallest codes in a process.
    for tables in (scaled(),) if key == "sap" and not examples else (scaled(), mixed()):

        @settings(
            max_examples=examples or gate,
            derandomize=not examples,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(tables)
        def each(table):
            check(key, options, *table)

        each()


@pytest.mark.parametrize("key", CLOSED)
def test_metrics_in_closed_form(key):
    run(key, CLOSED[key], 60, EXAMPLES)


@pytest.mark.parametrize("key", FITTED)
def test_metrics_that_fit_a_model(key):
    run(key, FITTED[key], 10, EXAMPLES and max(10, EXAMPLES // 100))


def test_every_metric_is_tried():
    functions = {
        cls.function.__name__ for cls in vars(metrics).values() if inspect.isclass(cls) and hasattr(cls, "function")
    }
    assert Metric.__name__ not in functions
    assert functions == {key.partition(",")[0] for key in (*CLOSED, *FITTED)}

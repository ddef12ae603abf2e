"""Codes beside factors: the checks and the split that the metrics have in common."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch

from disentangle_ext import metrics
from disentangle_ext.metrics import Metric, Representation, mig
from disentangle_ext.metrics._problem import pose
from tests.metrics.problems import random_problem


@pytest.mark.parametrize("value", [-1, 0.5, None])
def test_seed_must_be_a_natural_number(value):
    with pytest.raises(ValueError, match=r"mig: seed must be an integer of at least 0"):
        mig(*random_problem(), seed=value)


def test_the_split_takes_the_last_rows():
    codes, factors = random_problem(rows=1500)
    problem = pose("m", codes, factors, None, test_share=0.2, classify=True)
    assert problem.train_rows == 1200
    np.testing.assert_array_equal(problem.codes, codes)


def test_rows_in_the_order_of_the_grid_are_refused_until_they_are_shuffled():
    grid = np.stack(np.meshgrid(np.arange(5), np.arange(50), indexing="ij"), -1).reshape(-1, 2)
    with pytest.raises(ValueError, match=r"m: factors must be in random order, .*factor_0.*shuffle=True"):
        pose("m", grid, grid, None, test_share=0.2, classify=True)
    problem = pose("m", grid, grid, None, test_share=0.2, classify=True, shuffle=True, seed=1)
    np.testing.assert_array_equal(problem.codes, problem.factors)
    assert set(problem.classes[: problem.train_rows, 0]) == set(range(5))


@pytest.mark.parametrize("share", [1.0, -0.1, "a"])
def test_the_share_of_the_test_must_be_one(share):
    with pytest.raises(ValueError, match="m: test_share must be"):
        pose("m", *random_problem(), None, test_share=share)


def test_the_split_needs_rows_on_both_sides():
    with pytest.raises(ValueError, match=r"m: codes must have rows for training and for test, got 2"):
        pose("m", [[0.0], [1.0]], [[0], [1]], None, test_share=0.9)


OF_CLASSES = {
    "beta_vae_score": {},
    "correlation": None,
    "dci": {"predictor": "fast"},
    "dci_es": {"targets": "classes"},
    "dcimig": {},
    "downstream": {},
    "explicitness": {},
    "factor_vae_score": {},
    "independence": {},
    "infomec": {},
    "irs": {},
    "jemmig": {},
    "linear_symmetry": {},
    "lsbd": {},
    "mig": {},
    "mig_sup": {},
    "modularity": {},
    "rmig": {},
    "sap": {},
}
"""Options with which a metric takes classes; None for one that never does."""


def test_every_metric_of_factors_is_asked_for_its_classes():
    classes = [each for each in vars(metrics).values() if inspect.isclass(each) and issubclass(each, Metric)]
    functions = [cls.function for cls in classes if cls is not Metric]
    takes = [function.__name__ for function in functions if "factors" in inspect.signature(function).parameters]
    assert sorted(takes) == sorted(OF_CLASSES)


@pytest.mark.parametrize("name", [name for name, options in OF_CLASSES.items() if options is not None])
def test_classes_are_whole_numbers(name):
    codes, factors = random_problem()
    function, options = getattr(metrics, name), OF_CLASSES[name]
    with pytest.raises(ValueError, match=rf"{name}: factors must hold whole numbers.*got 0.5 at \[0, 2\]: number"):
        function(codes, np.where(np.arange(3) == 2, 0.5, factors), **options)
    with pytest.raises(ValueError, match=rf"{name}: factors must hold whole numbers"):
        function(codes.round(), codes, **options)
    with pytest.raises(ValueError, match=rf"{name}: codes and factors must be in this order, got .*int64.*float64"):
        function(factors, codes.round(), **options)
    with pytest.raises(ValueError, match=rf"{name}: codes and factors must be in this order, got .*int64.*float32"):
        function(torch.from_numpy(factors), torch.from_numpy(codes).float(), **options)


def test_whole_numbers_may_be_floats_and_values_any_numbers():
    codes, factors = random_problem()
    assert mig(codes, factors.astype(np.float32)).score == mig(codes, factors).score
    assert mig(factors, factors).score == mig(factors.astype(float), factors).score
    Representation.from_table(codes, factors.astype(float))
    for name, options in (("sap", {"continuous": True}), ("dci", {"predictor": "lasso"}), ("dci_es", {})):
        assert math.isfinite(getattr(metrics, name)(codes, factors * 0.5, **options).score)
    assert metrics.correlation(factors, factors * 0.5).score == pytest.approx(1)

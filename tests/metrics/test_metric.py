"""The class form that every metric has beside its function, and the files that every metric has."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from disentangle_ext import metrics
from disentangle_ext.metrics import MIG, Metric, mig
from tests.metrics.problems import random_problem

CLASSES = [each for each in vars(metrics).values() if inspect.isclass(each) and issubclass(each, Metric)]
CLASSES.remove(Metric)
MODULES = sorted({cls.__module__.rpartition(".")[2] for cls in CLASSES} | {"exact_elbo"})


@pytest.mark.parametrize("module", MODULES)
def test_every_metric_has_a_test_file_and_a_page(module):
    assert Path(__file__).with_name(f"test_{module}.py").exists()
    assert (Path(__file__).parents[2] / "docs" / "metrics" / f"{module}.md").exists()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_class_form_has_the_options_and_defaults_of_the_function(cls):
    options = inspect.signature(cls).parameters
    function = inspect.signature(cls.function).parameters
    assert options
    assert all(function[name] == option for name, option in options.items())
    assert {name for name, each in function.items() if each.default is each.empty} <= set(cls._inputs)
    assert pickle.loads(pickle.dumps(cls())).options == {}
    assert cls.__doc__
    assert cls.function.__doc__


def test_batches_give_what_all_rows_give():
    codes, factors = random_problem()
    metric = MIG(num_bins=10)
    for rows in np.array_split(np.arange(len(codes)), 7):
        metric.update(torch.from_numpy(codes[rows]), factors=factors[rows])
    expected = mig(codes, factors, num_bins=10)
    assert metric.compute().score == expected.score
    assert metric.compute().as_dict() == expected.as_dict()
    metric.reset()
    with pytest.raises(ValueError, match=r"MIG.compute: no batch"):
        metric.compute()
    metric.update(codes[:100], factors[:100])
    assert metric.compute().settings["num_points"] == 100
    assert repr(metric) == "MIG(num_bins=10)"


def test_a_batch_may_be_overwritten_after_update():
    codes, factors = random_problem()
    buffer, metric = codes.copy(), MIG()
    metric.update(buffer, factors)
    buffer[:] = 0
    assert metric.compute().score == mig(codes, factors).score


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.update(np.zeros((2, 3))), TypeError, r"MIG.update: takes codes, factors, got no factors"),
        (lambda m: m.update(0, 1, 2), TypeError, r"MIG.update: takes codes, factors, got 3 arguments"),
        (lambda m: m.update(0, 1, labels=2), TypeError, r"MIG.update: takes .*got 'labels'"),
        (lambda m: m.update(np.zeros((2, 3)), np.zeros((3, 1))), ValueError, "same number of rows"),
        (lambda m: m.update(np.zeros((2, 3)), np.zeros((2, 3))), ValueError, r"codes must have rows of shape \[4\]"),
        (lambda m: MIG(num_bin=3), TypeError, "MIG: unknown option 'num_bin'; known: num_bins"),
    ],
)
def test_the_class_form_refuses(call, error, message):
    metric = MIG()
    metric.update(*random_problem())
    with pytest.raises(error, match=message):
        call(metric)
    assert metric.compute().settings["num_points"] == 400  # the refused batch left nothing behind

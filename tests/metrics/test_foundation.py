"""What the metrics have in common: the class form, results, intervals, the split, and representations."""

from __future__ import annotations

import inspect
import math
import pickle

import numpy as np
import pytest
import torch

from disentangle_ext import metrics
from disentangle_ext.data import DSpritesLike
from disentangle_ext.metrics import MIG, Metric, Representation, mig
from disentangle_ext.metrics._problem import pose

CLASSES = [each for each in vars(metrics).values() if inspect.isclass(each) and issubclass(each, Metric)]
CLASSES.remove(Metric)


def random_problem(seed=0, rows=400):
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, rows) for size in (3, 5, 4)], 1)
    codes = rng.normal(size=(rows, 4))
    codes[:, :3] += factors
    return codes, factors


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


def test_rows_alike_share_one_factor_and_vary_in_the_others():
    data = DSpritesLike(variant="quick")
    representation = Representation(data, lambda images: images.flatten(1)[:, :3])
    rng = np.random.default_rng(0)
    rows = representation.draw(200, rng)
    assert representation.sizes == list(data.factor_sizes)
    for k in range(len(data.factor_sizes)):
        alike = representation.draw_alike(rows, k, rng, 64)
        assert alike.shape == (200, 64)
        classes = representation.classes[alike]
        assert (classes[:, :, k] == representation.classes[rows, k][:, None]).all()
        for other, count in enumerate(data.factor_sizes):
            if other != k:
                share = np.bincount(classes[:, :, other].ravel(), minlength=count) / classes[:, :, other].size
                np.testing.assert_allclose(share, 1 / count, atol=0.03)


def test_images_are_encoded_once_and_only_when_drawn():
    data, seen = DSpritesLike(variant="quick"), []

    def encoder(images):
        seen.append(len(images))
        codes = images.flatten(1).mean(1, keepdim=True)
        return codes, codes * 0

    representation = Representation(data, encoder, batch_size=100)
    rows = np.array([[5, 7], [5, 900]])
    codes = representation.codes(rows)
    assert codes.shape == (2, 2, 1)
    assert sum(seen) == 3
    representation.codes(np.arange(1000))
    assert sum(seen) == 1000
    assert max(seen) == 100
    expected = data.batch(torch.tensor([900])).mean()
    assert codes[1, 1, 0] == pytest.approx(float(expected))


def test_a_table_is_a_representation_in_any_order_and_with_any_labels():
    codes, factors = random_problem(rows=100)
    table = Representation.from_table(codes, factors * 7 - 3, factor_names=("a", "b", "c"))
    assert table.factor_names == ("a", "b", "c")
    np.testing.assert_array_equal(table.codes(np.array([3, 3, 0])), codes[[3, 3, 0]])
    alike = table.draw_alike(np.array([17]), 1, np.random.default_rng(0), 500)
    assert set(alike[0].tolist()) == set(np.flatnonzero(factors[:, 1] == factors[17, 1]).tolist())


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
    takes = [cls.function.__name__ for cls in CLASSES if "factors" in inspect.signature(cls.function).parameters]
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


def test_an_encoder_that_gives_no_codes_is_refused():
    data = DSpritesLike(variant="quick")
    with pytest.raises(ValueError, match=r"Representation: encoder: codes must be finite, got nan"):
        Representation(data, lambda images: images.flatten(1)[:, :2] * math.nan).codes(np.arange(3))
    with pytest.raises(ValueError, match=r"Representation: encoder must give codes \[3, 2\], got \[1, 2\]"):
        Representation(data, lambda images: images.flatten(1)[:1, :2]).codes(np.arange(3))

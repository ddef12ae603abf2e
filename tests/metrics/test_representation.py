"""A representation of a grid: its draws, its encoder, and tables of codes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from disentangle_ext.data import DSpritesLike
from disentangle_ext.metrics import Representation
from tests.metrics.problems import random_problem


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


def test_an_encoder_that_gives_no_codes_is_refused():
    data = DSpritesLike(variant="quick")
    with pytest.raises(ValueError, match=r"Representation: encoder: codes must be finite, got nan"):
        Representation(data, lambda images: images.flatten(1)[:, :2] * math.nan).codes(np.arange(3))
    with pytest.raises(ValueError, match=r"Representation: encoder must give codes \[3, 2\], got \[1, 2\]"):
        Representation(data, lambda images: images.flatten(1)[:1, :2]).codes(np.arange(3))

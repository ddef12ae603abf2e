"""Codes and factors that the tests of several metrics share."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import torch

from disentangle_ext.data import TorusLike

GRID = np.stack(np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij"), -1).reshape(-1, 3)
"""Every combination of three factors."""


def random_problem(seed=0, rows=400, dims=4, sizes=(3, 5, 4)):
    """Codes [rows, dims] of which the first hold a factor each, with noise, and the factors."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, size, rows) for size in sizes], 1)
    codes = rng.normal(size=(rows, dims))
    codes[:, : len(sizes)] += factors
    return codes, factors


def standard(factors):
    return (factors - factors.mean(0)) / factors.std(0)


def entropy(values):
    """The entropy of a list of values, in nats, from its counts."""
    return -sum(count / len(values) * math.log(count / len(values)) for count in Counter(values).values())


def information_by_definition(codes, factors, num_bins):
    """The joint entropies and mutual informations, as lists [D][K], and the entropies of codes and factors, in nats."""
    bins = [np.digitize(column, np.histogram(column, num_bins)[1][:-1]).tolist() for column in codes.T]
    labels = factors.T.tolist()
    of_codes, of_factors = [entropy(z) for z in bins], [entropy(v) for v in labels]
    joint = [[entropy(list(zip(z, v))) for v in labels] for z in bins]
    known = [[h + g - joint[d][k] for k, g in enumerate(of_factors)] for d, h in enumerate(of_codes)]
    return joint, known, of_codes, of_factors


def torus(factors=2, classes=16):
    """The exact code and the factors of a whole torus, in random order."""
    data = TorusLike(factors=factors, classes=classes)
    rows = torch.from_numpy(np.random.default_rng(0).permutation(len(data)))
    return data.exact_code(rows).numpy(), data.factors(rows).numpy()


def angles(factors):
    return 2 * math.pi * factors / (factors.max(0) + 1)


def circle(angle):
    return np.stack([np.cos(angle), np.sin(angle)], -1)


def correlated(rho, rows=4000, seed=0):
    """Two columns of unit variance with exactly the correlation rho."""
    a, b = np.random.default_rng(seed).normal(size=(2, rows))
    a, b = (each - each.mean() for each in (a, b))
    b -= a * (a @ b) / (a @ a)
    a, b = (each / each.std() for each in (a, b))
    return np.stack([a, rho * a + math.sqrt(1 - rho * rho) * b], 1)

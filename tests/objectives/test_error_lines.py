"""Whatever an objective's function is given by mistake, one line says so and names the argument and who refuses it."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from disentangle_ext import objectives, ops
from disentangle_ext.models import Discriminator, VAEOutput, build_vae

B, D, SHAPE = 8, 3, (1, 4, 5)
IMAGES, CODES, KEY = torch.rand(B, *SHAPE), torch.randn(B, D), torch.ones(2, dtype=torch.int64)
OUTPUT = VAEOutput(torch.randn(B, *SHAPE), CODES, CODES, CODES - 1, CODES[:, 0].square())
MODEL, DISCRIMINATOR = build_vae("mlp", SHAPE, D, width=6), Discriminator(D, layers=1, width=2)
ACTIVE = torch.tensor([True, False, False])

NO_TENSOR = [None, 1.0, "a", [[1.0]], {}, np.ones((8, 3)), torch.Tensor]
TENSOR = [*NO_TENSOR, CODES.to_sparse(), CODES.long(), CODES.to(torch.complex64)]
IMAGE = [*NO_TENSOR, IMAGES.to_sparse(), IMAGES.to(torch.complex64)]
TEXT = [None, 1, ["i"], {}, CODES, np.ones((8, 3)), "a"]
INTEGER = [None, 1.5, "a", [5], CODES, np.ones((8, 3)), -3]
NUMBER = [None, "a", [1.0], 1j, math.nan, math.inf, CODES, np.ones(3)]
WEIGHT = [*NUMBER, -1.0]
# By the name of an argument; a weight where there is none.
BAD: dict[str, list[Any]] = {
    "output": [None, 1, "a", CODES, (1, 2), (CODES,) * 5, MODEL],
    "model": [None, 1, "a", OUTPUT, nn.Linear(2, 2), DISCRIMINATOR],
    "discriminator": [None, 1, "a", OUTPUT, CODES],
    "images": [*IMAGE, IMAGES[:, :, :3], IMAGES.long(), 255 * IMAGES],
    "reconstruction": [*IMAGE, IMAGES[:, :, :3], IMAGES.long(), IMAGES.to("meta")],
    **dict.fromkeys(("z", "mu", "logvar", "codes", "others"), TENSOR),
    "active": [None, 1, "a", [True, False, True], CODES, ACTIVE[:2], ACTIVE.float(), ACTIVE.to("meta")],
    **dict.fromkeys(("likelihood", "estimator", "convention", "kl", "kind", "average", "reference"), TEXT),
    **dict.fromkeys(("dataset_size", "threshold", "step"), INTEGER),
    "alpha": NUMBER,
    "scale": [*NUMBER, 0.0, -1.0],
    "generator": [1, "a", CODES],
    "key": [1, "a", [1, 2], CODES, KEY.double()],
    "process_group": [1, "gloo", CODES],
}
GOOD = {
    **{"output": OUTPUT, "images": IMAGES, "model": MODEL, "discriminator": DISCRIMINATOR, "reconstruction": IMAGES},
    **{"mu": CODES, "logvar": CODES, "z": CODES, "codes": CODES, "others": CODES, "active": ACTIVE, "kind": "i"},
    **{"dataset_size": 100, "step": 0, "lambda_od": 1.0, "lambda_d": 1.0, "likelihood": "gaussian"},
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    name: f for name in objectives.__all__ if inspect.isfunction(f := getattr(objectives, name))
}
ARGUMENTS = [(name, argument) for name, f in FUNCTIONS.items() for argument in inspect.signature(f).parameters]
# What a function passes on is refused where it arrives.
WHO = re.compile(rf"({'|'.join([*FUNCTIONS, *ops.__all__, 'VAE.encode'])}): ")


def call(name: str, argument: str, value: Any) -> Any:
    f = FUNCTIONS[name]
    given = {key: GOOD[key] for key in inspect.signature(f).parameters if key in GOOD}
    if name == "beta_tcvae":
        given["kl"] = "decomposed"  # which has all weights
    return f(**{**given, argument: value})


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_one_line_names_the_argument_and_who_refuses_it(name, argument):
    values = BAD.get(argument, WEIGHT)
    if (name, argument) == ("dip_vae", "lambda_d"):
        values = values[1:]  # None is its default
    for i, value in enumerate(values):
        with pytest.raises((TypeError, ValueError)) as caught:
            call(name, argument, value)
        message = str(caught.value)
        told = f"{name}({argument}) of bad value {i}, a {type(value).__name__}: {message!r}"
        assert WHO.match(message), told
        assert re.search(rf"\b{'images|reconstruction' if argument == 'reconstruction' else argument}\b", message), told
        assert "\n" not in message, told
        assert len(message) <= 250, told


def test_a_scalar_tensor_is_a_weight():
    """What is no mistake stays allowed: a weight on the device, or a step of a graph."""
    weighted = objectives.beta_vae(OUTPUT, IMAGES, beta=torch.tensor(4.0)).total
    assert torch.equal(weighted, objectives.beta_vae(OUTPUT, IMAGES, beta=4.0).total)
    annealed = objectives.annealed_vae(OUTPUT, IMAGES, step=torch.tensor(7)).total
    torch.testing.assert_close(annealed, objectives.annealed_vae(OUTPUT, IMAGES, step=7).total)
    sized = objectives.info_vae(OUTPUT, IMAGES, lambda_mmd=np.float32(2), key=KEY).total
    assert torch.equal(sized, objectives.info_vae(OUTPUT, IMAGES, lambda_mmd=2, key=KEY).total)

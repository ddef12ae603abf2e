"""The range of what a term of a loss is weighted with."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from torch import Tensor

from disentangle_ext._errors import MistakeError


def check_weights(owner: str, **weights: Any) -> None:
    """Refuse weights that turn a term into its opposite, or the loss into NaN.

    A tensor is not read back: it may lie on an accelerator, or be mapped over many runs and have no one value.

    Raises:
        ValueError: "beta_vae: beta must be at least 0 and finite, got -1.0".
        TypeError: for what is no number.
    """
    for name, weight in weights.items():
        if isinstance(weight, Tensor):
            continue
        if not isinstance(weight, Real):
            raise TypeError(f"{owner}: {name} must be a number, got {type(weight).__name__} {weight!r}")
        if not 0 <= float(weight) < math.inf:
            raise MistakeError(f"{owner}: {name} must be at least 0 and finite, got {weight}")

"""An error or a convention of public codes as a line of a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

TESTS = Path(__file__).parents[2] / "tests"
NOTHING = "nothing"


class Code(NamedTuple):
    """A public code at the commit that was read and run."""

    repository: str
    commit: str


CODES = {
    "disentanglement_lib": Code("google-research/disentanglement_lib", "86a644d"),
    "disent": Code("nmichlo/disent", "8f061a8"),
    "disvae": Code("YannDubs/disentangling-vae", "f045219"),
    "beta-tcvae": Code("rtqichen/beta-tcvae", "1a3577d"),
    "ubisoft": Code("ubisoft/ubisoft-laforge-disentanglement-metrics", "05d5667"),
    "tripod": Code("kylehkhsu/tripod", "d794dc4"),
    "latent_quantization": Code("kylehkhsu/latent_quantization", "9a420a3"),
    "pythae": Code("clementchadebec/benchmark_VAE", "6419e21"),
    "amir-abdi": Code("amir-abdi/disentanglement-pytorch", "2626252"),
    "Zhao": Code("ShengjiaZhao/MMD-Variational-Autoencoder", "e33606e"),
    "AIX360": Code("Trusted-AI/AIX360", "783f836"),
    "PyTorch-VAE": Code("AntixK/PyTorch-VAE", "a6896b9"),
}


class Error(NamedTuple):
    """One line of a table.

    Attributes:
        quantity: what the number is of.
        what: what is computed in its place.
        codes: the keys of :data:`CODES` that do so; none for a mistake in a call.
        inputs: of the value, for the reader.
        there: the value with the error.
        instead: the value without it.
        here: what in this package gives the first value, or why nothing does.
        recorded: where the tests hold what the code itself returned; none for a mistake in a call.
        tolerance: relative, between that and ``there``.
        digits: that are shown: fewer where versions of scikit-learn differ.
    """

    quantity: str
    what: str
    codes: tuple[str, ...]
    inputs: str
    there: Callable[[], float]
    instead: Callable[[], float]
    here: str
    recorded: str | None = None
    tolerance: float = 1e-9
    digits: int = 3

    def line(self) -> list[str]:
        there, instead = (_shown(value(), self.digits) for value in (self.there, self.instead))
        return [self.quantity, self.what, ", ".join(self.codes), self.inputs, there, instead, self.here]


def _shown(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else str(value)
    return f"{value:,.{digits}f}" if abs(value) >= 0.02 or value == 0 else f"{value:.5f}"


@cache
def stored_arrays(name: str) -> dict[str, np.ndarray]:
    """The arrays of a file of the tests."""
    with np.load(TESTS / name) as stored:
        return dict(stored)

"""Codes of a ground-truth data set, or of a table, from which metrics draw with a factor held fixed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics._discrete import check_codes, check_table, to_classes
from disentangle_ext.metrics._interval import half
from disentangle_ext.metrics._problem import check_count, check_names

if TYPE_CHECKING:
    from disentangle_ext.data.base import GroundTruthData

__all__ = ["Representation"]


class Representation:
    """The codes of images with known factors, from which batches with a fixed factor are drawn.

    >>> representation = Representation(data, lambda images: model.encode(images)[0])
    >>> factor_vae_score(representation).score

    The images of a data set are encoded when they are first drawn, and only once. A set whose images hold noise beyond
    the factors is taken as it is: one row is one image.

    Args:
        data: a set with factors, a grid of them or not.
        encoder: gives the codes [n, D] of images, float32 [n, C, H, W] in [0, 1] on the set's device. Of a tuple the
            first is taken, so ``model.encode`` will do.
        batch_size: images encoded at once.

    Raises:
        ValueError: for a data set without factors.

    Attributes:
        factor_names: the K names.
        classes: [N, K], the class of each factor in each row.
        sizes: how many classes each factor has.
    """

    def __init__(self, data: GroundTruthData, encoder: Callable[[torch.Tensor], Any], *, batch_size: int = 256) -> None:
        if not data.factor_names:
            raise MistakeError(f"Representation: data must have ground-truth factors, {data.name} has none")
        check_count("Representation", "batch_size", batch_size, 1)
        # As int32, the factors of the half million images of 3D Shapes take 12 MB.
        factors = data.factors(torch.arange(len(data))).to(torch.int32).cpu().numpy()
        self._set_factors(factors, data.factor_names)
        self._data, self._encoder, self._batch_size = data, encoder, batch_size
        self._codes: np.ndarray | None = None
        self._known = np.zeros(len(data), dtype=bool)

    @classmethod
    def from_table(cls, codes: Any, factors: Any, *, factor_names: Sequence[str] | None = None) -> Representation:
        """A representation from a table that holds the whole grid, in any order, or any rows drawn from it.

        Args:
            codes: [N, D].
            factors: [N, K], whole numbers, of which each distinct one in a column is a class.
            factor_names: the K names; ``factor_0``, ``factor_1``, ... by default.

        Raises:
            ValueError: for a wrong shape, or NaN or infinity.
            TypeError: for codes or factors that are not real numbers.
        """
        return cls._from_table("Representation", codes, factors, factor_names)

    @classmethod
    def _from_table(cls, where: str, codes: Any, factors: Any, factor_names: Sequence[str] | None) -> Representation:
        self = cls.__new__(cls)
        self._codes, factors = check_table(codes, factors, where)
        self._set_factors(factors, check_names(where, factor_names, factors.shape[1]))
        self._known = np.ones(len(factors), dtype=bool)
        return self

    def _set_factors(self, factors: np.ndarray, names: Sequence[str]) -> None:
        self.factor_names = tuple(names)
        self.classes, self.sizes = to_classes(factors)
        self._drawn_from = np.arange(len(self.classes))
        self._groups: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.classes)

    def __repr__(self) -> str:
        factors = ", ".join(f"{name} {size}" for name, size in zip(self.factor_names, self.sizes))
        return f"Representation({len(self):,} rows; {factors})"

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``n`` rows drawn uniformly, with replacement."""
        return self._drawn_from[rng.integers(0, len(self._drawn_from), n)]

    def draw_alike(self, rows: np.ndarray, factor: int, rng: np.random.Generator, n: int = 1) -> np.ndarray:
        """For each of ``rows`` [m], ``n`` rows of the same class in the column ``factor``: [m, n].

        They are drawn uniformly, with replacement, from all rows of that class. On a full grid all other factors are
        then independent and uniform.
        """
        order, starts, counts = self._group(factor)
        classes = self.classes[rows, factor]
        place = rng.integers(0, counts[classes][:, None], (len(rows), n))
        return order[starts[classes][:, None] + place]

    def codes(self, rows: np.ndarray) -> np.ndarray:
        """The codes of ``rows`` [...]: [..., D], float32 or float64.

        Raises:
            ValueError: where the encoder gives another shape than [n, D], NaN or infinity.
        """
        missing = np.unique(rows[~self._known[rows]])
        for start in range(0, len(missing), self._batch_size if len(missing) else 1):
            self._encode(missing[start : start + self._batch_size])
        assert self._codes is not None
        return self._codes[rows]

    def _group(self, factor: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows sorted by their class in a column, where each class starts, and how many rows it has."""
        if factor not in self._groups:
            column = self.classes[self._drawn_from, factor]
            counts = np.bincount(column, minlength=self.sizes[factor])
            order = self._drawn_from[np.argsort(column, kind="stable")]
            self._groups[factor] = order, np.cumsum(counts) - counts, counts
        return self._groups[factor]

    def _half(self, rng: np.random.Generator) -> Representation:
        """This representation, of which only a random half of the rows is drawn from."""
        other = copy.copy(self)
        other._drawn_from, other._groups = self._drawn_from[half(len(self._drawn_from), rng)], {}
        return other

    def _encode(self, rows: np.ndarray) -> None:
        with torch.no_grad():
            codes = self._encoder(self._data.batch(torch.from_numpy(rows)))
        codes = check_codes(codes[0] if isinstance(codes, tuple) else codes, "Representation: encoder")
        if self._codes is None:
            self._codes = np.zeros((len(self), codes.shape[1]), codes.dtype)
        if codes.shape != (len(rows), self._codes.shape[1]):
            expected = [len(rows), self._codes.shape[1]]
            raise MistakeError(f"Representation: encoder must give codes {expected}, got {list(codes.shape)}")
        self._codes[rows] = codes
        self._known[rows] = True

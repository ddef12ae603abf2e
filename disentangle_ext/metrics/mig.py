"""The mutual information gap of Chen et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from disentangle_ext._names import choose
from disentangle_ext.metrics._discrete import (
    check_codes,
    check_factors,
    entropy,
    histogram_bins,
    mutual_information,
    to_classes,
)

__all__ = ["MIGResult", "mig"]

PROTOCOLS = ("histogram",)


@dataclass(frozen=True, eq=False)
class MIGResult:
    """What :func:`mig` measured.

    Attributes:
        score: the mean of ``gaps`` over the factors that vary, in [0, 1].
        gaps: [K], each factor's gap divided by its entropy; NaN for a skipped factor.
        mutual_information: [D, K], nats, between code dimension d and factor k.
        entropy: [K], nats, of each factor.
        best: [K], the code dimension that knows most about each factor (the first of equals); -1 if skipped.
        skipped: the columns of factors that are constant: they have no entropy to divide by and are left out
            of ``score``.
        factor_names: the K names.
        settings: protocol, num_bins, num_points, and the seed, None because nothing is drawn.
    """

    score: float
    gaps: np.ndarray
    mutual_information: np.ndarray
    entropy: np.ndarray
    best: np.ndarray
    skipped: tuple[int, ...]
    factor_names: tuple[str, ...]
    settings: dict[str, Any]

    def __str__(self) -> str:
        parts = [f"{name} {gap:.3f}" for name, gap in zip(self.factor_names, self.gaps) if gap == gap]
        skipped = [self.factor_names[k] for k in self.skipped]
        constant = f"; skipped, constant: {', '.join(skipped)}" if skipped else ""
        return f"MIG {self.score:.3f} ({', '.join(parts)}{constant})"

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values for JSON, the gaps by factor name and None for a skipped one."""
        return {
            "score": self.score,
            "gaps": {
                name: None if gap != gap else gap for name, gap in zip(self.factor_names, self.gaps.tolist())
            },
            "mutual_information": self.mutual_information.tolist(),
            "entropy": self.entropy.tolist(),
            "best": self.best.tolist(),
            "skipped": [self.factor_names[k] for k in self.skipped],
            "settings": dict(self.settings),
        }


def mig(
    codes: Any,
    factors: Any,
    *,
    num_bins: int = 20,
    protocol: str = "histogram",
    factor_names: Sequence[str] | None = None,
) -> MIGResult:
    """The mutual information gap: how much better one code dimension knows a factor than any other does.

    For factor v_k with entropy H, and the mutual information I of each code dimension with it,

        gap_k = (largest I(z_d; v_k) - second largest I(z_d; v_k)) / H(v_k),    score = mean of gap_k over k.

    A score of 1 means that every factor can be read off one dimension, and that no other dimension knows
    anything of it; it does not ask that a dimension hold one factor only.

    ``protocol="histogram"`` is that of the large study (Locatello et al. 2019): each code dimension is cut
    into ``num_bins`` bins of equal width over its range, and I is that of the contingency table of bins and
    classes. With N points and S classes the table overestimates I by about (num_bins - 1)(S - 1) / 2N nats,
    so use thousands of points, and the same number in every comparison. A uniform factor with more classes
    than ``num_bins`` cannot reach a gap of 1. The result is that of disentanglement_lib to rounding, except
    that a constant factor, for which that code gives NaN, is skipped and named in the result.

    A code dimension that does not vary has I = 0 with every factor. With a single code dimension the second
    largest I is 0, as if a dead dimension stood beside it.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean: tensor or array, any real type. Half
            types are binned in a wider one.
        factors: [N, K], the classes of the factors: each distinct number in a column is a class, whatever its
            value.
        num_bins: bins per code dimension, at least 2.
        protocol: "histogram".
        factor_names: the K names for the result; ``factor_0``, ``factor_1``, ... by default.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, no factor that varies (as with a single row), num_bins
            below 2, or an unknown protocol.
        TypeError: for codes or factors that are not real numbers.

    Chen, Li, Grosse, Duvenaud, "Isolating Sources of Disentanglement in Variational Autoencoders", NeurIPS
    2018 (arXiv 1802.04942).
    """
    choose("mig: protocol", protocol, PROTOCOLS)
    if isinstance(num_bins, bool) or not isinstance(num_bins, (int, np.integer)) or num_bins < 2:
        raise ValueError(f"mig: num_bins must be an integer of at least 2, got {num_bins!r}")
    codes = check_codes(codes, "mig")
    factors = check_factors(factors, len(codes), "mig")
    names = _check_names(factor_names, factors.shape[1])
    classes, sizes = to_classes(factors)
    varies = np.array(sizes) > 1
    if not varies.any():
        raise ValueError(
            f"mig: factors must hold a column with two values or more, got {len(codes)} equal rows"
        )
    bins = histogram_bins(codes, int(num_bins))
    information = mutual_information(bins, [int(num_bins)] * codes.shape[1], classes, sizes)
    entropies = entropy(classes, sizes)
    gaps = _gaps(information, entropies, varies)
    return MIGResult(
        score=float(gaps[varies].mean()),
        gaps=gaps,
        mutual_information=information,
        entropy=entropies,
        best=np.where(varies, information.argmax(0), -1),
        skipped=tuple(int(k) for k in np.flatnonzero(~varies)),
        factor_names=names,
        settings={"protocol": protocol, "num_bins": int(num_bins), "num_points": len(codes), "seed": None},
    )


def _gaps(information: np.ndarray, entropies: np.ndarray, varies: np.ndarray) -> np.ndarray:
    ranked = np.sort(np.vstack([np.zeros(len(entropies)), information]), axis=0)
    gaps = np.full(len(entropies), np.nan)
    # I <= H, but the two are rounded separately.
    gaps[varies] = np.minimum((ranked[-1] - ranked[-2])[varies] / entropies[varies], 1.0)
    return gaps


def _check_names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    names = tuple(f"factor_{k}" for k in range(count)) if names is None else tuple(names)
    if len(names) != count or len(set(names)) != count:
        raise ValueError(
            f"mig: factor_names must be {count} distinct names, one per factor, got {list(names)}"
        )
    return names

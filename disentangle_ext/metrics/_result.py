"""The result of every metric: a score, its parts, and how they were made."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FactorResult", "Interval", "MetricResult"]


class Interval(NamedTuple):
    """The interval of a score, from random halves of its points."""

    low: float
    """The lower end; the score is not below it."""
    high: float
    """The upper end; the score is not above it."""
    bias: float
    """How much higher half of the points score on average: an estimate of how much higher all points score than the
    population. The interval is longer by it on the side where the score of the population is expected."""
    confidence: float
    """The probability that the interval is made for."""
    resamples: int
    """The number of halves."""
    seed: int
    """The seed of the draws."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MetricResult:
    """A score with its parts. Subclasses add their parts as fields, and say in ``plot`` what explains the score.

    Attributes:
        score: the number that papers report.
        settings: everything that the score depends on besides the data, with the seed: None if nothing is drawn.
        interval: the interval of the score, if the call asked for it by ``bootstrap``.
    """

    score: float
    settings: dict[str, Any]
    interval: Interval | None = None

    title: ClassVar[str]
    """The name of the metric in the field; begins ``str(result)`` and the plot."""
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    """The values between which the score lies, and hence its interval."""
    no_interval: ClassVar[str | None] = None
    """Why the score never has an interval; None where ``bootstrap`` makes one."""

    def __str__(self) -> str:
        details = self._details()
        return f"{self._headline()} ({details})" if details else self._headline()

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values for JSON: matrices as nested lists, and None for what is not defined.

        ``no_interval`` is among them where the score never has one.
        """
        plain = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return plain if self.no_interval is None else {**plain, "no_interval": self.no_interval}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws what explains the score into ``ax``, or a new figure, and returns the axes. Needs matplotlib."""
        raise NotImplementedError(f"{type(self).__name__} has no plot")

    def _headline(self) -> str:
        if self.interval is None:
            return f"{self.title} {self.score:.3f}"
        return f"{self.title} {self.score:.3f} [{self.interval.low:.3f}, {self.interval.high:.3f}]"

    def _details(self) -> str:
        """The text in the brackets of ``str(result)``."""
        return ""


@dataclass(frozen=True, eq=False, kw_only=True)
class FactorResult(MetricResult):
    """A score against ground-truth factors.

    Attributes:
        factor_names: the K names.
        skipped: the columns of factors that are constant. They are left out of ``score``, and their entries in an
            array over factors are NaN.
    """

    factor_names: tuple[str, ...]
    skipped: tuple[int, ...]

    by_factor: ClassVar[tuple[str, ...]] = ()
    """The fields of shape [K], which ``as_dict`` gives by name; ``str(result)`` shows the first."""

    def as_dict(self) -> dict[str, Any]:
        """The result as plain values for JSON: by factor name where there is one value each, None if it is skipped."""
        plain = super().as_dict()
        for name in self.by_factor:
            plain[name] = dict(zip(self.factor_names, plain[name]))
        plain["skipped"] = [self.factor_names[k] for k in self.skipped]
        return plain

    def _details(self) -> str:
        values = np.asarray(getattr(self, self.by_factor[0])) if self.by_factor else np.empty(0)
        shown = ", ".join(f"{name} {value:.3f}" for name, value in zip(self.factor_names, values) if value == value)
        skipped = [self.factor_names[k] for k in self.skipped]
        constant = f"skipped, constant: {', '.join(skipped)}" if skipped else ""
        return "; ".join(part for part in (shown, constant) if part)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, Interval):
        return value._asdict()
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

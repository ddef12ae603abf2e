"""Many metrics of one representation, each given what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.metrics._discrete import check_codes, check_table
from disentangle_ext.metrics._problem import check_count, check_names
from disentangle_ext.metrics._result import MetricResult
from disentangle_ext.metrics.active_units import active_units
from disentangle_ext.metrics.beta_vae_score import beta_vae_score
from disentangle_ext.metrics.dci import dci
from disentangle_ext.metrics.dci_es import dci_es
from disentangle_ext.metrics.dcimig import dcimig
from disentangle_ext.metrics.downstream import downstream
from disentangle_ext.metrics.explicitness import explicitness
from disentangle_ext.metrics.factor_vae_score import factor_vae_score
from disentangle_ext.metrics.gaussian_total_correlation import gaussian_total_correlation
from disentangle_ext.metrics.independence import independence
from disentangle_ext.metrics.infomec import infomec
from disentangle_ext.metrics.irs import irs
from disentangle_ext.metrics.jemmig import jemmig
from disentangle_ext.metrics.linear_symmetry import linear_symmetry
from disentangle_ext.metrics.lsbd import lsbd
from disentangle_ext.metrics.mig import mig
from disentangle_ext.metrics.mig_sup import mig_sup
from disentangle_ext.metrics.modularity import modularity
from disentangle_ext.metrics.mutual_information_score import mutual_information_score
from disentangle_ext.metrics.rmig import rmig
from disentangle_ext.metrics.sap import sap
from disentangle_ext.metrics.wasserstein_correlation import wasserstein_correlation

__all__ = ["SUITE", "Entry", "Failure", "Result", "check_metric", "choose_metrics", "score_all"]


@dataclass(frozen=True)
class Entry:
    """A metric of the suite: a function and the options in which it differs from its defaults.

    Attributes:
        function: takes codes, or codes and factors.
        options: for it.
        needs: an optional argument of the function that this entry needs.
        slow: whether it takes minutes of a core at 10,000 points, and is left out unless it is named.
        cyclic: whether it is of factors on a circle, and says nothing of others.
    """

    function: Callable[..., MetricResult]
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None
    slow: bool = False
    cyclic: bool = False

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters

    @property
    def inputs(self) -> tuple[str, ...]:
        """The arguments that have to be given: the positional ones of the function, and the one it needs besides."""
        names = [each.name for each in self.parameters.values() if each.kind is not each.KEYWORD_ONLY]
        return tuple(names if self.needs is None else [*names, self.needs])


SUITE: Mapping[str, Entry] = MappingProxyType(
    {
        "mig": Entry(mig),
        "mig_aggregate": Entry(mig, {"protocol": "aggregate"}, needs="logvar"),
        "dci": Entry(dci, slow=True),
        "dci_fast": Entry(dci, {"predictor": "fast"}),
        **{
            metric.__name__: Entry(metric)
            for metric in (
                sap,
                modularity,
                explicitness,
                irs,
                factor_vae_score,
                beta_vae_score,
                mig_sup,
                dcimig,
                jemmig,
                rmig,
                infomec,
                dci_es,
                downstream,
                gaussian_total_correlation,
                wasserstein_correlation,
                mutual_information_score,
                active_units,
            )
        },
        **{metric.__name__: Entry(metric, cyclic=True) for metric in (linear_symmetry, independence, lsbd)},
    }
)
"""The metrics, by the names that :func:`score_all` and the command line know them by."""

_ELSEWHERE = {
    "udr": "compares several models: call {}([codes, more_codes, ..]) with the codes of each on the same images",
    "correlation": "takes classes as numbers, and is not computed here: call {}(codes, factors)",
    "exact_elbo": "takes the posteriors of all images: call {}(mu, logvar), or evaluate RUN --exact-elbo",
}
"""How to compute the metrics that are not in the suite; the braces hold the name of the function."""


@dataclass(frozen=True)
class Failure:
    """Why there is no score."""

    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {"score": None, "reason": self.reason}


Result = MetricResult | Failure


def score_all(
    codes: Any,
    factors: Any = None,
    *,
    logvar: Any = None,
    metrics: Sequence[str] | None = None,
    factor_names: Sequence[str] | None = None,
    periods: Mapping[str, int] | None = None,
    seed: int = 0,
    bootstrap: int = 0,
    progress: Callable[[str, int, int], object] | None = None,
) -> dict[str, Result]:
    """Scores a representation with many metrics.

    A metric that refuses it, with a ValueError of this package, leaves the reason in the place of its result, and the
    others are computed all the same. So do the metrics of symmetries where a factor that varies is not in ``periods``:
    of factors that end somewhere they would give a number that means nothing.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], the classes of the factors, whole numbers; without them, the metrics that need none are
            computed.
        logvar: [N, D], posterior log-variances, for the metrics of posteriors: without them those are left out.
        metrics: names of :data:`SUITE`; all but the slow ones by default.
        factor_names: the K names; ``factor_0``, ``factor_1``, ... by default.
        periods: for each factor on a circle, by its name, how many classes make a turn, as a data set has them: class n
            is class 0. All others are on a line.
        seed: the seed of every metric that draws something.
        bootstrap: random halves of the points for the interval of each score that has one; 0 for none.
        progress: called before each metric with its name, the number done and their total, and once at the end with an
            empty name.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, factors that are no whole numbers, an unknown metric, one that
            needs what is not given, or a period of no factor or below 1.
        TypeError: for codes or factors that are not real numbers.
        ImportError: where scikit-learn is missing, which the extra ``metrics`` installs.

    >>> results = score_all(mu, data.factors(rows), factor_names=data.factor_names, periods=data.periods)
    >>> {name: result.score for name, result in results.items() if not isinstance(result, Failure)}
    """
    circles: _Circles | None = None
    if factors is None:
        codes = check_codes(codes, "score_all")
    else:
        codes, factors = check_table(codes, factors, "score_all")
        factor_names = check_names("score_all", factor_names, factors.shape[1])
        circles = _Circles(factors, factor_names, periods or {})
    given = {"codes": codes, "factors": factors, "logvar": logvar}
    given = {name: value for name, value in given.items() if value is not None}
    chosen = choose_metrics("score_all: metrics", metrics, given.keys())
    results: dict[str, Result] = {}
    for done, name in enumerate(chosen):
        if progress is not None:
            progress(name, done, len(chosen))
        entry = SUITE[name]
        # Rows may be sorted by factor, as those of a whole grid are.
        options: dict[str, Any] = {"factor_names": factor_names, "seed": seed, "bootstrap": bootstrap, "shuffle": True}
        options = {option: value for option, value in options.items() if option in entry.parameters}
        inputs = {each: given[each] for each in entry.inputs}
        try:
            if entry.cyclic and circles is not None:
                inputs["factors"], options["sizes"] = circles.around(name)
            results[name] = entry.function(**inputs, **{**options, **entry.options})
        except MistakeError as error:
            results[name] = Failure(str(error))
    if progress is not None:
        progress("", len(chosen), len(chosen))
    return results


class _Circles:
    """Factors and the circles that some of them are on."""

    def __init__(self, factors: np.ndarray, names: Sequence[str], periods: Mapping[str, int]) -> None:
        for name in periods:
            choose("score_all: periods: factor", name, tuple(names))
            check_count("score_all", f"periods[{name!r}]", periods[name], 1)
        self._factors, self._names, self._periods = factors, tuple(names), periods

    def around(self, where: str) -> tuple[np.ndarray, list[int]]:
        """The classes of the factors modulo their periods, and these: 1 for one that does not vary.

        Raises:
            ValueError: where a factor varies that is on a line.
        """
        varies = (self._factors != self._factors[:1]).any(0)
        lines = [name for name, some in zip(self._names, varies) if some and name not in self._periods]
        if lines:
            raise MistakeError(f"{where}: factors must be on a circle, got some without a period: {', '.join(lines)}")
        sizes = [self._periods[name] if some else 1 for name, some in zip(self._names, varies)]
        return self._factors % np.array(sizes), sizes


def check_metric(where: str, name: str) -> None:
    """Raise a MistakeError for a name that is none of :data:`SUITE`, with the way to a metric that is elsewhere."""
    if isinstance(name, str) and name in _ELSEWHERE:
        raise MistakeError(f"{where}: {name} {_ELSEWHERE[name].format(f'disentangle_ext.metrics.{name}')}")
    choose(where, name, tuple(SUITE))


def choose_metrics(where: str, metrics: Sequence[str] | None, given: Collection[str]) -> list[str]:
    """Choose the metrics to compute: those that are named, or all but the slow ones that take no more than is given.

    Args:
        where: the caller and its name for the argument; begins the errors.
        metrics: names of :data:`SUITE`, or None.
        given: names of the inputs there are: "codes", "factors", "logvar".

    Raises:
        MistakeError: as :func:`check_metric`, and for a metric that needs what is not given.
    """
    given = set(given)
    if metrics is None:
        return [name for name, entry in SUITE.items() if not entry.slow and given.issuperset(entry.inputs)]
    for name in metrics:
        check_metric(where, name)
        for missing in sorted(set(SUITE[name].inputs) - given):
            raise MistakeError(f"{where}: {name} needs {missing}, which is not given")
    return list(dict.fromkeys(metrics))

"""Many metrics of one representation, each given what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from disentangle_ext._names import choose
from disentangle_ext.metrics._discrete import check_codes, check_factors
from disentangle_ext.metrics._problem import check_names
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

__all__ = ["SUITE", "Entry", "Failure", "Result", "score_all"]


@dataclass(frozen=True)
class Entry:
    """A metric of the suite: a function and the options in which it differs from its defaults.

    Attributes:
        function: takes codes, or codes and factors.
        options: for it.
        needs: an optional argument of the function that this entry needs.
        slow: whether it takes minutes of a core at 10,000 points, and is left out unless it is named.
    """

    function: Callable[..., MetricResult]
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: str | None = None
    slow: bool = False

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        return inspect.signature(self.function).parameters

    @property
    def inputs(self) -> tuple[str, ...]:
        """What has to be given: the positional arguments of the function, and what it needs besides."""
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
                linear_symmetry,
                independence,
                lsbd,
            )
        },
    }
)
"""By the name that :func:`score_all` and the command line know them by."""


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
    seed: int = 0,
    bootstrap: int = 0,
    progress: Callable[[str, int, int], object] | None = None,
) -> dict[str, Result]:
    """Scores a representation with many metrics.

    A metric that cannot score it, for example one of cyclic factors on others, leaves the reason in the place of its
    result, and the others are computed all the same.

    Args:
        codes: [N, D], one row per image, usually the encoder's mean.
        factors: [N, K], the classes of the factors; without them, the metrics that need none are computed.
        logvar: [N, D], posterior log-variances, for the metrics of posteriors: without them those are left out.
        metrics: names of :data:`SUITE`; all but the slow ones by default.
        factor_names: the K names; ``factor_0``, ``factor_1``, ... by default.
        seed: of every metric that draws something.
        bootstrap: resamples for an interval of each score; 0 for none.
        progress: called before each metric with its name, the number done and their total, and once at the end with an
            empty name.

    Raises:
        ValueError: for a wrong shape, NaN or infinity, an unknown metric, or one that needs what is not given.
        TypeError: for codes or factors that are not real numbers.
        ImportError: where scikit-learn is missing, which the extra ``metrics`` installs.

    >>> results = score_all(mu, data.factors(rows), factor_names=data.factor_names)
    >>> {name: result.score for name, result in results.items() if not isinstance(result, Failure)}
    """
    codes = check_codes(codes, "score_all")
    if factors is not None:
        factors = check_factors(factors, len(codes), "score_all")
        factor_names = check_names("score_all", factor_names, factors.shape[1])
    given = {"codes": codes, "factors": factors, "logvar": logvar}
    given = {name: value for name, value in given.items() if value is not None}
    chosen = _chosen(metrics, set(given))
    results: dict[str, Result] = {}
    for done, name in enumerate(chosen):
        if progress is not None:
            progress(name, done, len(chosen))
        entry = SUITE[name]
        # Rows may be sorted by factor, as those of a whole grid are.
        options = {"factor_names": factor_names, "seed": seed, "bootstrap": bootstrap, "shuffle": True}
        options = {option: value for option, value in options.items() if option in entry.parameters}
        inputs = {each: given[each] for each in entry.inputs}
        try:
            results[name] = entry.function(**inputs, **{**options, **entry.options})
        except ValueError as error:
            results[name] = Failure(str(error))
    if progress is not None:
        progress("", len(chosen), len(chosen))
    return results


def _chosen(metrics: Sequence[str] | None, given: set[str]) -> list[str]:
    if metrics is None:
        return [name for name, entry in SUITE.items() if not entry.slow and given.issuperset(entry.inputs)]
    for name in metrics:
        choose("score_all: metrics", name, tuple(SUITE))
        for missing in sorted(set(SUITE[name].inputs) - given):
            raise ValueError(f"score_all: metrics: {name} needs {missing}, which is not given")
    return list(dict.fromkeys(metrics))

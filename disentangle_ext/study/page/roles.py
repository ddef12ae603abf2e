"""What a column of scores is: a metric of disentanglement, an unsupervised score, or accuracy downstream."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from disentangle_ext.metrics.suite import SUITE

__all__ = ["DOWNSTREAM", "Roles"]

DOWNSTREAM = "downstream"

# The six of the study's Figure 5, in its order.
_FIRST = ("beta_vae_score", "factor_vae_score", "mig", "dci", "dci_fast", "modularity", "sap")

# The error of the reconstruction, and what is left of dependence between latents.
_LOWER = ("reconstruction", "gaussian_total_correlation", "wasserstein_correlation", "mutual_information_score")

# Losses and their terms, which training logs. UDR compares models of several seeds.
_UNSUPERVISED = {"loss", "reconstruction", "kl", "mmd", "capacity_gap", "invariance", "mutual_information"} | {
    *("dimwise_kl", "total_correlation", "elbo", "adversary", "scale")
}
_UNSUPERVISED_PREFIXES = ("tc_", "mi_", "dwkl_", "dip_", "udr")


@dataclass(frozen=True)
class Roles:
    """The names of a table's scores by what they are, each in the order to show them.

    Attributes:
        metrics: metrics of disentanglement, and every name that is not known to be something else.
        unsupervised: scores that no factor is needed for.
        downstream: accuracies of a classifier of the factors, the one with the most labels last.
    """

    metrics: tuple[str, ...]
    unsupervised: tuple[str, ...]
    downstream: tuple[str, ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Roles:
        names = sorted(names, key=_place)
        downstream = [name for name in names if name == DOWNSTREAM or name.startswith(f"{DOWNSTREAM}_")]
        unsupervised = [name for name in names if _is_unsupervised(name)]
        metrics = [name for name in names if name not in {*downstream, *unsupervised}]
        return cls(tuple(metrics), tuple(unsupervised), tuple(sorted(downstream, key=_labels)))

    @property
    def every(self) -> tuple[str, ...]:
        return (*self.metrics, *self.unsupervised, *self.downstream)

    @property
    def lower_is_better(self) -> tuple[str, ...]:
        """The scores of which the lowest is the best."""
        return tuple(name for name in self.every if name in _LOWER)

    @property
    def directed(self) -> tuple[str, ...]:
        """The scores of which one end is known to be the better one.

        Neither end of a loss is, which is another one for each objective, nor of a term that a loss weighs against
        others, nor of a score whose name says nothing.
        """
        return tuple(name for name in self.every if name in _LOWER or _is_higher_better(name))

    def main(self, wanted: str = "mig") -> str:
        """The metric that runs are compared by: MIG, or the first there is, if possible with a better end."""
        return wanted if wanted in self.metrics else (*self.directed, *self.every)[0]


def _place(name: str) -> tuple[int, str]:
    known: Sequence[str] = (*_FIRST, *(each for each in SUITE if each not in _FIRST))
    return (known.index(name) if name in known else len(known), name)


def _is_higher_better(name: str) -> bool:
    if name in SUITE:
        return "factors" in SUITE[name].inputs
    return name == "elbo" or name.startswith(("udr", f"{DOWNSTREAM}_"))


def _is_unsupervised(name: str) -> bool:
    if name in SUITE:
        return "factors" not in SUITE[name].inputs
    return name in _UNSUPERVISED or name.startswith(_UNSUPERVISED_PREFIXES)


def _labels(name: str) -> tuple[float, str]:
    """The number in "downstream_100"; the plain name is the accuracy with the most labels."""
    number = name.removeprefix(f"{DOWNSTREAM}_")
    return (float(number) if number.isdecimal() else float("inf"), name)

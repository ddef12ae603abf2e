"""The KL term of the ELBO taken apart over a whole data set, beside what minibatches say of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext._errors import MistakeError

__all__ = ["ExactElboResult", "Term", "exact_elbo"]

ESTIMATORS = ("mss", "mws")

# Queries between two calls of `progress`: 16 of the CPU kernel's passes over the components, so that threads have
# something to do, and a second or two on a core for the 737,280 images of dSprites.
_CHUNK = 1024

# The offsets of Philox: noise of the queries and of the minibatches.
_QUERIES, _BATCHES = range(2)


class Term(NamedTuple):
    """One term of the decomposition, in nats."""

    mean: float
    sd: float
    """The standard deviation of a single query, or of a single minibatch."""
    standard_error: float
    """The standard error of the mean: ``sd`` over the root of the number of queries or minibatches."""


@dataclass(frozen=True, eq=False)
class ExactElboResult:
    """The result of :func:`exact_elbo`, in nats.

    The terms are ``mutual_information``, ``total_correlation``, ``dimwise_kl`` and their sum ``kl``, which is the KL
    term of the ELBO.

    Attributes:
        exact: each term under the mixture of all posteriors.
        estimates: for each estimator, ``mss`` and ``mws``, each term as minibatches estimate it.
        index: [Q], the images whose samples were the queries.
        z: [Q, D], those samples.
        rows: the fields of :class:`ops.ElboDecomposition` for each query, [Q].
        settings: num_points, latent_dim, queries, batch_size, batches and seed.
    """

    exact: dict[str, Term]
    estimates: dict[str, dict[str, Term]]
    index: Tensor
    z: Tensor
    rows: ops.ElboDecomposition
    settings: dict[str, int]

    @property
    def score(self) -> float:
        """The exact total correlation: 0 if the latents are independent."""
        return self.exact["total_correlation"].mean

    def __str__(self) -> str:
        terms = (f"{name} {term.mean:.3f} (s.e. {term.standard_error:.3f})" for name, term in self.exact.items())
        return f"{', '.join(terms)} nats, exact over {self.settings['num_points']:,} posteriors"

    def as_dict(self) -> dict[str, Any]:
        """The terms and settings as plain values for JSON, without what belongs to single queries."""
        measured = {"exact": self.exact, **self.estimates}
        return {
            "score": self.score,
            **{how: {name: term._asdict() for name, term in terms.items()} for how, terms in measured.items()},
            "settings": dict(self.settings),
        }


def exact_elbo(
    mu: Any,
    logvar: Any,
    *,
    queries: int = 10_000,
    batch_size: int = 64,
    batches: int = 100,
    seed: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> ExactElboResult:
    r"""Mutual information, total correlation and dimension-wise KL under the exact aggregate posterior.

    For images i, drawn without replacement, and z_i from q(z|x_i), the means over i of

    .. math::
        \log q(z_i|x_i) - \log q(z_i), \qquad
        \log q(z_i) - \sum_d \log q(z_{id}), \qquad
        \sum_d \log q(z_{id}) - \log p(z_i),

    where q(z) and q(z_d) are the mixtures of the posteriors of all N images and p(z) = N(0, I). Nothing but z is
    estimated, so the standard errors say how far off the figures are, and these are the ones to quote: a minibatch
    estimate has a bias that depends on the batch size, on N and on how narrow the posteriors are. The mutual
    information is at most log N. Where all images are queries, the standard errors are upper bounds: they count the
    difference between images, of which none is left out.

    Beside them stand the estimates that training sees: ``mss`` and ``mws`` of :func:`ops.elbo_decomposition` on
    ``batches`` minibatches, drawn as in training: a permutation of the images cut into batches, then the next one.

    The work is queries x N x (D + 1) exponentials. Components are streamed: memory beyond the inputs is linear in the
    queries and in ``batches * batch_size``. The result depends on ``seed``, not on the number of threads.

    Args:
        mu, logvar: [N, D], the posterior of every image of the data set: tensors, on any device, or arrays; float32 or
            float64, and half types are widened to float32.
        queries: number of images to draw a z for; all of a data set that has no more.
        batch_size: images in a minibatch, from 2 to N.
        batches: number of minibatches, at least 2.
        seed: decides which images are drawn, the minibatches and the noise.
        progress: called with the number of queries done and their total, after every 1,024 and at the end.

    Raises:
        ValueError: for another shape, NaN or infinity, posteriors so narrow or wide that their densities are not
            finite in this dtype, or a number out of range.
        TypeError: for posteriors that are not floating point, or two dtypes.

    Chen et al. 2018, "Isolating sources of disentanglement in variational autoencoders"; Hoffman and Johnson 2016,
    "ELBO surgery".
    """
    mu, logvar = _posteriors(mu, logvar)
    size, latent_dim = mu.shape
    for name, value, least in (("queries", queries, 2), ("batches", batches, 2), ("seed", seed, 0)):
        if not _is_int(value) or not least <= value < 1 << 63:
            raise MistakeError(f"exact_elbo: {name} must be an integer of at least {least}, got {value!r}")
    if not _is_int(batch_size) or not 2 <= batch_size <= size:
        raise MistakeError(
            f"exact_elbo: batch_size must be an integer from 2 to the {size} rows of mu, got {batch_size!r}"
        )
    generator = torch.Generator().manual_seed(int(seed))
    index = torch.arange(size) if size <= queries else torch.randperm(size, generator=generator)[: int(queries)]
    index = index.to(mu.device)
    estimates = _estimates(mu, logvar, _minibatches(size, int(batch_size), int(batches), generator), int(seed))
    z = _sample(mu[index], logvar[index], int(seed), _QUERIES)
    rows = _exact_rows(z, index, mu, logvar, progress)
    settings = {"num_points": size, "latent_dim": latent_dim, "queries": len(index)}
    settings |= {"batch_size": int(batch_size), "batches": int(batches), "seed": int(seed)}
    return ExactElboResult(_terms(rows), estimates, index, z, rows, settings)


def _exact_rows(
    z: Tensor, index: Tensor, mu: Tensor, logvar: Tensor, progress: Callable[[int, int], object] | None
) -> ops.ElboDecomposition:
    """The decomposition of every query, a chunk of queries at a time."""
    parts, done = [], 0
    for part, rows in zip(z.split(_CHUNK), index.split(_CHUNK)):
        fields = ops.elbo_decomposition(
            part,
            mu[rows],
            logvar[rows],
            dataset_size=len(mu),
            estimator="uniform",
            components=(mu, logvar),
            reduction="none",
        )
        if not all(field.isfinite().all() for field in fields):
            low, high = (float(value) for value in logvar.aminmax())
            raise MistakeError(
                f"exact_elbo: mu and logvar must have densities that are finite in {mu.dtype}, got logvar from "
                f"{low:.4g} to {high:.4g} and mu up to {float(mu.abs().max()):.4g}"
            )
        parts.append(fields)
        done += len(rows)
        if progress is not None:
            progress(done, len(index))
    return ops.ElboDecomposition(*(torch.cat(field) for field in zip(*parts)))


def _minibatches(size: int, batch_size: int, batches: int, generator: torch.Generator) -> Tensor:
    """The images of each minibatch, [batches, batch_size]: an epoch is a permutation, without what fills no batch."""
    each = size // batch_size
    epochs = math.ceil(batches / each)
    drawn = [torch.randperm(size, generator=generator)[: each * batch_size] for _ in range(epochs)]
    return torch.cat(drawn).view(-1, batch_size)[:batches]


def _estimates(mu: Tensor, logvar: Tensor, index: Tensor, seed: int) -> dict[str, dict[str, Term]]:
    """The terms by each estimator, with the minibatches as a stack of problems for one launch."""
    index = index.to(mu.device)
    batch = mu[index], logvar[index]
    z = _sample(*batch, seed, _BATCHES)
    return {
        name: _terms(ops.elbo_decomposition(z, *batch, dataset_size=len(mu), estimator=name)) for name in ESTIMATORS
    }


def _sample(mu: Tensor, logvar: Tensor, seed: int, stream: int) -> Tensor:
    return ops.rsample_kl(mu, logvar, key=torch.tensor([seed, stream], device=mu.device))[0]


def _terms(fields: ops.ElboDecomposition) -> dict[str, Term]:
    """Mean and spread of the terms over the queries or minibatches, summed in float64."""
    names = ("mutual_information", "total_correlation", "dimwise_kl")
    values = {name: getattr(fields, name).double() for name in names}
    values["kl"] = torch.stack(list(values.values())).sum(0)
    return {name: _term(value) for name, value in values.items()}


def _term(values: Tensor) -> Term:
    sd = float(values.std())
    return Term(float(values.mean()), sd, sd / math.sqrt(len(values)))


def _posteriors(mu: Any, logvar: Any) -> tuple[Tensor, Tensor]:
    """Both as contiguous tensors of one floating-point type, so that no chunk converts them again."""
    mean, log_variance = _floating("mu", mu), _floating("logvar", logvar)
    if mean.ndim != 2 or len(mean) < 2 or mean.shape[1] == 0:
        raise MistakeError(
            f"exact_elbo: mu must be [N, D] with at least two rows and one column, got {list(mean.shape)}"
        )
    if log_variance.shape != mean.shape:
        raise MistakeError(
            f"exact_elbo: logvar must have the shape of mu {list(mean.shape)}, got {list(log_variance.shape)}"
        )
    if log_variance.dtype != mean.dtype:
        raise TypeError(f"exact_elbo: logvar must have the dtype of mu ({mean.dtype}), got {log_variance.dtype}")
    if log_variance.device != mean.device:
        raise MistakeError(f"exact_elbo: logvar must be on the device of mu ({mean.device}), got {log_variance.device}")
    for name, value in (("mu", mean), ("logvar", log_variance)):
        finite = value.isfinite()
        if not finite.all():
            row, column = (~finite).nonzero()[0].tolist()
            raise MistakeError(f"exact_elbo: {name} must be finite, got {value[row, column]} at [{row}, {column}]")
    return mean, log_variance


def _floating(name: str, value: Any) -> Tensor:
    tensor = value.detach() if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))
    if not tensor.is_floating_point():
        raise TypeError(f"exact_elbo: {name} must be floating point, got {tensor.dtype}")
    half = tensor.dtype in (torch.float16, torch.bfloat16)
    return (tensor.float() if half else tensor).contiguous()


def _is_int(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)

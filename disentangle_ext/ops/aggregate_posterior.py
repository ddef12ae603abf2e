"""Log-density of the aggregate posterior, joint and per dimension."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext._extension import available
from disentangle_ext.ops import _checks, _collectives, _library, reference


def aggregate_posterior(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    estimator: str = "uniform",
    dataset_size: int | None = None,
    log_weight: Tensor | None = None,
    offset: int = 0,
    process_group: ProcessGroup | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Log-density of M queries under a weighted mixture of N diagonal Gaussians, joint and per latent dimension.

    .. math::
        \log q(z_i) = \operatorname{LSE}_j \Big( w_{ij} + \sum_d \ell_{ijd} \Big) \qquad
        \log q(z_{id}) = \operatorname{LSE}_j \big( w_{ij} + \ell_{ijd} \big) \qquad
        \ell_{ijd} = \log \mathcal N(z_{id}; \mu_{jd}, e^{\text{logvar}_{jd}})

    Memory is linear in the inputs: no [M, N] tensor is formed, forward or backward. Queries do not depend on each
    other: :func:`metrics.exact_elbo` takes them in chunks, and reports its progress, for a whole data set.

    Args:
        z: [.., M, D], the queries.
        mu, logvar: [.., N, D], the components.
        estimator: the log-weights w_ij, where ``m = N - 1`` and ``dataset_size`` is the number of training points.

            - ``"uniform"``: -log N; exact q(z) when the components are the whole data set.
            - ``"mws"``, minibatch weighted sampling: -log(dataset_size N). Its gradient is the field's training
              signal; as a measurement it is about (D - 1) log(dataset_size) too high in the total correlation.
            - ``"mss"``, minibatch stratified sampling: the query's own component has weight 1 / dataset_size, the next
              one (dataset_size - m) / (dataset_size m), the others 1 / m.
            - ``"mss_legacy"``: the misplaced weights of several public codes, to compare with old runs.
        dataset_size: needed by all but "uniform".
        log_weight: [.., N], importance weights in nats in place of an estimator; differentiable.
        offset: query i is component ``offset + i`` (stratified estimators).
        process_group: ranks that each hold N of the components: the mixture is of those of all ranks, N in the weights
            is their number, and ``offset`` counts from the first of this rank. The queries stay the rank's own.

    Returns:
        log q(z) [.., M] and log q(z_d) [.., M, D], in nats; float32 for half inputs. A query to which every component
        gives density zero has -inf, and zero gradients.

    Raises:
        ValueError, TypeError: shapes, dtypes or devices do not fit; ``dataset_size`` missing or below N; an unknown
            estimator; fewer than 2 components for a stratified estimator; ``offset`` outside the components;
            ranks whose shapes, dtypes or settings differ (raised on each of them).

    Chen et al. 2018, "Isolating sources of disentanglement in variational autoencoders", appendix C.
    """
    op = "aggregate_posterior"
    if process_group is None and log_weight is None and _library.is_zero(offset):
        densities = _library.eager(op, z, mu, logvar, estimator, dataset_size)
        if densities is not None:
            return densities
    if (group := _collectives.parallel(op, process_group)) is not None:
        settings = {"estimator": estimator, "dataset_size": dataset_size, "offset": offset}
        _collectives.agree(op, group, z=z, mu=mu, logvar=logvar, log_weight=log_weight, **settings)
    _checks.floating(op, "z", z, 2)
    z, mu, logvar, log_weight = _library.under_autocast(z, mu, logvar, log_weight)
    _checks.rows_like(op, "mu", mu, "z", z)
    _checks.same(op, "logvar", logvar, "mu", mu)
    if log_weight is not None:
        _check_log_weight(op, log_weight, mu, estimator, dataset_size)
    if group is not None:
        _checks.integer(op, "offset", offset)
        offset += _collectives.first_row(group, mu.shape[-2])
        mu, logvar, log_weight = _all_components(group, mu, logvar, log_weight)
    number = 0
    if log_weight is None:
        number = _checks.estimator(
            op, estimator, queries=z.shape[-2], components=mu.shape[-2], dataset_size=dataset_size, offset=offset
        )
    if not available(z.device.type):
        return reference.aggregate_posterior(z, mu, logvar, log_weight, estimator, dataset_size, offset)
    return _AggregatePosterior.call(z, mu, logvar, log_weight, number, dataset_size or 0, offset)


def _check_log_weight(op: str, log_weight: Tensor, mu: Tensor, estimator: str, dataset_size: int | None) -> None:
    _checks.same_kind(op, "log_weight", log_weight, "mu", mu)
    if log_weight.shape != mu.shape[:-1]:
        raise ValueError(
            f"{op}: log_weight must have the shape {_checks.shape(mu)[:-1]} of mu without its last dimension, "
            f"got {_checks.shape(log_weight)}"
        )
    if estimator != "uniform" or dataset_size is not None:
        raise ValueError(f"{op}: log_weight takes the place of estimator and dataset_size: give one or the other")


def _all_components(
    group: ProcessGroup, mu: Tensor, logvar: Tensor, log_weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    if log_weight is None:
        mu, logvar = _collectives.gather(group, mu, logvar)
        return mu, logvar, None
    mu, logvar, column = _collectives.gather(group, mu, logvar, log_weight[..., None])
    return mu, logvar, column[..., 0]


class _AggregatePosterior(_library.Op):
    @staticmethod
    def forward(
        z: Tensor,
        mu: Tensor,
        logvar: Tensor,
        log_weight: Tensor | None,
        estimator: int,
        dataset_size: int,
        offset: int,
    ) -> tuple[Tensor, Tensor]:
        return _library.raw("aggregate_posterior")(z, mu, logvar, log_weight, estimator, dataset_size, offset)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        z, mu, logvar, log_weight, *ctx.settings = inputs
        ctx.save_for_backward(z, mu, logvar, log_weight, *output)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_joint: Tensor | None, grad_marginals: Tensor | None) -> tuple[Tensor | None, ...]:
        if grad_joint is None and grad_marginals is None:
            return (None,) * 7
        z, mu, logvar, log_weight, *output = ctx.saved_tensors
        grads = _library.raw("aggregate_posterior_backward")(
            grad_joint, grad_marginals, z, mu, logvar, log_weight, *output, *ctx.settings
        )
        return *grads[:3], None if log_weight is None else grads[3], None, None, None


_library.register_vmap("aggregate_posterior")
_library.register_vmap("aggregate_posterior_backward")


@_library.register_fake("aggregate_posterior")
def _(
    z: Tensor, mu: Tensor, logvar: Tensor, log_weight: Tensor | None, estimator: int, dataset_size: int, offset: int
) -> tuple[Tensor, Tensor]:
    dtype = _library.compute_dtype(z)
    return z.new_empty(z.shape[:-1], dtype=dtype), z.new_empty(z.shape, dtype=dtype)


@_library.register_fake("aggregate_posterior_backward")
def _(
    grad_log_qz: Tensor | None,
    grad_log_qz_marginals: Tensor | None,
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    log_weight: Tensor | None,
    log_qz: Tensor,
    log_qz_marginals: Tensor,
    estimator: int,
    dataset_size: int,
    offset: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight = torch.empty_like(log_weight) if log_weight is not None else z.new_empty(0, dtype=_library.compute_dtype(z))
    return z.new_empty(z.shape), mu.new_empty(mu.shape), mu.new_empty(mu.shape), weight.contiguous()

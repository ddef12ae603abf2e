"""The KL term of the ELBO taken apart: mutual information, total correlation, dimension-wise KL."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext._extension import available
from disentangle_ext.ops import _checks, _collectives, _library, reference


class ElboDecomposition(NamedTuple):
    """What :func:`elbo_decomposition` returns, in nats; every field is reduced as asked and differentiable."""

    mutual_information: Tensor
    total_correlation: Tensor
    dimwise_kl: Tensor
    log_qz_x: Tensor
    log_qz: Tensor
    log_prod_qz: Tensor
    log_pz: Tensor


def elbo_decomposition(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    dataset_size: int,
    estimator: str = "mss",
    components: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    reduction: str = "mean",
    process_group: ProcessGroup | None = None,
) -> ElboDecomposition:
    r"""Decomposes KL(q(z|x) || p(z)), averaged over the data, with a minibatch estimate of the aggregate posterior.

    .. math::
        \underbrace{\log q(z|x) - \log q(z)}_{\text{mutual information}} +
        \underbrace{\log q(z) - \textstyle\sum_d \log q(z_d)}_{\text{total correlation}} +
        \underbrace{\textstyle\sum_d \log q(z_d) - \log p(z)}_{\text{dimension-wise KL}} = \log q(z|x) - \log p(z)

    with p(z) = N(0, I) and q(z), q(z_d) from :func:`aggregate_posterior`. The terms are fused into one forward and one
    backward kernel with memory linear in the batch.

    Which estimator: train with ``"mws"`` (the gradient that beta-TCVAE papers use), report ``"mss"``, which is near the
    exact value while posteriors are broad and saturates as they narrow. For a figure in a paper, take
    :func:`metrics.exact_elbo`, which has the whole data set as components.

    Args:
        z: [.., B, D], samples of q(z|x).
        mu, logvar: [.., B, D], the posteriors they were drawn from.
        dataset_size: number of training points N.
        estimator: "mss", "mws", "mss_legacy" or "uniform", see :func:`aggregate_posterior`.
        components: (mu, logvar), both [.., N_c, D]: the posteriors that make up q(z); the batch itself if None.
        offset: with ``components``, query i is component ``offset + i``.
        reduction: "mean" or "sum" over the batch, or "none".
        process_group: ranks that each hold an equal shard of the batch. The components are those of all ranks, and
            ``offset`` counts from the first of this rank. What is returned belongs to the rank's own rows: the mean
            over ranks of values (``reduction="mean"``) and of gradients is that of one process with the whole batch.

    Returns:
        :class:`ElboDecomposition`; fields are [..] (scalars without leading dimensions), or [.., B] with "none"; in
        nats, float32 for half inputs.

    Raises:
        ValueError, TypeError: as :func:`aggregate_posterior`; an unknown reduction;
            ranks whose shapes, dtypes or settings differ (raised on each of them).

    Chen et al. 2018, "Isolating sources of disentanglement in variational autoencoders"; Hoffman and Johnson 2016,
    "ELBO surgery".
    """
    if process_group is None and components is None and _library.is_zero(offset):
        fields = _library.eager("elbo_decomposition", z, mu, logvar, dataset_size, estimator, reduction)
        if fields is not None:
            return ElboDecomposition._make(fields)
    return _decompose(
        "elbo_decomposition", z, mu, logvar, dataset_size, estimator, components, offset, reduction, process_group
    )


def _decompose(
    op: str,
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    dataset_size: int,
    estimator: str,
    components: Any,
    offset: int,
    reduction: str,
    process_group: ProcessGroup | None,
) -> ElboDecomposition:
    """Check the arguments and compute; ``op`` is who was called."""
    component_mu, component_logvar = _pair(op, components)
    if (group := _collectives.parallel(op, process_group)) is not None:
        pair = {"components[0]": component_mu, "components[1]": component_logvar}
        options = {"dataset_size": dataset_size, "estimator": estimator, "offset": offset, "reduction": reduction}
        _collectives.agree(op, group, z=z, mu=mu, logvar=logvar, **pair, **options)
    _checks.floating(op, "z", z, 2)
    z, mu, logvar, component_mu, component_logvar = _library.under_autocast(
        z, mu, logvar, component_mu, component_logvar
    )
    _checks.same(op, "mu", mu, "z", z)
    _checks.same(op, "logvar", logvar, "mu", mu)
    _checks.reduction(op, reduction)
    if components is not None:
        _checks.rows_like(op, "components[0]", component_mu, "z", z)
        _checks.same(op, "components[1]", component_logvar, "components[0]", component_mu)
    if group is not None:
        _checks.integer(op, "offset", offset)
        own = (mu, logvar) if components is None else (component_mu, component_logvar)
        component_mu, component_logvar = _collectives.gather(group, *own)
        offset += _collectives.first_row(group, own[0].shape[-2])
    number = _checks.estimator(
        op,
        estimator,
        queries=z.shape[-2],
        components=(mu if component_mu is None else component_mu).shape[-2],
        dataset_size=dataset_size,
        offset=offset,
    )
    if not available(z.device.type):
        fields = reference.elbo_decomposition(
            z, mu, logvar, component_mu, component_logvar, estimator, dataset_size, offset, reduction
        )
    else:
        settings = (number, dataset_size or 0, offset, _checks.REDUCTIONS.index(reduction))
        fields = _ElboDecomposition.call(z, mu, logvar, component_mu, component_logvar, *settings)[:7]
    return ElboDecomposition(*fields)


def _pair(op: str, components: Any) -> tuple[Any, Any]:
    if components is None:
        return None, None
    if not isinstance(components, (tuple, list)) or len(components) != 2:
        raise TypeError(f"{op}: components must be a pair (mu, logvar), got {type(components).__name__}")
    return components[0], components[1]


def total_correlation(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    *,
    dataset_size: int,
    estimator: str = "mss",
    components: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    reduction: str = "mean",
    process_group: ProcessGroup | None = None,
) -> Tensor:
    """The total correlation KL(q(z) || prod_d q(z_d)) in nats: the field of :func:`elbo_decomposition` of that name."""
    if process_group is None and components is None and _library.is_zero(offset):
        fields = _library.eager("elbo_decomposition", z, mu, logvar, dataset_size, estimator, reduction)
        if fields is not None:
            return ElboDecomposition._make(fields).total_correlation
    return _decompose(
        "total_correlation", z, mu, logvar, dataset_size, estimator, components, offset, reduction, process_group
    ).total_correlation


class _ElboDecomposition(_library.Op):
    @staticmethod
    def forward(
        z: Tensor,
        mu: Tensor,
        logvar: Tensor,
        component_mu: Tensor | None,
        component_logvar: Tensor | None,
        estimator: int,
        dataset_size: int,
        offset: int,
        reduction: int,
    ) -> tuple[Tensor, ...]:
        return _library.raw("elbo_decomposition")(
            z, mu, logvar, component_mu, component_logvar, estimator, dataset_size, offset, reduction
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.settings = inputs[5:]
        ctx.save_for_backward(*inputs[:5], *output[7:])
        ctx.mark_non_differentiable(*output[7:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        if all(g is None for g in grads[:7]):
            return (None,) * 9
        *inputs, rows_log_qz, rows_marginals = ctx.saved_tensors
        out = _library.raw("elbo_decomposition_backward")(
            list(grads[:7]), *inputs, rows_log_qz, rows_marginals, *ctx.settings
        )
        components = (None, None) if inputs[3] is None else out[3:]
        return *out[:3], *components, None, None, None, None


_library.register_vmap("elbo_decomposition")
_library.register_vmap("elbo_decomposition_backward")


@_library.register_fake("elbo_decomposition")
def _(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    component_mu: Tensor | None,
    component_logvar: Tensor | None,
    estimator: int,
    dataset_size: int,
    offset: int,
    reduction: int,
) -> tuple[Tensor, ...]:
    dtype = _library.compute_dtype(z)
    field = z.shape[:-1] if reduction == 0 else z.shape[:-2]
    rows = (z.new_empty(z.shape[:-1], dtype=dtype), z.new_empty(z.shape, dtype=dtype))
    return *(z.new_empty(field, dtype=dtype) for _ in range(7)), *rows


@_library.register_fake("elbo_decomposition_backward")
def _(
    grads: list[Tensor | None],
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    component_mu: Tensor | None,
    component_logvar: Tensor | None,
    rows_log_qz: Tensor,
    rows_log_qz_marginals: Tensor,
    estimator: int,
    dataset_size: int,
    offset: int,
    reduction: int,
) -> tuple[Tensor, ...]:
    component = z.new_empty(0 if component_mu is None else component_mu.shape)
    own = tuple(z.new_empty(z.shape) for _ in range(3))
    return *own, component, component.clone()

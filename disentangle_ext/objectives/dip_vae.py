"""DIP-VAE I and II."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.models.vae import VAEOutput
from disentangle_ext.objectives._arguments import check_codes, check_output, check_weights
from disentangle_ext.objectives.base import Loss, Objective
from disentangle_ext.objectives.likelihood import Scale, negative_log_likelihood
from disentangle_ext.ops import _collectives

_DIAGONAL_FACTOR = {"i": 10.0, "ii": 1.0}  # lambda_d in terms of lambda_od, as the study of Locatello et al. sets it


def dip_penalty(
    mu: Tensor,
    logvar: Tensor,
    *,
    kind: str,
    lambda_od: float,
    lambda_d: float,
    process_group: ProcessGroup | None = None,
) -> tuple[Tensor, Tensor]:
    """The two terms of the disentangled inferred prior, weighted (Kumar et al. 2018, equations 6 and 7).

        lambda_od sum_{i != j} S_ij^2,   lambda_d sum_i (S_ii - 1)^2

    with S = Cov[mu] for kind "i" and S = Cov[mu] + E[diag exp(logvar)] for kind "ii"; covariances over the batch,
    divided by B.

    Args:
        mu: posterior means [B, D].
        logvar: posterior log-variances [B, D].
        kind: "i" or "ii".
        lambda_od: weight of the off-diagonal term.
        lambda_d: weight of the diagonal term.
        process_group: ranks that each hold an equal shard of the batch: the covariance is the whole batch's.

    Returns:
        The off-diagonal and the diagonal term, scalars.

    Raises:
        ValueError: for an unknown kind, a weight that is negative or not finite, or shapes that are not [B, D], B >= 1.
    """
    choose("dip_penalty: kind", kind, _DIAGONAL_FACTOR)
    check_weights("dip_penalty", lambda_od=lambda_od, lambda_d=lambda_d)
    if (group := _collectives.parallel("dip_penalty", process_group)) is not None:
        _collectives.agree("dip_penalty", group, mu=mu, logvar=logvar)
    check_codes("dip_penalty", mu=mu, logvar=logvar)
    if mu.ndim != 2 or mu.shape != logvar.shape or len(mu) == 0:
        raise MistakeError(
            f"dip_penalty: mu and logvar must both be [B, D] with B >= 1, got {tuple(mu.shape)}, {tuple(logvar.shape)}"
        )
    if group is not None:
        mu, logvar = _collectives.gather(group, mu, logvar)
    centred = mu - mu.mean(0)
    covariance = centred.T @ centred / len(mu)
    diagonal = covariance.diagonal()
    if kind == "ii":
        diagonal = diagonal + logvar.exp().mean(0)
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    return lambda_od * off_diagonal.square().sum(), lambda_d * (diagonal - 1).square().sum()


def dip_vae(
    output: VAEOutput,
    images: Tensor,
    *,
    kind: str,
    lambda_od: float = 10.0,
    lambda_d: float | None = None,
    likelihood: str = "bernoulli",
    scale: float | Tensor = 1.0,
    process_group: ProcessGroup | None = None,
) -> Loss:
    """recon + KL + :func:`dip_penalty`, averaged over the batch (Kumar et al. 2018, "Variational inference of
    disentangled latent concepts from unlabeled observations").

    Args:
        output: what a :class:`models.VAE` returns for B images.
        images: [B, C, H, W] in [0, 1].
        kind: "i" or "ii".
        lambda_od: weight of the off-diagonal term.
        lambda_d: weight of the diagonal term; default: 10 lambda_od for "i", lambda_od for "ii".
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.
        process_group: as for :func:`dip_penalty`.

    Returns:
        A :class:`Loss` with the terms ``reconstruction``, ``kl``, ``dip_off_diagonal`` and ``dip_diagonal``, the last
        two with their weights.
    """
    check_output("dip_vae", output)
    choose("dip_vae: kind", kind, _DIAGONAL_FACTOR)
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    kl = output.kl.mean()
    check_weights("dip_vae", lambda_od=lambda_od, lambda_d=0.0 if lambda_d is None else lambda_d)
    weight = lambda_od * _DIAGONAL_FACTOR[kind] if lambda_d is None else lambda_d
    off_diagonal, diagonal = dip_penalty(
        output.mu, output.logvar, kind=kind, lambda_od=lambda_od, lambda_d=weight, process_group=process_group
    )
    terms = {"reconstruction": recon, "kl": kl, "dip_off_diagonal": off_diagonal, "dip_diagonal": diagonal}
    return Loss(recon + kl + off_diagonal + diagonal, terms)


class _DIPVAE(Objective):
    kind: str

    def __init__(
        self,
        *,
        lambda_od: float = 10.0,
        lambda_d: float | None = None,
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        super().__init__(likelihood=likelihood, scale=scale)
        check_weights("dip_vae", lambda_od=lambda_od, lambda_d=0.0 if lambda_d is None else lambda_d)
        self.lambda_od = lambda_od
        self.lambda_d = lambda_d

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        return dip_vae(
            output,
            images,
            kind=self.kind,
            lambda_od=self.lambda_od,
            lambda_d=self.lambda_d,
            likelihood=self.likelihood,
            scale=self.scale,
            process_group=self.process_group,
        )

    def extra_repr(self) -> str:
        return f"lambda_od={self.lambda_od}, lambda_d={self.lambda_d}"


class DIPVAEI(_DIPVAE):
    """:func:`dip_vae` of kind "i": the covariance of the posterior means.

    Args:
        lambda_od: weight of the off-diagonal term.
        lambda_d: weight of the diagonal term; 10 lambda_od if not given.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    kind = "i"


class DIPVAEII(_DIPVAE):
    """:func:`dip_vae` of kind "ii": the covariance of the sampled codes.

    Args:
        lambda_od: weight of the off-diagonal term.
        lambda_d: weight of the diagonal term; lambda_od if not given.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    kind = "ii"

"""InfoVAE, which with alpha = 1 is the MMD-VAE."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext.models.vae import VAEOutput
from disentangle_ext.objectives._arguments import check_number, check_output, check_weights
from disentangle_ext.objectives.base import Loss, Objective
from disentangle_ext.objectives.likelihood import Scale, negative_log_likelihood
from disentangle_ext.objectives.prior_mmd import Convention, check_convention, prior_mmd, smallest_batch


def info_vae(
    output: VAEOutput,
    images: Tensor,
    *,
    alpha: float = 1.0,
    lambda_mmd: float = 50.0,
    convention: Convention = "infovae",
    likelihood: str = "bernoulli",
    scale: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    process_group: ProcessGroup | None = None,
) -> Loss:
    """recon + (1 - alpha) KL + (alpha + lambda - 1) MMD^2(q(z), p(z)), averaged over the batch (Zhao et al. 2017,
    "InfoVAE: information maximizing variational autoencoders").

    alpha weighs the mutual information of image and code: with 1, the default, the KL drops out (MMD-VAE); with 0 it
    is a VAE whose aggregate posterior is pulled to the prior with weight lambda - 1. recon and KL are in nats.

    Args:
        output: what a :class:`models.VAE` returns for B images; B >= 2 unless the convention is "infovae".
        images: [B, C, H, W] in [0, 1].
        alpha: weight of the mutual information.
        lambda_mmd: lambda, weight of the divergence of the aggregate posterior.
        convention: kernel and estimator of :func:`ops.mmd`: "infovae" is the authors' program.
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.
        generator: where the draws of the prior come from; default: torch's.
        key: instead of a generator, int64 [2].
        process_group: ranks that each hold an equal shard of the batch: the MMD is that of the
            whole batch, and ``key`` must be given, the same on every rank.

    Returns:
        A :class:`Loss` with the terms ``reconstruction``, ``kl`` and ``mmd``.

    Raises:
        ValueError: for an unknown convention, or a ``lambda_mmd`` that is negative or not finite.
    """
    check_output("info_vae", output)
    check_convention("info_vae", convention)
    check_weights("info_vae", lambda_mmd=lambda_mmd)
    check_number("info_vae", "alpha", alpha)
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    kl = output.kl.mean()
    mmd = prior_mmd(output.z, convention=convention, generator=generator, key=key, process_group=process_group)
    total = recon + (1 - alpha) * kl + (alpha + lambda_mmd - 1) * mmd
    return Loss(total, {"reconstruction": recon, "kl": kl, "mmd": mmd})


class InfoVAE(Objective):
    """:func:`info_vae` as a module.

    Args:
        alpha: weight of the mutual information: 1 leaves the KL out, 0 keeps all of it.
        lambda_mmd: weight of the divergence of the aggregate posterior from the prior.
        convention: kernel and estimator of the MMD: infovae (the authors' program), wae or wae_rbf.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        lambda_mmd: float = 50.0,
        convention: Convention = "infovae",
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        super().__init__(likelihood=likelihood, scale=scale)
        check_convention("info_vae", convention)
        check_weights("info_vae", lambda_mmd=lambda_mmd)
        check_number("info_vae", "alpha", alpha)
        self.smallest_batch = smallest_batch(convention)
        self.alpha = alpha
        self.lambda_mmd = lambda_mmd
        self.convention: Convention = convention

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        return info_vae(
            output,
            images,
            alpha=self.alpha,
            lambda_mmd=self.lambda_mmd,
            convention=self.convention,
            likelihood=self.likelihood,
            scale=self.scale,
            key=key,
            process_group=self.process_group,
        )

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, lambda_mmd={self.lambda_mmd}, convention={self.convention!r}"

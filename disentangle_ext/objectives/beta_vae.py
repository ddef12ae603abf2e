"""beta-VAE."""

from __future__ import annotations

from torch import Tensor

from disentangle_ext.models.vae import VAEOutput
from disentangle_ext.objectives._arguments import check_output, check_weights
from disentangle_ext.objectives.base import Loss, Objective
from disentangle_ext.objectives.likelihood import Scale, negative_log_likelihood


def beta_vae(
    output: VAEOutput, images: Tensor, *, beta: float = 4.0, likelihood: str = "bernoulli", scale: float | Tensor = 1.0
) -> Loss:
    """recon + beta KL, averaged over the batch (Higgins et al. 2017, "beta-VAE").

    recon = -log p(x|z) and KL = KL(q(z|x) || N(0, I)), both in nats and summed, over pixels and over latents.
    beta = 1 is the VAE.

    Args:
        output: what a :class:`models.VAE` returns for B images.
        images: [B, C, H, W] in [0, 1].
        beta: weight of the KL.
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.

    Returns:
        A :class:`Loss` with the terms ``reconstruction`` and ``kl``.

    Raises:
        ValueError: for a weight that is negative or not finite.
    """
    check_output("beta_vae", output)
    check_weights("beta_vae", beta=beta)
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    kl = output.kl.mean()
    return Loss(recon + beta * kl, {"reconstruction": recon, "kl": kl})


class BetaVAE(Objective):
    """:func:`beta_vae` as a module.

    Args:
        beta: weight of the KL.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    def __init__(self, *, beta: float = 4.0, likelihood: str = "bernoulli", scale: Scale = 1.0) -> None:
        super().__init__(likelihood=likelihood, scale=scale)
        check_weights("beta_vae", beta=beta)
        self.beta = beta

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        return beta_vae(output, images, beta=self.beta, likelihood=self.likelihood, scale=self.scale)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, likelihood={self.likelihood!r}"

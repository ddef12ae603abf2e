"""The autoencoder and the variational autoencoder: what the other objectives add to."""

from __future__ import annotations

from torch import Tensor

from disentangle_ext.models.vae import VAEOutput
from disentangle_ext.objectives._arguments import check_output
from disentangle_ext.objectives.base import Loss, Objective
from disentangle_ext.objectives.likelihood import negative_log_likelihood


def ae(output: VAEOutput, images: Tensor, *, likelihood: str = "bernoulli", scale: float | Tensor = 1.0) -> Loss:
    """recon alone, averaged over the batch: the autoencoder (Hinton & Salakhutdinov 2006, "Reducing the dimensionality
    of data with neural networks").

    recon = -log p(x|z) in nats, summed over pixels. The code is the encoder's mean, without noise; the log-variance
    is not trained and means nothing.

    Args:
        output: what ``model(images, sample=False)`` returns.
        images: [B, C, H, W] in [0, 1].
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.

    Returns:
        A :class:`Loss` with the term ``reconstruction``.
    """
    check_output("ae", output)
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    return Loss(recon, {"reconstruction": recon})


def vae(output: VAEOutput, images: Tensor, *, likelihood: str = "bernoulli", scale: float | Tensor = 1.0) -> Loss:
    """recon + KL, averaged over the batch: minus the evidence lower bound (Kingma & Welling 2014, "Auto-encoding
    variational Bayes"; Rezende et al. 2014).

    recon = -log p(x|z) and KL = KL(q(z|x) || N(0, I)), both in nats and summed, over pixels and over latents.

    Args:
        output: what a :class:`models.VAE` returns for B images.
        images: [B, C, H, W] in [0, 1].
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.

    Returns:
        A :class:`Loss` with the terms ``reconstruction`` and ``kl``.
    """
    check_output("vae", output)
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    kl = output.kl.mean()
    return Loss(recon + kl, {"reconstruction": recon, "kl": kl})


class PlainAE(Objective):
    """:func:`ae` as a module.

    Args:
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    deterministic = True

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        return ae(output, images, likelihood=self.likelihood, scale=self.scale)

    def extra_repr(self) -> str:
        return f"likelihood={self.likelihood!r}"


class PlainVAE(Objective):
    """:func:`vae` as a module.

    Args:
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        return vae(output, images, likelihood=self.likelihood, scale=self.scale)

    def extra_repr(self) -> str:
        return f"likelihood={self.likelihood!r}"

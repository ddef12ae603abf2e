"""Learning from pairs of images that share most factors: Ada-GVAE and ML-VAE."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext import ops
from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.models.vae import VAE, VAEOutput
from disentangle_ext.objectives._arguments import check_codes, check_model, check_weights
from disentangle_ext.objectives.base import Changes, Loss, PairObjective
from disentangle_ext.objectives.beta_vae import beta_vae
from disentangle_ext.objectives.likelihood import Scale
from disentangle_ext.ops import _checks

Average = Literal["arithmetic", "product", "geometric"]
Product = Literal["product", "geometric"]


def share_posteriors(mu: Tensor, logvar: Tensor, *, average: Average = "arithmetic") -> tuple[Tensor, Tensor]:
    """Give both images of a pair one posterior in the latents that they seem to share (Locatello et al. 2020,
    "Weakly-supervised disentanglement without compromises").

        delta_d = KL(q(z_d|x1) || q(z_d|x2)),   shared where delta_d < (max_d delta_d + min_d delta_d) / 2

    There, with variances v, the posteriors of both become

        average="arithmetic"    N((mu1 + mu2) / 2, (v1 + v2) / 2)                      (GVAE, Hosoya 2019)
        average="product"       N(v (mu1 / v1 + mu2 / v2), v),  1 / v = 1 / v1 + 1 / v2    (ML-VAE, Bouchacourt 2018)
        average="geometric"     the same mean with the variance 2 v

    The product of two densities is narrower than either. Their geometric mean, sqrt(q1 q2) up to a constant, has twice
    the variance of the product: disentanglement_lib and disent compute it under the name of ML-VAE.

    Which latents are shared is a decision without a gradient; where all delta_d are equal, none are.

    Args:
        mu: posterior means [2 P, D], of the first images of P pairs and then of the second.
        logvar: posterior log-variances [2 P, D].
        average: "arithmetic", "product" or "geometric".

    Returns:
        Means and log-variances [2 P, D].

    Raises:
        ValueError: for an unknown average, or shapes that are not [2 P, D].
    """
    choose("share_posteriors: average", average, get_args(Average))
    check_codes("share_posteriors", mu=mu, logvar=logvar)
    if mu.ndim != 2 or mu.shape != logvar.shape or len(mu) % 2:
        raise MistakeError(
            f"share_posteriors: mu and logvar must both be [2 P, D], got {tuple(mu.shape)} and {tuple(logvar.shape)}"
        )
    (mu1, mu2), (logvar1, logvar2) = mu.chunk(2), logvar.chunk(2)
    delta = 0.5 * (logvar2 - logvar1 + (logvar1 - logvar2).exp() + (mu1 - mu2) ** 2 * (-logvar2).exp() - 1)
    low, high = delta.detach().aminmax(dim=1, keepdim=True)
    shared = (delta.detach() < (low + high) / 2).repeat(2, 1)
    if average == "arithmetic":
        mean, log_variance = (mu1 + mu2) / 2, torch.logaddexp(logvar1, logvar2) - _LOG_2
    else:
        log_variance = -torch.logaddexp(-logvar1, -logvar2)
        mean = (log_variance - logvar1).exp() * mu1 + (log_variance - logvar2).exp() * mu2
        if average == "geometric":
            log_variance = log_variance + _LOG_2
    return torch.where(shared, mean.repeat(2, 1), mu), torch.where(shared, log_variance.repeat(2, 1), logvar)


_LOG_2 = 0.6931471805599453


def ada_gvae(
    model: VAE,
    images: Tensor,
    *,
    beta: float = 1.0,
    average: Average = "arithmetic",
    likelihood: str = "bernoulli",
    scale: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    process_group: ProcessGroup | None = None,
) -> tuple[VAEOutput, Loss]:
    """recon + beta KL of both images of a pair, with the posteriors of :func:`share_posteriors`, averaged over all
    images: Ada-GVAE (Locatello et al. 2020, "Weakly-supervised disentanglement without compromises").

    It takes the model, not what the model made of the images: what is decoded are samples of the shared posteriors.

    Args:
        model: encoder and decoder.
        images: [2 P, C, H, W] in [0, 1], the first images of P pairs and then the second.
        beta: weight of the KL.
        average: "arithmetic" (GVAE), "product" (ML-VAE) or "geometric" (ML-VAE in public codes), of the posteriors in
            shared latents.
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.
        generator: where the noise comes from; default: torch's.
        key: instead of a generator, int64 [2].
        process_group: ranks that each hold equally many of the pairs, first images and then second: the noise is that
            of one process, and ``key`` must be given, the same on every rank.

    Returns:
        The output with the shared posteriors, and a :class:`Loss` with the terms ``reconstruction`` and ``kl``.

    Raises:
        ValueError: for an unknown average, or an odd number of images.
    """
    check_model("ada_gvae", model)
    _checks.dense("ada_gvae", "images", images)
    mu, logvar = share_posteriors(*model.encode(images), average=average)
    # First and second images are two problems that share a key, so that a rank's rows of both have their noise.
    halves = (2, len(mu) // 2)
    z, kl = ops.rsample_kl(
        mu.unflatten(0, halves), logvar.unflatten(0, halves), generator=generator, key=key, process_group=process_group
    )
    z, kl = z.flatten(0, 1), kl.flatten()
    output = VAEOutput(model.decoder(z), z, mu, logvar, kl)
    return output, beta_vae(output, images, beta=beta, likelihood=likelihood, scale=scale)


def ml_vae(
    model: VAE,
    images: Tensor,
    *,
    beta: float = 1.0,
    average: Product = "product",
    likelihood: str = "bernoulli",
    scale: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    process_group: ProcessGroup | None = None,
) -> tuple[VAEOutput, Loss]:
    """:func:`ada_gvae` with the product of the posteriors in shared latents: Ada-ML-VAE.

    Bouchacourt et al. 2018, "Multi-level variational autoencoder", with latents that are found to be shared by pair as
    in Locatello et al. 2020, where the original has a fixed set of them.

    Args:
        model: encoder and decoder.
        images: [2 P, C, H, W] in [0, 1], the first images of P pairs and then the second.
        beta: weight of the KL.
        average: "product", or "geometric" as disentanglement_lib and disent have it, see :func:`share_posteriors`.
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.
        generator: where the noise comes from; default: torch's.
        key: instead of a generator, int64 [2].
        process_group: ranks that each hold equally many of the pairs, first images and then second: the noise is that
            of one process, and ``key`` must be given, the same on every rank.

    Returns:
        As :func:`ada_gvae`.

    Raises:
        ValueError: for an unknown average, or an odd number of images.
    """
    choose("ml_vae: average", average, get_args(Product))
    options: dict[str, Any] = {"likelihood": likelihood, "scale": scale, "generator": generator, "key": key}
    return ada_gvae(model, images, beta=beta, average=average, process_group=process_group, **options)


class AdaGVAE(PairObjective):
    """:func:`ada_gvae` as a module.

    Args:
        beta: weight of the KL.
        changes: factors that differ in a pair: one, or a random number of them.
        average: posterior of shared latents: arithmetic (GVAE), product (ML-VAE), or geometric with twice its variance.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    def __init__(
        self,
        *,
        beta: float = 1.0,
        changes: Changes = "one",
        average: Average = "arithmetic",
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        super().__init__(likelihood=likelihood, scale=scale)
        name = type(self).__name__
        choose(f"{name}: changes", changes, get_args(Changes))
        check_weights(name, beta=beta)
        choose(f"{name}: average", average, get_args(Average))
        self.changes = changes
        self.beta = beta
        self.average: Average = average

    def evaluate(
        self,
        model: VAE,
        images: Tensor,
        *,
        step: int | Tensor = 0,
        key: Tensor | None = None,
        own_key: Tensor | None = None,
        group: Tensor | None = None,
    ) -> tuple[VAEOutput, Loss]:
        """:func:`ada_gvae`, whose noise has ``key``."""
        return ada_gvae(
            model,
            images,
            beta=self.beta,
            average=self.average,
            likelihood=self.likelihood,
            scale=self.scale,
            key=key,
            process_group=self.process_group,
        )

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        """The loss on an output of shared posteriors."""
        return beta_vae(output, images, beta=self.beta, likelihood=self.likelihood, scale=self.scale)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, changes={self.changes!r}, average={self.average!r}"


class MLVAE(AdaGVAE):
    """:func:`ml_vae` as a module.

    Args:
        beta: weight of the KL.
        changes: factors that differ in a pair: one, or a random number of them.
        average: posterior of shared latents: product, or geometric with twice its variance, as public codes have it.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    def __init__(
        self,
        *,
        beta: float = 1.0,
        changes: Changes = "one",
        average: Product = "product",
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        choose(f"{type(self).__name__}: average", average, get_args(Product))
        super().__init__(beta=beta, changes=changes, average=average, likelihood=likelihood, scale=scale)

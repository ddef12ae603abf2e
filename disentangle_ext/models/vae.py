"""The variational autoencoder: an encoder, a decoder, and what one does with the pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed import ProcessGroup

from disentangle_ext import ops
from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose

LIKELIHOODS = ("bernoulli", "gaussian", "laplace")
"""What a decoder's output can parametrise."""

TRAVERSAL = (-2.0, 2.0, 9)
"""First value, last value and number of values of a latent traversal: +-2 standard deviations of the prior."""


class VAEOutput(NamedTuple):
    """What one forward pass of a :class:`VAE` yields, for B images and D latents."""

    reconstruction: Tensor
    """The decoder's output [B, C, H, W] as it is: logits for a Bernoulli likelihood, means for the others."""
    z: Tensor
    """The codes [B, D]: sampled, or the posterior means."""
    mu: Tensor
    """Posterior means [B, D]."""
    logvar: Tensor
    """Posterior log-variances [B, D]."""
    kl: Tensor
    """KL(q(z|x) || N(0, I)) in nats [B], summed over the latents."""


class VAE(nn.Module):
    """A variational autoencoder (Kingma & Welling 2014) with a diagonal Gaussian posterior and a standard prior.

    The encoder may be any module that maps images [B, C, H, W] to [B, 2 * latent_dim], means before log-variances,
    and the decoder any that maps [B, latent_dim] to [B, C, H, W]. Sampling and KL are :func:`ops.rsample_kl`.

    Args:
        encoder: images to posterior parameters.
        decoder: codes to the parameters of p(x|z).
        latent_dim: number of latents D.
        likelihood: "bernoulli" (the decoder yields logits), "gaussian" or "laplace" (it yields means).
        image_shape: (C, H, W); when given, images of another shape are refused with a clear message.

    Raises:
        ValueError: for an unknown likelihood.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        likelihood: str = "bernoulli",
        image_shape: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.latent_dim = latent_dim
        self.likelihood = choose("VAE: likelihood", likelihood, LIKELIHOODS)
        self.image_shape = None if image_shape is None else tuple(image_shape)
        self.architecture: dict[str, Any] | None = None
        """The arguments of :func:`build_vae` that make this model again, or None for a network of one's own."""

    def forward(
        self,
        images: Tensor,
        *,
        sample: bool = True,
        generator: torch.Generator | None = None,
        key: Tensor | None = None,
        process_group: ProcessGroup | None = None,
    ) -> VAEOutput:
        """Encode, sample, decode.

        Args:
            images: [B, C, H, W] in [0, 1].
            sample: False: the code is the posterior mean, as an autoencoder has it.
            generator: where the noise comes from; default: torch's.
            key: instead of a generator, the key of the noise, int64 [2]; see :func:`ops.rsample_kl`.
            process_group: ranks that each hold an equal shard of the batch: its images get the noise that one process
                draws for them, and ``key`` must be given, the same on every rank.
        """
        mu, logvar = self._posterior(images)
        z, kl = ops.rsample_kl(mu, logvar, generator=generator, key=key, process_group=process_group)
        if not sample:
            z = mu
        return VAEOutput(self.decoder(z), z, mu, logvar, kl)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of each image.

        Args:
            images: [B, C, H, W], floating point in [0, 1], or uint8 in 0..255, which is divided by 255.

        Returns:
            Means [B, D] and log-variances [B, D].

        Raises:
            ValueError: for another shape.
            TypeError: for another dtype.
        """
        return self._posterior(self._pixels("encode", images))

    def decode(self, z: Tensor) -> Tensor:
        """Pixel means E[x|z] in [0, 1].

        Args:
            z: codes [B, D].

        Returns:
            [B, C, H, W]: the sigmoid of the logits for a Bernoulli likelihood, otherwise the means, clamped.

        Raises:
            ValueError: for another number of latents.
        """
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise MistakeError(f"VAE.decode: z must be [B, {self.latent_dim}], got {tuple(z.shape)}")
        output: Tensor = self.decoder(z)
        return output.sigmoid() if self.likelihood == "bernoulli" else output.clamp(0, 1)

    @torch.no_grad()
    def traverse(self, images: Tensor, dim: int, *, values: Sequence[float] | Tensor | None = None) -> Tensor:
        """Decode the posterior mean of each image with one latent set to a range of values.

        Args:
            images: [B, C, H, W] as for :meth:`encode`.
            dim: which latent; negative counts from the last.
            values: S values for it; default: 9 from -2 to 2, in standard deviations of the prior.

        Returns:
            Pixel means [B, S, C, H, W] in [0, 1].

        Raises:
            IndexError: if there is no such latent.
        """
        if not -self.latent_dim <= dim < self.latent_dim:
            raise IndexError(f"VAE.traverse: dim must be below latent_dim = {self.latent_dim}, got {dim}")
        mu, _ = self._posterior(self._pixels("traverse", images))
        if values is None:
            first, last, steps = TRAVERSAL
            values = torch.linspace(first, last, steps)
        row = torch.as_tensor(values, dtype=mu.dtype, device=mu.device)
        z = mu[:, None, :].repeat(1, len(row), 1)
        z[:, :, dim] = row
        return self.decode(z.flatten(0, 1)).unflatten(0, (len(mu), len(row)))

    def _posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        parameters: Tensor = self.encoder(images)
        if torch.is_autocast_enabled(parameters.device.type):
            # bfloat16 has 8 bits: enough for activations, not for a log-variance that is exponentiated.
            parameters = parameters.float()
        mu, logvar = parameters.chunk(2, dim=-1)
        return mu, logvar

    def _pixels(self, method: str, images: Tensor) -> Tensor:
        want = self.image_shape
        if images.ndim != 4 or (want is not None and tuple(images.shape[1:]) != want):
            shape = "C, H, W" if want is None else ", ".join(map(str, want))
            raise MistakeError(f"VAE.{method}: images must be [B, {shape}], got {tuple(images.shape)}")
        dtype = next(self.encoder.parameters()).dtype
        if images.dtype == torch.uint8:
            return images.to(dtype) / 255
        if not images.is_floating_point():
            raise TypeError(f"VAE.{method}: images must be floating point in [0, 1] or uint8, got {images.dtype}")
        return images.to(dtype)

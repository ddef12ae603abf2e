"""Encoders and decoders, the variational autoencoder that joins them, and the discriminator of FactorVAE.

A network is a function ``(image_shape, latent_dim, *, options) -> (encoder, decoder)``: the encoder maps images
[B, C, H, W] to [B, 2 * latent_dim], means before log-variances, and the decoder maps codes [B, latent_dim] to
[B, C, H, W]. A name in :data:`NETWORKS` is all that the command line and :func:`build_vae` need.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from disentangle_ext.models.burgess import BurgessDecoder, BurgessEncoder, burgess
from disentangle_ext.models.conv import ConvDecoder, ConvEncoder, conv
from disentangle_ext.models.discriminator import Discriminator
from disentangle_ext.models.mlp import MLPDecoder, MLPEncoder, mlp
from disentangle_ext.models.vae import VAE, VAEOutput

__all__ = [
    "NETWORKS",
    "VAE",
    "BurgessDecoder",
    "BurgessEncoder",
    "ConvDecoder",
    "ConvEncoder",
    "Discriminator",
    "MLPDecoder",
    "MLPEncoder",
    "VAEOutput",
    "build_vae",
    "burgess",
    "conv",
    "mlp",
]

NETWORKS: dict[str, Callable[..., tuple[nn.Module, nn.Module]]] = {
    "burgess": burgess,
    "conv": conv,
    "mlp": mlp,
}
"""The networks by name."""


def build_vae(
    network: str,
    image_shape: tuple[int, int, int],
    latent_dim: int = 10,
    *,
    likelihood: str = "bernoulli",
    **options: object,
) -> VAE:
    """A :class:`VAE` on a network of :data:`NETWORKS` that remembers how it was built.

    Args:
        network: a name in :data:`NETWORKS`.
        image_shape: (C, H, W).
        latent_dim: number of latents D.
        likelihood: what the decoder's output parametrises; see :class:`VAE`.
        **options: keyword arguments of the network, for example ``base_channels=16``.

    Raises:
        ValueError: for an unknown network (the nearest name is suggested) or an image size it does not take.
    """
    from disentangle_ext._names import choose

    make = NETWORKS[choose("build_vae: network", network, NETWORKS)]
    encoder, decoder = make(image_shape, latent_dim, **options)
    model = VAE(encoder, decoder, latent_dim, likelihood=likelihood, image_shape=image_shape)
    model.architecture = {
        "network": network,
        "image_shape": list(image_shape),
        "latent_dim": latent_dim,
        "likelihood": likelihood,
        **options,
    }
    return model

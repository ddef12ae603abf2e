"""The convolutional encoder and decoder of Burgess et al., for 64 x 64 and 32 x 32 images."""

from __future__ import annotations

from torch import Tensor, nn

from disentangle_ext.models._initialise import Initial, glorot_, glorot_heads_
from disentangle_ext.models.conv import ToImage, check_init, halvings

_CHANNELS, _HIDDEN, _MAP = 32, 256, 4


class BurgessEncoder(nn.Module):
    """Encoder of Burgess et al. (2018, "Understanding disentangling in beta-VAE").

    On 64 x 64 images: four convolutions of 32 channels, 4x4 with stride 2; FC 256 twice; ReLU after each; FC 2 D. On
    32 x 32 images there are three convolutions.

    Args:
        image_shape: (C, H, W) with H = W = 64 or 32.
        latent_dim: number of latents D.
        init: "glorot": Glorot-uniform weights and zero biases; or "torch": as PyTorch's layers draw them. The paper
            does not say.

    Shapes: images [B, C, H, W] -> [B, 2 D], means before log-variances.
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, *, init: Initial = "glorot") -> None:
        super().__init__()
        check_init("BurgessEncoder", init)
        layers: list[nn.Module] = []
        channels = image_shape[0]
        for _ in range(halvings("BurgessEncoder", image_shape)):
            layers += [nn.Conv2d(channels, _CHANNELS, 4, 2, 1), nn.ReLU()]
            channels = _CHANNELS
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(_MAP * _MAP * _CHANNELS, _HIDDEN), nn.ReLU()),
            *(nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU()),
        )
        self.posterior = nn.Linear(_HIDDEN, 2 * latent_dim)
        if init == "glorot":
            glorot_(self)
            glorot_heads_(self.posterior, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] to means and log-variances [B, 2 D]."""
        posterior: Tensor = self.posterior(self.hidden(self.convolutions(images)))
        return posterior


class BurgessDecoder(nn.Module):
    """Decoder of Burgess et al. (2018): the transpose of :class:`BurgessEncoder`, with nothing at the end.

    FC 256 twice, FC 512, a 4 x 4 map of 32 channels, deconvolutions of 32 channels, the last of C, 4x4 with stride 2.

    Args:
        image_shape: (C, H, W) with H = W = 64 or 32.
        latent_dim: number of latents D.
        init: as for :class:`BurgessEncoder`.

    Shapes: codes [B, D] -> [B, C, H, W].
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, *, init: Initial = "glorot") -> None:
        super().__init__()
        check_init("BurgessDecoder", init)
        self.hidden = nn.Sequential(
            *(nn.Linear(latent_dim, _HIDDEN), nn.ReLU()),
            *(nn.Linear(_HIDDEN, _HIDDEN), nn.ReLU()),
            *(nn.Linear(_HIDDEN, _MAP * _MAP * _CHANNELS), nn.ReLU()),
            nn.Unflatten(1, (_CHANNELS, _MAP, _MAP)),
        )
        layers: list[nn.Module] = []
        for _ in range(halvings("BurgessDecoder", image_shape) - 1):
            layers += [nn.ConvTranspose2d(_CHANNELS, _CHANNELS, 4, 2, 1), nn.ReLU()]
        self.deconvolutions = nn.Sequential(*layers, ToImage(_CHANNELS, image_shape[0]))
        if init == "glorot":
            glorot_(self)

    def forward(self, z: Tensor) -> Tensor:
        """Codes [B, D] to the parameters of p(x|z) [B, C, H, W]."""
        images: Tensor = self.deconvolutions(self.hidden(z))
        return images


def burgess(
    image_shape: tuple[int, int, int], latent_dim: int, *, init: Initial = "glorot"
) -> tuple[BurgessEncoder, BurgessDecoder]:
    """The convolutional pair of Burgess et al. (2018).

    Args:
        image_shape: (C, H, W) with H = W = 64 or 32.
        latent_dim: number of latents.
        init: initial weights: glorot, or torch, as PyTorch's layers draw them.
    """
    return BurgessEncoder(image_shape, latent_dim, init=init), BurgessDecoder(image_shape, latent_dim, init=init)

"""The fully connected encoder and decoder of Chen et al."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from disentangle_ext._errors import MistakeError


def _check_width(owner: str, width: int) -> None:
    if width < 1:
        raise MistakeError(f"{owner}: width must be at least 1, got {width}")


class MLPEncoder(nn.Module):
    """Encoder of Chen et al. (2018, "Isolating sources of disentanglement"): pixels-1200-1200-2D with ReLU.

    On 64 x 64 images of one channel that is 4096-1200-1200-2D. Weights and biases start as ``nn.Linear`` draws them,
    which is what the authors' program does.

    Args:
        image_shape: (C, H, W), any size.
        latent_dim: number of latents D.
        width: units of each hidden layer.

    Shapes: images [B, C, H, W] -> [B, 2 D], means before log-variances.
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, *, width: int = 1200) -> None:
        super().__init__()
        _check_width("MLPEncoder", width)
        self.layers = nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(prod(image_shape), width), nn.ReLU()),
            *(nn.Linear(width, width), nn.ReLU()),
            nn.Linear(width, 2 * latent_dim),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] to means and log-variances [B, 2 D]."""
        posterior: Tensor = self.layers(images)
        return posterior


class MLPDecoder(nn.Module):
    """Decoder of Chen et al. (2018): D-1200-1200-1200-pixels with tanh, none at the end.

    Weights and biases start as ``nn.Linear`` draws them.

    Args:
        image_shape: (C, H, W), any size.
        latent_dim: number of latents D.
        width: units of each hidden layer.

    Shapes: codes [B, D] -> [B, C, H, W].
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, *, width: int = 1200) -> None:
        super().__init__()
        _check_width("MLPDecoder", width)
        self.layers = nn.Sequential(
            *(nn.Linear(latent_dim, width), nn.Tanh()),
            *(nn.Linear(width, width), nn.Tanh()),
            *(nn.Linear(width, width), nn.Tanh()),
            nn.Linear(width, prod(image_shape)),
            nn.Unflatten(1, tuple(image_shape)),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Codes [B, D] to the parameters of p(x|z) [B, C, H, W]."""
        images: Tensor = self.layers(z)
        return images


def mlp(image_shape: tuple[int, int, int], latent_dim: int, *, width: int = 1200) -> tuple[MLPEncoder, MLPDecoder]:
    """The fully connected pair of Chen et al. (2018).

    Args:
        image_shape: (C, H, W), any size.
        latent_dim: number of latents.
        width: units of each hidden layer.
    """
    return MLPEncoder(image_shape, latent_dim, width=width), MLPDecoder(image_shape, latent_dim, width=width)

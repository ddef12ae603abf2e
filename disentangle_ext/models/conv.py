"""The convolutional encoder and decoder of the large study, for 64 x 64 and 32 x 32 images."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.models._initialise import Initial, glorot_, glorot_heads_

Kernels = Literal["study", "4x4"]

# Both ends meet at a 4 x 4 map of 2 * base_channels channels, which is the study's FC 1024.
_MAP = 4
_HIDDEN = 256


def halvings(owner: str, image_shape: tuple[int, int, int]) -> int:
    """How many stride-2 layers lead from the image to the 4 x 4 map."""
    halvings = {(32, 32): 3, (64, 64): 4}.get(image_shape[1:])
    if halvings is None:
        raise MistakeError(
            f"{owner}: image_shape must be (C, 64, 64) or (C, 32, 32), got {tuple(image_shape)}: "
            "resize the images, or use network 'mlp'"
        )
    return halvings


def check_init(owner: str, init: str) -> None:
    choose(f"{owner}: init", init, get_args(Initial))


def _check(owner: str, base_channels: int, init: str) -> None:
    if base_channels < 1:
        raise MistakeError(f"{owner}: base_channels must be at least 1, got {base_channels}")
    check_init(owner, init)


class ConvEncoder(nn.Module):
    """Convolutional encoder of Locatello et al. (2019, "Challenging common assumptions"), after Burgess et al.

    With b = ``base_channels`` = 32, on 64 x 64 images: Conv b 4x4, Conv b 4x4, Conv 2b 2x2, Conv 2b 2x2, all with
    stride 2, "same" padding and ReLU; FC 256 with ReLU; FC ``latent_dim`` for the means and as many for the
    log-variances. On 32 x 32 images the last convolution is left out, so that the map before the fully connected
    layers is 4 x 4 in both cases.

    Args:
        image_shape: (C, H, W) with H = W = 64 or 32.
        latent_dim: number of latents D.
        base_channels: channels b of the first two convolutions; the later ones have 2 b.
        kernels: kernel size of the later convolutions: 2x2, as published ("study"), or "4x4" throughout, as many
            ports have it.
        init: "glorot": Glorot-uniform weights and zero biases, TensorFlow's default and so the study's; or "torch":
            as PyTorch's layers draw them, weights 1.4 to 2.5 times smaller and biases of their size, as in most ports.

    Shapes: images [B, C, H, W] -> [B, 2 D], means before log-variances.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        *,
        base_channels: int = 32,
        kernels: Kernels = "study",
        init: Initial = "glorot",
    ) -> None:
        super().__init__()
        choose("ConvEncoder: kernels", kernels, get_args(Kernels))
        _check("ConvEncoder", base_channels, init)
        b, size = base_channels, 2 if kernels == "study" else 4
        layers: list[nn.Module] = [
            *(nn.Conv2d(image_shape[0], b, 4, 2, 1), nn.ReLU()),
            *(nn.Conv2d(b, b, 4, 2, 1), nn.ReLU()),
        ]
        channels = b
        for _ in range(halvings("ConvEncoder", image_shape) - 2):
            layers += [nn.Conv2d(channels, 2 * b, size, 2, (size - 2) // 2), nn.ReLU()]
            channels = 2 * b
        self.convolutions = nn.Sequential(*layers)
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(_MAP * _MAP * 2 * b, _HIDDEN), nn.ReLU())
        self.posterior = nn.Linear(_HIDDEN, 2 * latent_dim)
        if init == "glorot":
            glorot_(self)
            glorot_heads_(self.posterior, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] to means and log-variances [B, 2 D]."""
        posterior: Tensor = self.posterior(self.hidden(self.convolutions(images)))
        return posterior


class ToImage(nn.ConvTranspose2d):
    """A 4 x 4 deconvolution with stride 2 and padding 1 to the few channels of an image.

    On a CPU, oneDNN computes one channel at the price of many. As a matrix product whose columns are added where they
    overlap it is about three times as fast, and equal up to rounding. Backward is what it is for any deconvolution.

    Args:
        inputs: channels of the feature map.
        outputs: channels of the image.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 4, 2, 1)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        if input.device.type != "cpu" or output_size is not None:
            return super().forward(input, output_size)
        assert self.bias is not None
        # Cast here, and not in the Function: autograd has to see it.
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        result: Tensor = _ToImage.apply(input.to(dtype), self.weight.to(dtype), self.bias.to(dtype))
        return result


class _ToImage(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        height, width = maps.shape[2:]
        columns = maps.permute(0, 2, 3, 1).flatten(1, 2) @ weight.flatten(1)  # [B, H W, C_out 4 4]
        return F.fold(columns.mT, (2 * height, 2 * width), 4, padding=1, stride=2) + bias[:, None, None]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        size = [weight.shape[1]], [2, 2], [1, 1], [1, 1]  # of the bias, stride, padding, dilation
        grads: tuple[Tensor | None, ...] = torch.ops.aten.convolution_backward(
            grad, maps, weight, *size, True, [0, 0], 1, ctx.needs_input_grad
        )
        return grads


class ConvDecoder(nn.Module):
    """Deconvolutional decoder of Locatello et al. (2019).

    With b = ``base_channels`` = 32, to 64 x 64 images: FC 256, FC 32 b (1024), a 4 x 4 map of 2b channels, Deconv 2b,
    b, b, C, all 4x4 with stride 2; ReLU between, none at the end: the output is logits under a Bernoulli likelihood.
    To 32 x 32 images the first deconvolution is left out.

    Args:
        image_shape: (C, H, W) with H = W = 64 or 32.
        latent_dim: number of latents D.
        base_channels: channels b of the later deconvolutions; the earlier map has 2 b.
        init: as for :class:`ConvEncoder`.

    Shapes: codes [B, D] -> [B, C, H, W].
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        *,
        base_channels: int = 32,
        init: Initial = "glorot",
    ) -> None:
        super().__init__()
        _check("ConvDecoder", base_channels, init)
        b = base_channels
        widths = [2 * b] * (halvings("ConvDecoder", image_shape) - 2) + [b, b, image_shape[0]]
        self.hidden = nn.Sequential(
            *(nn.Linear(latent_dim, _HIDDEN), nn.ReLU()),
            *(nn.Linear(_HIDDEN, _MAP * _MAP * 2 * b), nn.ReLU()),
            nn.Unflatten(1, (2 * b, _MAP, _MAP)),
        )
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths[:-1]):
            layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.ReLU()]
        self.deconvolutions = nn.Sequential(*layers, ToImage(*widths[-2:]))
        if init == "glorot":
            glorot_(self)

    def forward(self, z: Tensor) -> Tensor:
        """Codes [B, D] to the parameters of p(x|z) [B, C, H, W]."""
        images: Tensor = self.deconvolutions(self.hidden(z))
        return images


def conv(
    image_shape: tuple[int, int, int],
    latent_dim: int,
    *,
    base_channels: int = 32,
    kernels: Kernels = "study",
    init: Initial = "glorot",
) -> tuple[ConvEncoder, ConvDecoder]:
    """The study's convolutional pair.

    Args:
        image_shape: (C, H, W) with H = W = 64 or 32.
        latent_dim: number of latents.
        base_channels: channels of the layers next to the image; those further inside have twice as many.
        kernels: 2x2 kernels in the encoder's later convolutions, as published (study), or 4x4 throughout.
        init: initial weights: glorot, as in the study, or torch, as PyTorch's layers draw them.
    """
    encoder = ConvEncoder(image_shape, latent_dim, base_channels=base_channels, kernels=kernels, init=init)
    return encoder, ConvDecoder(image_shape, latent_dim, base_channels=base_channels, init=init)

"""What a weight of the KL is worth: the tables of docs/beta.md, computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from torch.nn import functional as F

from bench.rows import markdown
from disentangle_ext.data import DSpritesLike, shapes3d
from disentangle_ext.runs.presets import PRESETS, SWEEPS, quick

PAGE = "docs/beta.md"


class Size(NamedTuple):
    """What the weights depend on."""

    channels: int
    side: int
    latents: int
    batch: int = 64

    @property
    def pixels(self) -> int:
        return self.channels * self.side**2

    def __str__(self) -> str:
        return f"{self.channels} x {self.side} x {self.side}, {self.latents} latents"


class Convention(NamedTuple):
    """A loss ``recon + w * kl`` as it is written elsewhere.

    The two terms are Python: ``bce``, ``mse`` and ``l1`` are :data:`FUNCTIONS`, ``logits``, ``means`` and ``x`` are
    [B, C, H, W], ``kl`` is [B, D], and B, N and D are the numbers of images, pixels and latents.
    """

    reconstruction: str
    kl: str
    likelihood: str
    beta: str
    """The beta of this package for w = 1 and a scale of 1, as a formula."""
    factor: Callable[[Size], float]
    """That beta as a number, for an image size."""


FUNCTIONS = {"bce": F.binary_cross_entropy_with_logits, "mse": F.mse_loss, "l1": F.l1_loss}
_BCE, _MSE, _L1 = "bce(logits, x", "mse(means, x", "l1(means, x"
_SUM, _MEAN = ", reduction='sum')", ")"
_PER_IMAGE = "kl.sum(1).mean()"

CONVENTIONS = (
    Convention(_BCE + _SUM + " / B", _PER_IMAGE, "bernoulli", "1", lambda size: 1),
    Convention(_BCE + _SUM, "kl.sum()", "bernoulli", "1", lambda size: 1),
    Convention(_BCE + _MEAN, _PER_IMAGE + " / N", "bernoulli", "1", lambda size: 1),
    Convention(_BCE + _MEAN, _PER_IMAGE, "bernoulli", "N", lambda size: size.pixels),
    Convention(_BCE + _MEAN, "kl.mean()", "bernoulli", "N / D", lambda size: size.pixels / size.latents),
    Convention(_BCE + _SUM + " / B", "kl.mean()", "bernoulli", "1 / D", lambda size: 1 / size.latents),
    Convention(_BCE + _SUM, _PER_IMAGE, "bernoulli", "1 / B", lambda size: 1 / size.batch),
    Convention(_MSE + _SUM + " / B", _PER_IMAGE, "gaussian", "1 / 2", lambda size: 1 / 2),
    Convention(_MSE + _MEAN, _PER_IMAGE, "gaussian", "N / 2", lambda size: size.pixels / 2),
    Convention(_MSE + _MEAN, "kl.mean()", "gaussian", "N / 2 / D", lambda size: size.pixels / (2 * size.latents)),
    Convention(_L1 + _MEAN, _PER_IMAGE, "laplace", "N", lambda size: size.pixels),
)
SIZES = (Size(1, 32, 6), Size(1, 64, 10), Size(3, 64, 10))
_LATENTS = 10  # the package's default, which is the study's


def beta_norm(beta: float, size: Size) -> float:
    """beta D / N, the normalised beta of Higgins et al. 2017."""
    return beta * size.latents / size.pixels


def linear_kl(variance: float, beta: float, scale: float = 1.0) -> float:
    """KL in nats that the best linear beta-VAE spends on a direction of the data with this variance.

        max(0, log(variance / (beta scale^2)) / 2)

    The rate of a Gaussian source whose distortion is weighed by 1 / (2 scale^2): minimise
    variance exp(-2 R) / (2 scale^2) + beta R over R.

    Args:
        variance: of the data along the direction, summed over the pixels.
        beta: weight of the KL.
        scale: standard deviation of the Gaussian likelihood.
    """
    return max(0.0, 0.5 * math.log(variance / (beta * scale**2)))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def conventions_table() -> str:
    header = ("reconstruction", "KL", "likelihood", "beta", *map(str, SIZES))
    lines = []
    for each in CONVENTIONS:
        numbers = (_number(each.factor(size)) for size in SIZES)
        lines.append((f"`{each.reconstruction}`", f"`{each.kl}`", each.likelihood, each.beta, *numbers))
    return "\n".join(markdown(header, lines)) + "\n"


def published_table() -> str:
    """Recipes of this package, with what their beta is on images of another size."""
    sprites, rooms = Size(1, 64, _LATENTS), Size(3, 64, _LATENTS)
    own: dict[str, Any] = quick("beta_vae", "dsprites_like", "conv")
    sweep = SWEEPS["beta_vae"][1]
    recipes = [
        ("`--preset paper/beta_vae` on dSprites", PRESETS["paper/beta_vae"]["beta"], sprites),
        ("the study's smallest, on dSprites", sweep[0], sprites),
        ("the study's largest, on dSprites", sweep[-1], sprites),
        ("the study's largest, on 3D Shapes", sweep[-1], rooms),
        ("`--quick` on `dsprites_like`", own["beta"], Size(1, 32, own["latent_dim"])),
    ]
    header = ("recipe", "image and latents", "beta", "beta D / N", "the same for every pixel of 1 x 64 x 64")
    lines = []
    for name, beta, size in recipes:
        per_pixel = beta * sprites.pixels / size.pixels
        lines.append((name, str(size), f"{beta:g}", f"{beta_norm(beta, size):.4f}", _number(per_pixel)))
    return "\n".join(markdown(header, lines)) + "\n"


def linear_table(amplitude: float = 0.5) -> str:
    """One factor that moves every pixel by the same standard deviation, at several image sizes."""
    header = ("image", "N", "beta", "KL in nats")
    lines = []
    for side, beta in ((4, 1.0), (8, 1.0), (16, 1.0), (32, 1.0), (8, 4.0), (16, 16.0), (32, 64.0), (4, 4.0)):
        kl = linear_kl(amplitude**2 * side**2, beta)
        lines.append((f"1 x {side} x {side}", str(side**2), f"{beta:g}", f"{kl:.2f}"))
    return "\n".join(markdown(header, lines)) + "\n"


def capacity_table() -> str:
    """The nats that tell the images of a data set apart."""
    sets = {
        "`dsprites_like`": len(DSpritesLike()),
        "`dsprites_like --quick`": len(DSpritesLike("quick")),
        "`shapes3d_like`": math.prod(shapes3d.SIZES),  # to draw its views takes seconds
    }
    lines = [(name, f"{images:,}", f"{math.log(images):.1f}") for name, images in sets.items()]
    return "\n".join(markdown(("data set", "images n", "log n, nats"), lines)) + "\n"


def tables() -> dict[str, str]:
    """The tables of the page, by the names in its markers."""
    return {
        "conventions": conventions_table(),
        "published": published_table(),
        "linear": linear_table(),
        "capacity": capacity_table(),
    }

"""The deep convolutional inverse graphics network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext import ops
from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.models.vae import VAE, VAEOutput
from disentangle_ext.objectives._arguments import check_active, check_codes, check_output, check_weights
from disentangle_ext.objectives.base import GroupObjective, Loss
from disentangle_ext.objectives.likelihood import Scale, negative_log_likelihood
from disentangle_ext.ops import _collectives

Reference = Literal["mean", "first"]

_FACES = ("azimuth", "elevation", "light")
_INTRINSIC_WEIGHT = 10.0


def clamp_codes(
    z: Tensor, active: Tensor, *, reference: Reference = "mean", process_group: ProcessGroup | None = None
) -> Tensor:
    """The codes with every inactive latent replaced by one value for the whole batch, a constant for the gradient.

    Args:
        z: codes [B, D].
        active: bool [D], the latents that keep their values.
        reference: "mean": the batch's mean, as in the paper; "first": its first code, as in the authors' program.
        process_group: ranks that each hold an equal shard of the batch: mean or first code are the whole batch's.

    Returns:
        [B, D].
    """
    choose("clamp_codes: reference", reference, get_args(Reference))
    check_codes("clamp_codes", z=z)
    if z.ndim != 2:
        raise MistakeError(f"clamp_codes: z must be [B, D], got {tuple(z.shape)}")
    check_active("clamp_codes", active, z)
    return torch.where(active, z, _reference("clamp_codes", z, reference, process_group))


def _reference(owner: str, z: Tensor, reference: Reference, process_group: ProcessGroup | None) -> Tensor:
    (constant,) = _collectives.whole_batch(owner, process_group, z=z.detach())
    return constant.mean(0, keepdim=True) if reference == "mean" else constant[:1]


def dcign(
    output: VAEOutput,
    images: Tensor,
    *,
    active: Tensor,
    strength: float = 0.01,
    reference: Reference = "mean",
    likelihood: str = "bernoulli",
    scale: float | Tensor = 1.0,
    process_group: ProcessGroup | None = None,
) -> Loss:
    """recon + KL + strength / 2 sum over inactive d of (z_d - ref_d)^2, averaged over the batch (Kulkarni et al. 2015,
    "Deep convolutional inverse graphics network").

    Only factors of one group vary in the batch. recon is of the codes of :func:`clamp_codes`, so its gradient reaches
    the latents of that group alone; the gradient of the others is strength (z_d - ref_d), the paper's rule, which pulls
    them to the reference. KL is that of the posteriors as they are. The reference carries no gradient.

    Args:
        output: z, mu, logvar and kl as encoded, and the reconstruction from the clamped codes.
        images: [B, C, H, W] in [0, 1].
        active: bool [D], the latents of the group.
        strength: strength of the pull on the other latents; the paper has 1/100.
        reference: "mean" of the batch, or its "first" code.
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.
        process_group: as for :func:`clamp_codes`; all ranks have the same group of factors.

    Returns:
        A :class:`Loss` with the terms ``reconstruction``, ``kl`` and ``invariance``: half the sum of squares.
    """
    check_output("dcign", output)
    choose("dcign: reference", reference, get_args(Reference))
    check_weights("dcign", strength=strength)
    check_active("dcign", active, output.z)
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    kl = output.kl.mean()
    squares = (output.z - _reference("dcign", output.z, reference, process_group)).square()
    invariance = 0.5 * torch.where(active, 0.0, squares).sum(1).mean()
    total = recon + kl + strength * invariance
    return Loss(total, {"reconstruction": recon, "kl": kl, "invariance": invariance})


class DCIGN(GroupObjective):
    """:func:`dcign` as a module that knows which latents belong to which factors.

    Each of the ``extrinsic`` factors has one latent, in their order from the first; the other latents belong to all
    other factors, which are intrinsic and vary in ten batches for each one of an extrinsic factor. Where no factor is
    left, those latents are never active, and carry nothing.

    Args:
        latent_dim: number of latents.
        factor_names: the factors of the data set.
        extrinsic: factors with a latent of their own. If none are given: azimuth, elevation and light where the data
            set has them, otherwise every factor.
        strength: strength of the pull of inactive latents to the reference.
        reference: what they are clamped to: mean of the batch (the paper) or first code (the authors' program).
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.

    Raises:
        ValueError: for factors that the data set does not have or that are named twice, fewer latents than groups, or a
            likelihood or scale that means nothing.
    """

    active: Tensor

    def __init__(
        self,
        *,
        latent_dim: int,
        factor_names: Sequence[str],
        extrinsic: tuple[str, ...] = (),
        strength: float = 0.01,
        reference: Reference = "mean",
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        super().__init__(likelihood=likelihood, scale=scale)
        choose("DCIGN: reference", reference, get_args(Reference))
        check_weights("DCIGN", strength=strength)
        if not factor_names:
            raise MistakeError("DCIGN: the data set must have factors, it has none")
        named = extrinsic or (_FACES if set(_FACES) <= set(factor_names) else tuple(factor_names))
        for name in named:
            choose("DCIGN: extrinsic factor", name, factor_names)
        if len(set(named)) < len(named):
            raise MistakeError(f"DCIGN: extrinsic must name each factor once, got {', '.join(named)}")
        rest = [name for name in factor_names if name not in named]
        self.groups = {**{name: [name] for name in named}, **({"intrinsic": rest} if rest else {})}
        self.weights = {"intrinsic": _INTRINSIC_WEIGHT} if rest else {}
        self.latents = {name: place for place, name in enumerate(named)}
        if latent_dim < len(self.groups):
            raise MistakeError(f"DCIGN: latent_dim must be at least {len(self.groups)}, one a group, got {latent_dim}")
        active = torch.eye(len(self.groups), latent_dim, dtype=torch.bool)
        active[-1, len(named) :] |= bool(rest)
        self.register_buffer("active", active, persistent=False)
        self.strength = strength
        self.reference: Reference = reference

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
        if group is None:
            raise MistakeError("DCIGN: group must say which factors vary in the batch, got None")
        active = self.active.index_select(0, group.view(1)).squeeze(0)  # an index would be read back from the device
        mu, logvar = model.encode(images)
        z, kl = ops.rsample_kl(mu, logvar, key=key, process_group=self.process_group)
        clamped = clamp_codes(z, active, reference=self.reference, process_group=self.process_group)
        output = VAEOutput(model.decoder(clamped), z, mu, logvar, kl)
        loss = dcign(
            output,
            images,
            active=active,
            strength=self.strength,
            reference=self.reference,
            likelihood=self.likelihood,
            scale=self.scale,
            process_group=self.process_group,
        )
        return output, loss

    def extra_repr(self) -> str:
        return f"groups={list(self.groups)}, strength={self.strength}, reference={self.reference!r}"

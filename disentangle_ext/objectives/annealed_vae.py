"""The VAE whose capacity grows."""

from __future__ import annotations

from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext._errors import MistakeError
from disentangle_ext.models.vae import VAEOutput
from disentangle_ext.objectives._arguments import check_number, check_output, check_weights
from disentangle_ext.objectives.base import Loss, Objective
from disentangle_ext.objectives.likelihood import Scale, negative_log_likelihood
from disentangle_ext.ops import _checks, _collectives


def _check(c_max: float | Tensor, gamma: float | Tensor, threshold: int) -> None:
    check_weights("annealed_vae", c_max=c_max, gamma=gamma)
    _checks.integer("annealed_vae", "threshold", threshold)
    if threshold < 1:
        raise MistakeError(f"annealed_vae: threshold must be at least 1, got {threshold}")


def _check_step(step: int | Tensor) -> None:
    if isinstance(step, Tensor):
        check_number("annealed_vae", "step", step)
        return
    _checks.integer("annealed_vae", "step", step)
    if step < 0:
        raise MistakeError(f"annealed_vae: step must be at least 0, got {step}")


def _capacity(step: int, c_max: float, threshold: int) -> float:
    return c_max * (min(step, threshold) / threshold)


def _gap(kl: Tensor, step: int | Tensor, c_max: float, threshold: int) -> Tensor:
    if not isinstance(step, Tensor):
        return (kl - _capacity(step, c_max, threshold)).abs()
    capacity = c_max * (step.clamp(max=threshold).double() / threshold)  # in float64, as Python computes it
    return (kl - capacity.to(kl.dtype)).abs()


def annealed_vae(
    output: VAEOutput,
    images: Tensor,
    *,
    step: int | Tensor,
    c_max: float = 25.0,
    gamma: float = 1000.0,
    threshold: int = 100_000,
    likelihood: str = "bernoulli",
    scale: float | Tensor = 1.0,
    process_group: ProcessGroup | None = None,
) -> Loss:
    """recon + gamma abs(KL - C(step)), averaged over the batch (Burgess et al. 2018, "Understanding disentangling in
    beta-VAE").

        C(step) = c_max min(step / threshold, 1)

    The absolute value is of the batch's mean KL. All terms are in nats.

    Args:
        output: what a :class:`models.VAE` returns for B images.
        images: [B, C, H, W] in [0, 1].
        step: updates done, from 0: a number, or an integer tensor, which is not read back from its device.
        c_max: capacity at the end, in nats.
        gamma: weight of the distance between KL and capacity.
        threshold: steps over which the capacity rises from 0.
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.
        process_group: ranks that each hold an equal shard of the batch: the KL in the gap is the whole batch's.

    Returns:
        A :class:`Loss` with the terms ``reconstruction``, ``kl`` and ``capacity_gap``, which is abs(KL - C).

    Raises:
        ValueError: for a negative ``c_max`` or ``gamma``, or a ``threshold`` below 1.
    """
    check_output("annealed_vae", output)
    _check(c_max, gamma, threshold)
    _check_step(step)
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    kl = output.kl.mean()
    of_all = kl
    if process_group is not None:
        (rows,) = _collectives.whole_batch("annealed_vae", process_group, kl=output.kl[:, None])
        of_all = rows.mean()
    gap = _gap(of_all, step, c_max, threshold)
    return Loss(recon + gamma * gap, {"reconstruction": recon, "kl": kl, "capacity_gap": gap})


class AnnealedVAE(Objective):
    """:func:`annealed_vae` as a module.

    Args:
        c_max: capacity at the end, in nats.
        gamma: weight of the distance between KL and capacity.
        threshold: steps over which the capacity rises from 0.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    def __init__(
        self,
        *,
        c_max: float = 25.0,
        gamma: float = 1000.0,
        threshold: int = 100_000,
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        super().__init__(likelihood=likelihood, scale=scale)
        _check(c_max, gamma, threshold)
        self.c_max = c_max
        self.gamma = gamma
        self.threshold = threshold

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        return annealed_vae(
            output,
            images,
            step=step,
            c_max=self.c_max,
            gamma=self.gamma,
            threshold=self.threshold,
            likelihood=self.likelihood,
            scale=self.scale,
            process_group=self.process_group,
        )

    def capacity(self, step: int) -> float:
        """C in nats after ``step`` updates."""
        return _capacity(step, self.c_max, self.threshold)

    def extra_repr(self) -> str:
        return f"c_max={self.c_max}, gamma={self.gamma}, threshold={self.threshold}"

"""WAE-MMD."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext._names import choose
from disentangle_ext.models.vae import VAEOutput
from disentangle_ext.objectives._arguments import check_output, check_weights
from disentangle_ext.objectives.base import Loss, Objective
from disentangle_ext.objectives.likelihood import Scale, negative_log_likelihood
from disentangle_ext.objectives.prior_mmd import Convention, check_convention, prior_mmd, smallest_batch

Encoding = Literal["deterministic", "gaussian"]


def wae_mmd(
    output: VAEOutput,
    images: Tensor,
    *,
    lambda_mmd: float = 10.0,
    convention: Convention = "wae",
    likelihood: str = "bernoulli",
    scale: float | Tensor = 1.0,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    process_group: ProcessGroup | None = None,
) -> Loss:
    """recon + lambda MMD^2(q(z), p(z)), averaged over the batch (Tolstikhin et al. 2018, "Wasserstein auto-encoders").

    recon = -log p(x|z) in nats stands for the paper's cost; its squared distance is likelihood="gaussian" with
    scale = sqrt(1/2), up to a constant. There is no KL. The MMD is the unbiased estimate, which can be negative.

    Args:
        output: what ``model(images, sample=False)`` returns for B >= 2 images: the paper's encoder is deterministic.
        images: [B, C, H, W] in [0, 1].
        lambda_mmd: weight of the MMD; the paper has 10 on MNIST and 100 on CelebA.
        convention: kernel and estimator of :func:`ops.mmd`: "wae" is the authors' program.
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.
        generator: where the draws of the prior come from; default: torch's.
        key: instead of a generator, int64 [2].
        process_group: ranks that each hold an equal shard of the batch: the MMD is that of the
            whole batch, and ``key`` must be given, the same on every rank.

    Returns:
        A :class:`Loss` with the terms ``reconstruction`` and ``mmd``.

    Raises:
        ValueError: for a weight that is negative or not finite, an unknown convention, or a batch of 1 with an unbiased
            one.
    """
    check_output("wae_mmd", output)
    check_convention("wae_mmd", convention)
    check_weights("wae_mmd", lambda_mmd=lambda_mmd)
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    mmd = prior_mmd(output.z, convention=convention, generator=generator, key=key, process_group=process_group)
    return Loss(recon + lambda_mmd * mmd, {"reconstruction": recon, "mmd": mmd})


class WAEMMD(Objective):
    """:func:`wae_mmd` as a module.

    Args:
        lambda_mmd: weight of the MMD.
        convention: kernel and estimator of the MMD: wae (the authors' program), wae_rbf or infovae.
        encoding: deterministic: the code is the encoder's mean, as in the paper's experiments; gaussian: a sample.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    def __init__(
        self,
        *,
        lambda_mmd: float = 10.0,
        convention: Convention = "wae",
        encoding: Encoding = "deterministic",
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        super().__init__(likelihood=likelihood, scale=scale)
        check_convention("wae_mmd", convention)
        check_weights("wae_mmd", lambda_mmd=lambda_mmd)
        self.smallest_batch = smallest_batch(convention)
        self.lambda_mmd = lambda_mmd
        self.convention: Convention = convention
        self.deterministic = choose("wae_mmd: encoding", encoding, get_args(Encoding)) == "deterministic"

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        return wae_mmd(
            output,
            images,
            lambda_mmd=self.lambda_mmd,
            convention=self.convention,
            likelihood=self.likelihood,
            scale=self.scale,
            key=key,
            process_group=self.process_group,
        )

    def extra_repr(self) -> str:
        encoding = "deterministic" if self.deterministic else "gaussian"
        return f"lambda_mmd={self.lambda_mmd}, convention={self.convention!r}, encoding={encoding!r}"

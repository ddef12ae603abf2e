"""FactorVAE."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.nn import functional as F

from disentangle_ext import ops
from disentangle_ext.models.discriminator import Discriminator
from disentangle_ext.models.vae import VAEOutput
from disentangle_ext.objectives._arguments import check_codes, check_discriminator, check_output, check_weights
from disentangle_ext.objectives.base import AdversarialObjective, Loss
from disentangle_ext.objectives.likelihood import Scale, negative_log_likelihood


def factor_vae(
    output: VAEOutput,
    images: Tensor,
    *,
    discriminator: Discriminator,
    gamma: float = 35.0,
    likelihood: str = "bernoulli",
    scale: float | Tensor = 1.0,
) -> Loss:
    """recon + KL + gamma E[D_0(z) - D_1(z)], averaged over the batch (Kim & Mnih 2018, "Disentangling by factorising").

    D_0 and D_1 are the discriminator's logits of "z is of q(z)" and "z is of prod_d q(z_d)", so for the best
    discriminator their difference is log q(z) - sum_d log q(z_d), and its mean the total correlation. All terms are in
    nats. The discriminator is a constant here: no gradient reaches its weights.

    Args:
        output: what a :class:`models.VAE` returns for B images.
        images: [B, C, H, W] in [0, 1].
        discriminator: trained on :func:`discriminator_loss` after each update of the VAE.
        gamma: weight of the total correlation; the paper has 35 on dSprites.
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.

    Returns:
        A :class:`Loss` with the terms ``reconstruction``, ``kl`` and ``tc_discriminator``.
    """
    check_output("factor_vae", output)
    check_discriminator("factor_vae", discriminator)
    check_weights("factor_vae", gamma=gamma)
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    kl = output.kl.mean()
    tc = _log_ratio(discriminator(output.z, frozen=True)).mean()
    return Loss(recon + kl + gamma * tc, {"reconstruction": recon, "kl": kl, "tc_discriminator": tc})


def discriminator_loss(
    codes: Tensor,
    others: Tensor,
    *,
    discriminator: Discriminator,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    process_group: ProcessGroup | None = None,
) -> Tensor:
    """CE(D(z), 0) / 2 + CE(D(permute_dims(z')), 1) / 2, averaged over the batch, in nats; log 2 for one that guesses.

    The codes are constants here: no gradient reaches the encoder.

    Args:
        codes: z [B, D], of q(z).
        others: z' [B', D], to be permuted: the same codes (the study), or those of a second batch (the paper).
        discriminator: what to train.
        generator: where the permutations come from; default: torch's.
        key: instead of a generator, int64 [2].
        process_group: ranks that each hold an equal shard of the batch: the permutations are of the whole batch, and
            ``key`` must be given, the same on every rank. The discriminator's gradient is then averaged over ranks.

    Returns:
        A scalar.
    """
    check_codes("discriminator_loss", codes=codes, others=others)
    check_discriminator("discriminator_loss", discriminator)
    permuted = ops.permute_dims(others.detach(), generator=generator, key=key, process_group=process_group)
    real, fake = _log_ratio(discriminator(codes.detach())), _log_ratio(discriminator(permuted))
    # The cross-entropies of two classes, by the difference of their logits.
    return 0.5 * (F.softplus(-real).mean() + F.softplus(fake).mean())


def _log_ratio(logits: Tensor) -> Tensor:
    """log q(z) - sum_d log q(z_d) [B], as the discriminator has it; in float32 for logits of autocast."""
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    return logits[:, 0] - logits[:, 1]


class FactorVAE(AdversarialObjective):
    """:func:`factor_vae` as a module that owns its discriminator.

    Args:
        latent_dim: number of latents.
        gamma: weight of the total correlation.
        second_batch: permute the codes of a second, independent batch, as in the paper, not those of the same batch.
        discriminator_layers: hidden layers of the discriminator.
        discriminator_width: units of each.
        discriminator_lr: its learning rate (Adam), scaled by the schedule of the run.
        discriminator_betas: its betas.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    smallest_batch = 2  # a permutation of one code is that code

    def __init__(
        self,
        *,
        latent_dim: int,
        gamma: float = 35.0,
        second_batch: bool = False,
        discriminator_layers: int = 6,
        discriminator_width: int = 1000,
        discriminator_lr: float = 1e-4,
        discriminator_betas: tuple[float, float] = (0.5, 0.9),
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        super().__init__(
            lr=discriminator_lr,
            betas=discriminator_betas,
            second_batch=second_batch,
            likelihood=likelihood,
            scale=scale,
        )
        check_weights("factor_vae", gamma=gamma)
        self.discriminator = Discriminator(latent_dim, layers=discriminator_layers, width=discriminator_width)
        self.gamma = gamma

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        return factor_vae(
            output,
            images,
            discriminator=self.discriminator,
            gamma=self.gamma,
            likelihood=self.likelihood,
            scale=self.scale,
        )

    def adversary(self, codes: Tensor, others: Tensor, *, key: Tensor | None = None) -> Tensor:
        return discriminator_loss(
            codes, others, discriminator=self.discriminator, key=key, process_group=self.process_group
        )

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, second_batch={self.second_batch}"

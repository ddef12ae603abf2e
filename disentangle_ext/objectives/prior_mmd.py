"""The distance of the aggregate posterior from the prior, which InfoVAE and WAE-MMD minimise."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext import ops
from disentangle_ext._names import choose

Convention = Literal["infovae", "wae", "wae_rbf"]


def check_convention(owner: str, convention: str) -> None:
    choose(f"{owner}: convention", convention, get_args(Convention))


def smallest_batch(convention: Convention) -> int:
    """Images that its estimate needs: the unbiased ones leave out the pairs of a code with itself."""
    return 1 if convention == "infovae" else 2


def prior_mmd(
    z: Tensor,
    *,
    convention: Convention,
    generator: torch.Generator | None = None,
    key: Tensor | None = None,
    process_group: ProcessGroup | None = None,
) -> Tensor:
    """MMD^2(q(z), N(0, I)) between B codes and B draws of the prior.

    Args:
        z: codes [B, D].
        convention: kernel, bandwidth and estimator as :func:`ops.mmd` has them.
        generator: where the draws come from; default: torch's.
        key: instead of a generator, int64 [2].
        process_group: ranks that each hold an equal shard of the batch: codes and draws are those of all ranks, and
            ``key`` must be given, the same on every rank.

    Returns:
        A scalar with a gradient to ``z``.
    """
    zeros = torch.zeros_like(z)
    prior, _ = ops.rsample_kl(zeros, zeros, generator=generator, key=key, process_group=process_group)
    return ops.mmd(z, prior, convention=convention, process_group=process_group)

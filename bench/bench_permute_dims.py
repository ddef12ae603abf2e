"""Independent permutations of the latent dimensions, as FactorVAE needs them for its discriminator."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.harness import OURS, PLAIN, Case
from disentangle_ext import ops


def plain(z: Tensor) -> Tensor:
    return torch.stack([z[torch.randperm(len(z)), d] for d in range(z.shape[1])], 1)


def cases() -> Iterator[Case]:
    for batch in (64, 4096):
        yield Case(
            "permute_dims", f"{batch} x 10", (torch.randn(batch, 10),), {PLAIN: plain, OURS: ops.permute_dims}, None
        )

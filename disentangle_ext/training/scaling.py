"""The scale of gradients in float16, whose smallest numbers would else be zero."""

from __future__ import annotations

import torch

__all__ = ["SMALLEST", "has_collapsed", "make_scaler"]

SMALLEST = 2.0**-24
"""Below it a gradient of 1 is zero in float16: a scale that has been halved so often has met no finite gradient."""


def make_scaler(autocast: torch.dtype | None, device: torch.device) -> torch.amp.GradScaler | None:
    """What scales a loss, and leaves out the steps whose gradients overflow: for networks in float16 only."""
    return torch.amp.GradScaler(device.type) if autocast == torch.float16 else None


def has_collapsed(scaler: torch.amp.GradScaler | None) -> bool:
    """Whether gradients overflow however small the scale is; reads it back from the device."""
    return scaler is not None and scaler.get_scale() < SMALLEST

"""The versions and the hardware that a run is made with."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["changes", "environment", "in_words"]

# What the bits of a run can depend on.
_DECIDING = (
    "disentangle_ext",
    "torch",
    "platform",
    "cpu_capability",
    "threads",
    "build_info",
    "device",
    "world_size",
)


def environment(device: torch.device | None = None, world_size: int = 1) -> dict[str, Any]:
    """Collect what env.json holds. No host, user or path: a folder of runs can be published.

    Args:
        device: what the run computes on; default: the CPU.
        world_size: how many processes share its batches.
    """
    import numpy

    import disentangle_ext

    return {
        "disentangle_ext": disentangle_ext.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": describe_device(device or torch.device("cpu")),
        "world_size": world_size,
        "build_info": disentangle_ext.build_info(),
    }


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Find the entries of ``now`` that differ from ``before`` and can change the bits of a run."""
    return {name: now[name] for name in _DECIDING if before.get(name) != json.loads(json.dumps(now[name]))}


def in_words(before: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Say for each entry of ``new`` what it was before, in a phrase."""
    phrases = []
    for name, value in new.items():
        if isinstance(value, Mapping):
            was = before.get(name, {})
            changed = [each for each in value if each not in new and was.get(each) != value[each]]
            phrases += in_words(was, {each: value[each] for each in changed})
        else:
            phrases.append(f"{name} was {before.get(name)} and is {value}")
    return phrases


def describe_device(device: torch.device) -> str:
    """Name the kind of a device, as its maker does; which of several alike it is does not matter."""
    return f"cuda ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else device.type

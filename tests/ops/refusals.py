"""How a call refuses a bad argument."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ops.cases import normal


def rows(batch: int = 8, D: int = 3, *leading: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return normal(*leading, batch, D).to(dtype)


X, STACK = rows(), rows(8, 3, 2)
META = torch.empty(8, 3, device="meta")


def refused(error: type[Exception], message: str, f: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """The call raises `error`, and its message is or begins with `message`."""
    with pytest.raises(error, match="^" + re.escape(message)):
        f(*args, **kwargs)

"""The lines of metrics.jsonl as scalars for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from disentangle_ext._extras import require

__all__ = ["Scalars", "require_tensorboard", "scalars"]


class Scalars(Protocol):
    """Told about every line of metrics."""

    def __call__(self, row: Mapping[str, Any]) -> object: ...


def require_tensorboard() -> None:
    """Raise now rather than after the data has been loaded.

    Raises:
        ImportError: without the ``tensorboard`` extra.
    """
    require("tensorboard", extra="tensorboard", what="--tensorboard")


@contextmanager
def scalars(folder: Path | None, step: int) -> Iterator[Scalars]:
    """What writes lines of metrics to event files in ``folder``, or to nowhere.

    Args:
        folder: where to; None: nowhere.
        step: updates done: what a run has written of later ones before is struck out.
    """
    if folder is None:
        yield lambda row: None
        return
    module = require("torch.utils.tensorboard", extra="tensorboard", what="--tensorboard")
    with module.SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def add(row: Mapping[str, Any]) -> None:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, row["step"])
            writer.flush()

        yield add

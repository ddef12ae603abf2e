"""The lines of metrics.jsonl as scalars for TensorBoard."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from disentangle_ext._extras import require
from disentangle_ext._files import WriteError

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

    Raises:
        WriteError: if the disk is full, and so on.
    """
    if folder is None:
        yield lambda row: None
        return
    module = require("torch.utils.tensorboard", extra="tensorboard", what="--tensorboard")
    with _one_error(folder), module.SummaryWriter(str(folder), purge_step=step + 1) as writer:

        def add(row: Mapping[str, Any]) -> None:
            for name, value in row.items():
                if name != "step":
                    writer.add_scalar(name, value, row["step"])
            writer.flush()

        yield add


@contextmanager
def _one_error(folder: Path) -> Iterator[None]:
    """TensorBoard writes in a thread, whose error is printed there, and raised here again without a file's name."""
    hook, others = threading.excepthook, set(threading.enumerate())

    def print_others(unhandled: threading.ExceptHookArgs) -> None:
        if not issubclass(unhandled.exc_type, OSError):
            hook(unhandled)

    threading.excepthook = print_others
    try:
        yield
    except OSError as error:
        for thread in set(threading.enumerate()) - others:
            thread.join(1.0)  # it raises here before it prints there
        if isinstance(error, WriteError) or error.filename:
            raise
        raise WriteError(folder, error) from error
    finally:
        threading.excepthook = hook

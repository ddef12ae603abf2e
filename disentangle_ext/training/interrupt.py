"""Stopping a run from outside: between two steps while it trains, at once before and after."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import FrameType, TracebackType

__all__ = ["SIGNALS", "Interrupt", "Interrupted", "Phase"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, what ends a process politely, and what Slurm's --signal=USR1@60 sends."""


class Phase(Enum):
    """What a run is doing, and what is lost if it is stopped there."""

    LOADING = "while loading data: nothing is lost"
    TRAINING = "while training"
    SCORING = "while scoring and drawing: the model is trained and saved, scores and pictures are made anew"

    @property
    def is_begun(self) -> bool:
        """Whether the run folder holds this run already."""
        return self in (Phase.TRAINING, Phase.SCORING)


class Interrupted(KeyboardInterrupt):
    """A signal came while there was no step to finish first.

    No Exception: what catches those, as the drawing of pictures does to go on with the next one, must not catch this.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


class Interrupt:
    """While entered, makes the first of ``signals`` raise :class:`Interrupted`, or, in :meth:`deferred`, set a flag.

    A second one acts as it would have without us, so that a run that hangs can be ended. Outside the main thread,
    where Python allows no signal handlers, it does nothing.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.requested: signal.Signals | None = None
        self._signals = signals or SIGNALS
        self._previous: dict[signal.Signals, object] = {}
        self._deferred = False

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = {each: signal.signal(each, self._handle) for each in self._signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In this block a signal sets :attr:`requested` and nothing else; nor does it replace an error from it."""
        self._deferred = True
        yield
        self._deferred = False

    def check(self) -> None:
        """Raise for a signal that has come: Python drops what a handler raises in a callback that cannot fail.

        Raises:
            Interrupted: if one has.
        """
        if self.requested is not None:
            raise Interrupted(self.requested)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number)
        self._restore()
        if not self._deferred:
            self.check()

    def _restore(self) -> None:
        for each, handler in self._previous.items():
            signal.signal(each, handler)  # type: ignore[arg-type]
        self._previous = {}

"""Stopping between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupt:
    """While entered, turns the first of ``signals`` into a flag that the loop reads between steps.

    A second one acts as it would have without us, so that a run that hangs can be ended. Outside the main thread,
    where Python allows no signal handlers, it does nothing.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.requested: signal.Signals | None = None
        self._signals = signals or (signal.SIGINT,)
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = {each: signal.signal(each, self._handle) for each in self._signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for each, handler in self._previous.items():
            signal.signal(each, handler)  # type: ignore[arg-type]
        self._previous = {}

"""Programs in processes of their own, forked from a server that has imported what they need: no interpreter starts."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

from disentangle_ext import train
from disentangle_ext.training.interrupt import SIGNALS

# The first optimiser imports torch._dynamo, which takes seconds.
_PRELOADED = [
    "pytest",
    "torch._dynamo",
    "torch.nn.parallel",
    "disentangle_ext.train",
    "disentangle_ext.metrics",
]


def context() -> Any:
    """The server of the processes, which has no threads that they would inherit."""
    server = mp.get_context("forkserver")
    server.set_forkserver_preload(_PRELOADED)
    return server


class Program:
    """``python -m disentangle_ext.train`` in a process of its own.

    Args:
        output: the file that takes what it prints.
        arguments: its command line.
        environment: variables of its own.
        prepare: called in the process first.
    """

    def __init__(
        self,
        output: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        prepare: Callable[[], object] | None = None,
    ) -> None:
        self.output = output
        output.touch()
        target = (dict(environment or {}), output, arguments, prepare)
        self.process: BaseProcess = context().Process(target=_main, args=target)
        self.process.start()

    def printed(self) -> str:
        return self.output.read_text()

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + 60
        while text not in self.printed():
            assert time.monotonic() < end, f"{text!r} never came: {self.printed()}"
            time.sleep(0.01)

    def send(self, number: int) -> None:
        os.kill(self.process.pid or 0, number)

    def code(self) -> int | None:
        """The exit code, or the signal that killed it as a negative number."""
        self.process.join(60)
        return self.process.exitcode


def _main(environment: dict[str, str], output: Path, arguments: tuple[str, ...], prepare: Any) -> None:
    os.environ.update(environment)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the server of a study is deaf to them
    torch.set_num_threads(1)
    with open(output, "w", buffering=1) as stream:
        sys.stdout = sys.stderr = stream
        if prepare is not None:
            prepare()
        try:
            code = train.main(list(arguments))
        except Exception:
            traceback.print_exc()
            code = 1
    # Not what a process of multiprocessing does at its end, but a program.
    sys.exit(code)

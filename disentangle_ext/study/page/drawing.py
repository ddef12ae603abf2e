"""PNG and PDF of all charts, drawn by processes of their own while the page is written."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

from disentangle_ext._files import write_atomically
from disentangle_ext.study.page import draw_files
from disentangle_ext.study.page.theme import Spec

__all__ = ["drawing"]

_PROCESSES = 2
"""Each has an engine of JavaScript, and hence hundreds of megabytes."""


@dataclass
class Drawn:
    """What the processes made besides the files.

    Attributes:
        library: Vega, Vega-Lite and Vega-Embed, which draw the charts in a page.
    """

    library: str = ""


@contextmanager
def drawing(specs: Mapping[str, Spec], folder: Path) -> Iterator[Drawn]:
    """Begin to draw ``specs`` by name; after the block NAME.png and NAME.pdf are in ``folder``, and there is a library.

    Raises:
        RuntimeError: if a chart cannot be drawn; has what the process said last.
        WriteError: if the disk is full, and so on.
    """
    with tempfile.TemporaryDirectory(prefix=".drawing-", dir=folder) as temporary:
        texts = {name: json.dumps(spec, allow_nan=False) for name, spec in specs.items()}
        for name, text in texts.items():
            (Path(temporary) / f"{name}.json").write_text(text, encoding="utf-8")
        names = [draw_files.LIBRARY, *sorted(texts, key=lambda name: -len(texts[name]))]
        count = min(_PROCESSES, os.cpu_count() or 1, len(names))
        command = [sys.executable, draw_files.__file__, temporary]
        with ExitStack() as stack:
            processes = []
            for i in range(count):
                started = Popen([*command, *names[i::count]], stdin=DEVNULL, stderr=PIPE)
                processes.append(stack.enter_context(started))
                stack.callback(started.kill)  # which does nothing to one that has ended
            drawn = Drawn()
            yield drawn
            said = [process.communicate()[1] for process in processes]
        for process, words in zip(processes, said):
            if process.returncode:
                last = words.decode(errors="replace").strip().splitlines()[-1:]
                raise RuntimeError(f"study report: a chart cannot be drawn: {''.join(last)}")
        drawn.library = Path(temporary, draw_files.LIBRARY).read_text(encoding="utf-8")
        for name in specs:
            for suffix in ("png", "pdf"):
                write_atomically(folder / f"{name}.{suffix}", (Path(temporary) / f"{name}.{suffix}").read_bytes())

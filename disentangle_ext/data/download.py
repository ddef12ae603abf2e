"""Fetching a published file: pooch checks it and puts it in its place whole; here is which address comes next."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from disentangle_ext._extras import require
from disentangle_ext.data.cache import progress
from disentangle_ext.data.published import Source

__all__ = ["download"]

# Every address is tried this often, the whole list before one of them again, with so many seconds in between.
_ROUNDS = 3
_PAUSE = 2.0


def download(owner: str, source: Source, folder: Path, *, verify: bool) -> Path:
    """Fetch a file into ``folder``, from the first of its addresses that has it.

    It appears under its name when it is whole and, with ``verify``, has the published checksum. What a broken
    connection left is not kept: the next try starts again. Several processes may fetch the same file at once, each with
    a copy of its own until the last step.

    Args:
        owner: begins an error.
        source: the file.
        folder: where to put it; made if it is not there.
        verify: compare it with its checksum.

    Raises:
        OSError: if no address has it, or it cannot be written.
        ImportError: without the ``data`` extra.
    """
    pooch = require("pooch", extra="data", what=owner)
    no_answer = require("requests", extra="data", what=owner).RequestException
    failures: dict[str, str] = {}
    addresses = list(source.mirrors)
    for turn in range(_ROUNDS):
        time.sleep(_PAUSE if turn and addresses else 0)
        for url in list(addresses):
            try:
                with _silent(pooch), _Bar(f"{source.file}: downloading") as bar:
                    path = pooch.retrieve(
                        url,
                        source.checksum if verify else None,
                        fname=source.file,
                        path=folder,
                        downloader=pooch.HTTPDownloader(progressbar=bar, chunk_size=1 << 20, timeout=60),
                    )
            except no_answer as error:
                failures[url] = str(error)
            except ValueError as error:  # another file: that address will send it again
                failures[url] = str(error).partition(". ")[0]
                addresses.remove(url)
            else:
                # It comes out of tempfile, for its owner alone; the folder says who shares it.
                Path(path).chmod(folder.stat().st_mode & 0o666)
                return Path(path)
    reasons = "; ".join(f"{url}: {' '.join(reason.split())}" for url, reason in failures.items())
    raise OSError(f"{owner}: cannot download {source.file}: {reasons}")


@contextmanager
def _silent(pooch: Any) -> Iterator[None]:
    """Silence pooch's own lines for a block: they advise on the call of pooch, not on ours."""
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Bar(ExitStack):
    """The progress of a download, as pooch reports it to tqdm: in whole pieces, and all of it once more at the end."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self._what = what
        self._advance: Callable[[int], None] | None = None
        self._left = 0

    @property
    def total(self) -> int:
        return self._left

    @total.setter
    def total(self, size: int) -> None:
        self._left = size
        self._advance = self.enter_context(progress(self._what, size))

    def update(self, amount: int) -> None:
        amount = min(amount, self._left)
        self._left -= amount
        if amount and self._advance is not None:
            self._advance(amount)

    def reset(self) -> None:
        self._left = 0

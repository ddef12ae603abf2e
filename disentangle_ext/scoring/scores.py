"""Scores with the seconds that each took, and the file that keeps them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._files import write_atomically
from disentangle_ext.metrics.suite import Failure, Result, score_all

__all__ = ["Scores", "check_output", "read_scores", "score", "write_scores"]


class Scores(NamedTuple):
    """Results by the name of their metric."""

    title: str
    """What was scored."""
    results: dict[str, Result]
    seconds: dict[str, float]
    """How long each took."""

    @property
    def some_failed(self) -> bool:
        return any(isinstance(result, Failure) for result in self.results.values())


def score(title: str, codes: Any, factors: Any, *, progress: Callable[[int, int], object], **options: Any) -> Scores:
    """Score with :func:`metrics.score_all`, and take the time.

    Args:
        title: what is scored.
        codes: [N, D].
        factors: [N, K], or None.
        progress: called with the number of metrics done and their total.
        **options: options of :func:`metrics.score_all`.
    """
    times: list[float] = []

    def show(name: str, done: int, total: int) -> None:
        times.append(time.perf_counter())
        progress(done, total)

    results = score_all(codes, factors, progress=show, **options)
    return Scores(title, results, {name: end - start for name, start, end in zip(results, times, times[1:])})


def check_output(path: Path) -> None:
    """Raise for a file in no folder, before the scores take their minutes.

    Raises:
        MistakeError: "evaluate: --output must be in a folder that exists, got none/scores.json".
    """
    if not path.parent.is_dir():
        raise MistakeError(f"evaluate: --output must be in a folder that exists, got {path}")


def read_scores(path: Path) -> dict[str, Any]:
    """Read the scores that a file holds: none if it is not there.

    Raises:
        MistakeError: if there is no such folder, or the file holds something else.
    """
    check_output(path)
    try:
        scores = json.loads(path.read_bytes())["metrics"]
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, RecursionError):
        scores = None
    if not isinstance(scores, dict):
        raise MistakeError(f"evaluate: --output must be a new file, or one that evaluate has written, got {path}")
    return scores


def write_scores(path: Path, kept: Mapping[str, Any], scores: Scores) -> None:
    """Write the results and, of the scores ``kept`` from before, those of other names.

    Raises:
        WriteError: if the disk is full, the folder cannot be written, and so on.
    """
    content = {
        name: {"of": scores.title, **result.as_dict(), "seconds": round(scores.seconds[name], 3)}
        for name, result in scores.results.items()
    }
    write_atomically(path, (json.dumps({"metrics": {**kept, **content}}, indent=2) + "\n").encode())

"""Scores with the seconds that each took, and the file that keeps them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext._files import write_atomically
from disentangle_ext.metrics import ExactElboResult
from disentangle_ext.metrics.suite import Failure, Result, score_all

__all__ = ["Scores", "check_output", "read_scores", "score", "write_scores", "write_terms"]


class Scores(NamedTuple):
    """Results by the name of their metric."""

    title: str
    """What was scored."""
    results: dict[str, Result]
    seconds: dict[str, float]
    """How long each took."""
    run: Path | None = None
    """The folder of the run that was scored; None for codes of another model."""

    @property
    def some_failed(self) -> bool:
        return any(isinstance(result, Failure) for result in self.results.values())


def score(
    title: str,
    codes: Any,
    factors: Any,
    *,
    progress: Callable[[int, int], object],
    run: Path | None = None,
    **options: Any,
) -> Scores:
    """Score with :func:`metrics.score_all`, and take the time.

    Args:
        title: what is scored.
        codes: [N, D].
        factors: [N, K], or None.
        progress: called with the number of metrics done and their total.
        run: the folder of the run whose codes they are.
        **options: options of :func:`metrics.score_all`.
    """
    times: list[float] = []

    def show(name: str, done: int, total: int) -> None:
        times.append(time.perf_counter())
        progress(done, total)

    results = score_all(codes, factors, progress=show, **options)
    seconds = {name: end - start for name, start, end in zip(results, times, times[1:])}
    return Scores(title, results, seconds, run)


def check_output(path: Path) -> None:
    """Raise for a folder, and for a file in none, before the scores take their minutes.

    Raises:
        MistakeError: "evaluate: --output must be in a folder that exists, got none/scores.json".
    """
    if path.is_dir():
        raise MistakeError(f"evaluate: --output must be a file, as {path / 'scores.json'}, got the folder {path}")
    if not path.parent.is_dir():
        raise MistakeError(f"evaluate: --output must be in a folder that exists, got {path}")


def read_scores(path: Path, what: str = "evaluate: --output") -> dict[str, Any]:
    """Read the scores that a file holds: none if it is not there.

    Args:
        path: the file.
        what: who names it, and how; begins the error.

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
        raise MistakeError(f"{what} must be a new file, or one that evaluate has written, got {path}")
    return scores


def write_scores(path: Path, kept: Mapping[str, Any], scores: Scores) -> None:
    """Write the results and, of the scores ``kept`` from before, those of other names.

    Raises:
        WriteError: if the disk is full, the folder cannot be written, and so on.
    """
    content = {
        name: {**_subject(scores.title, scores.run), **result.as_dict(), "seconds": round(scores.seconds[name], 3)}
        for name, result in scores.results.items()
    }
    _write(path, {"metrics": {**kept, **content}})


def write_terms(path: Path, title: str, run: Path, result: ExactElboResult) -> None:
    """Write the terms of the KL of a run.

    Raises:
        WriteError: as :func:`write_scores`.
    """
    _write(path, {**_subject(title, run), **result.as_dict()})


def _subject(title: str, run: Path | None) -> dict[str, str]:
    """What was measured: files of several runs may stand side by side, far from their folders."""
    return {"of": title} if run is None else {"of": title, "run": str(run.resolve())}


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())

"""The scores of one run, from the files in its folder."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from disentangle_ext._errors import MistakeError
from disentangle_ext.report.losses import NO_TERMS
from disentangle_ext.runs.folder import EVALUATION, METRICS, SCORES

__all__ = ["DOWNSTREAM", "SCORE", "Scores", "read_run_scores"]

SCORE = "score"
"""The part that is the score itself."""

DOWNSTREAM = "downstream"
"""The metric that scores at several numbers of labels; each of them is a metric, ``downstream_100``, too."""

Scores = dict[str, dict[str, float]]
"""By the name of a metric: its score, as the part :data:`SCORE`, and its other numbers by their dotted paths."""

_TAIL = 1 << 16
"""Bytes at the end of metrics.jsonl that hold its last line."""


def read_run_scores(folder: Path) -> Scores:
    """Read all numbers that a finished run is scored by.

    - Metrics, from evaluation.json, and from scores.json those that are not in it: the score and every other number,
      by its path in the file (``gaps.scale``, ``interval.low``, ``settings.num_points``); no matrices. A metric that
      could not be computed is left out.
    - ``downstream_N``: the accuracy of ``downstream`` with N labels, the mean over factors.
    - The terms of the loss, from the last line of metrics.jsonl, by the names and with the signs that they have there:
      ``reconstruction`` is -log p(x|z) and ``kl`` the divergence from the prior, in nats for an image, both positive
      and to be minimised; ``loss`` is their weighted sum as it was minimised. They are means over the batches since the
      line before, so they have the noise of those batches.
    - ``elbo`` = -(reconstruction + kl), in nats for an image; the larger, the better. The KL is, for beta-TCVAE with
      kl="decomposed", the sum of its three terms, which estimates it whatever the estimator. Objectives without a KL
      have no ELBO.

    Args:
        folder: the run folder.

    Raises:
        MistakeError: for a file that is damaged, in one line that names it.
    """
    scores = _terms(_read(folder / METRICS, _last_line))
    contents = {
        **_read(folder / SCORES, lambda path: json.loads(path.read_bytes())),
        **_read(folder / EVALUATION, lambda path: json.loads(path.read_bytes())["metrics"]),
    }
    for metric, content in contents.items():
        if isinstance(content, dict):
            try:
                parts = _numbers(content)
                by_labels = _by_labels(content) if metric == DOWNSTREAM else {}
            except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
                raise MistakeError(f"study: {folder}: {metric} has no parts that evaluate writes: {error}") from None
            if SCORE in parts:
                scores[metric] = parts
                scores.update(by_labels)
    return scores


def _read(path: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    """Read a JSON object; an empty one if there is no such file."""
    try:
        content = read(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise MistakeError(f"study: cannot read {path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MistakeError(f"study: {path} is damaged: {type(error).__name__}: {error}") from None
    if not isinstance(content, dict):
        raise MistakeError(f"study: {path} is damaged: it must hold a mapping, got a {type(content).__name__}")
    return content


def _last_line(path: Path) -> Any:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - _TAIL))
        return json.loads(file.read().rstrip().rpartition(b"\n")[2])


def _terms(row: Mapping[str, Any]) -> Scores:
    terms = {name: value for name, value in _numbers(row).items() if name not in NO_TERMS}
    kl = terms.get("kl", _decomposed(terms))
    if kl is not None and "reconstruction" in terms:
        terms["elbo"] = -(terms["reconstruction"] + kl)
    return {name: {SCORE: value} for name, value in terms.items()}


def _decomposed(terms: Mapping[str, float]) -> float | None:
    parts = [value for name, value in terms.items() if name.startswith(("mi_", "tc_", "dwkl_"))]
    return sum(parts) if len(parts) == 3 else None


def _numbers(content: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers of a mapping and those in it, by their dotted paths."""
    found = {}
    for key, value in content.items():
        if isinstance(value, dict):
            found.update(_numbers(value, f"{prefix}{key}."))
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            found[prefix + key] = float(value)
    return found


def _by_labels(content: Mapping[str, Any]) -> Scores:
    found: Scores = {}
    for labels, accuracies in zip(content["train_sizes"], content["curve"]):
        known = [each for each in accuracies if each is not None]
        if known:
            found[f"{DOWNSTREAM}_{labels}"] = {SCORE: math.fsum(known) / len(known)}
    return found

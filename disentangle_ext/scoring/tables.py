"""Tables of scores and of the terms of the ELBO, and bars that show how far a call is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from disentangle_ext._extras import require
from disentangle_ext.metrics import ExactElboResult
from disentangle_ext.metrics.suite import Failure
from disentangle_ext.scoring.scores import Scores

__all__ = ["TERMS", "Bar", "bars", "print_scores", "print_terms"]

TERMS = {
    "mutual_information": "mutual information",
    "total_correlation": "total correlation",
    "dimwise_kl": "dimension-wise KL",
    "kl": "sum: KL",
}

Bar = Callable[[str], Callable[[int, int], None]]
"""Makes a bar of a description; the bar takes what is done and the total."""


@contextmanager
def bars() -> Iterator[Bar]:
    """Show bars on a terminal, beside what is printed; nothing elsewhere."""
    console = _rich("console").Console(stderr=True)
    progress = _rich("progress")
    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    with progress.Progress(
        *columns, progress.TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as shown:

        def bar(description: str) -> Callable[[int, int], None]:
            task: Any = shown.add_task(description, total=None)
            return lambda done, total: shown.update(task, completed=done, total=total)

        yield bar


def print_scores(scores: Scores, *, intervals: bool) -> None:
    """Print a line for each metric: its score, its interval, its seconds, and why there is no score or no interval.

    Args:
        scores: the scores.
        intervals: whether the call asked for intervals.
    """
    table = _rich("table").Table(box=_rich("box").SIMPLE_HEAD)
    table.add_column("metric")
    table.add_column("score", justify="right")
    if intervals:
        table.add_column("95 %", justify="right")
    table.add_column("s", justify="right")
    table.add_column("")
    for name, result in scores.results.items():
        seconds = f"{scores.seconds[name]:.1f}"
        if isinstance(result, Failure):
            cells = [name, "none", *([""] if intervals else []), seconds, result.reason]
        else:
            low_high = f"{result.interval.low:.3f} to {result.interval.high:.3f}" if result.interval else ""
            why_none = f"no interval: {result.no_interval}" if intervals and result.no_interval else ""
            cells = [name, f"{result.score:.3f}", *([low_high] if intervals else []), seconds, why_none]
        table.add_row(*map(_rich("text").Text, cells))  # text, in which brackets are brackets and no markup
    print(scores.title)
    _rich("console").Console().print(table)


def print_terms(result: ExactElboResult, title: str, *, encoding: float, computing: float) -> None:
    """Print the terms of the KL in nats, exact and as minibatches estimate them.

    Args:
        result: the terms.
        title: what they are of, above the table.
        encoding: seconds that the posteriors took.
        computing: seconds that the terms took.
    """
    settings = result.settings
    table = _rich("table").Table(title=title, title_style="", title_justify="left", box=_rich("box").SIMPLE_HEAD)
    table.add_column("nats")
    for name in ("exact", "s.e.", *(name for each in result.estimates for name in (each, "s.d."))):
        table.add_column(name, justify="right")
    for name, label in TERMS.items():
        exact = result.exact[name]
        estimates = [number for terms in result.estimates.values() for number in (terms[name].mean, terms[name].sd)]
        table.add_row(label, *(f"{number:.3f}" for number in (exact.mean, exact.standard_error, *estimates)))
    _rich("console").Console().print(table)
    print(
        f"exact: {settings['queries']:,} queries against all images, with the standard error of their mean; "
        f"{computing:.1f} s after {encoding:.1f} s of encoding\n"
        f"{', '.join(result.estimates)}: mean of {settings['batches']} minibatches of {settings['batch_size']}, "
        "with the standard deviation of one"
    )


def _rich(module: str) -> ModuleType:
    return require(f"rich.{module}", extra="train", what="disentangle_ext.evaluate")

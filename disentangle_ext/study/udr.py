"""UDR of the runs of a study: how well a model agrees with those that differ from it in their seed alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext.metrics import udr
from disentangle_ext.runs.checkpoint import read_tensors
from disentangle_ext.runs.folder import CODES

if TYPE_CHECKING:
    import pyarrow

__all__ = ["UDR", "Groups", "groups_of", "udr_of"]

UDR = "udr"

Groups = dict[frozenset[str], Sequence[str]]
"""The runs of each setting that differ in their seed alone, by their set; two at least."""


class _Run(NamedTuple):
    """What UDR needs to know of a model."""

    rows: torch.Tensor
    mu: torch.Tensor
    kl: torch.Tensor


def groups_of(runs: pyarrow.Table, names: Mapping[str, object]) -> Groups:
    """Find the runs that differ in their seed alone.

    Args:
        runs: see :data:`study.records.RUNS`.
        names: the runs to take.
    """
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    columns = ("run", "data_set", "objective", "hyperparameter", "value")
    for run, *setting in zip(*(runs.column(name).to_pylist() for name in columns)):
        if run in names:
            groups[tuple(setting)].append(run)
    return {frozenset(group): group for group in groups.values() if len(group) > 1}


def udr_of(
    groups: Groups,
    paths: Mapping[str, Path],
    known: Mapping[frozenset[str], Mapping[str, float]],
    problems: list[str],
    show: Callable[[int, int], object] = lambda done, total: None,
) -> dict[str, float]:
    """Compute :func:`metrics.udr` of each model among those that differ from it in their seed.

    It takes the codes that ``evaluate`` and ``study`` keep in a run folder. With M seeds a setting takes M (M - 1)
    lasso regressions.

    Args:
        groups: from :func:`groups_of`.
        paths: the run folders.
        known: the scores of groups that are not computed again.
        problems: takes a line for each run without codes of the same images.
        show: called with the number of groups done and their total.
    """
    found: dict[str, float] = {}
    for done, (key, group) in enumerate(groups.items()):
        show(done, len(groups))
        if key in known:
            found.update(known[key])
            continue
        models: dict[str, _Run] = {}
        for name in group:
            try:
                models[name] = _read(paths[name], models)
            except (MistakeError, FileNotFoundError) as error:
                problems.append(f"study: udr: {error}; the run has none")
        if len(models) > 1:
            scores = udr([each.mu for each in models.values()], kl=[each.kl for each in models.values()]).models
            found.update(zip(models, scores.tolist()))
    show(len(groups), len(groups))
    return found


def _read(folder: Path, others: Mapping[str, _Run]) -> _Run:
    path = folder / CODES
    tensors, _ = read_tensors(path)
    if not {"rows", "mu", "logvar"} <= tensors.keys():
        raise MistakeError(f"{path} holds no codes")
    rows, mu, logvar = (tensors[name] for name in ("rows", "mu", "logvar"))
    for other in others.values():
        if not torch.equal(rows, other.rows):
            raise MistakeError(f"{path} holds codes of other images than those of the runs with other seeds")
    return _Run(rows, mu, ((mu**2 + logvar.exp() - 1 - logvar) / 2).mean(0))

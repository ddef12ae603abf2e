"""The flags of engines."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from disentangle_ext._errors import MistakeError
from disentangle_ext.study.engines import Engine

__all__ = ["add_engine", "check_engine", "engine_of"]


class _Flag(NamedTuple):
    """A flag of one engine; its value is None where the call does not give it."""

    engine: str
    name: str
    type: Callable[[str], Any]
    help: str
    least: float | None = None
    more: dict[str, Any] = {}  # noqa: RUF012 - what argparse takes beside

    @property
    def key(self) -> str:
        return self.name.removeprefix("--").replace("-", "_")


_CLUSTERS = ("slurm", "local")

_FLAGS = (
    _Flag("local", "--workers", int, "runs at work at once (default: a run for each core)", 1),
    _Flag(
        "ray", "--address", str, "HOST:PORT of the head of the cluster, or auto: that of this machine (default: auto)"
    ),
    _Flag("ray", "--gpus-per-run", float, "GPUs of a run, or the share of one, as .25 (default: 0, the CPU)", 0),
    _Flag(
        "submitit",
        "--cluster",
        str,
        "slurm, or local: processes of this machine that stand for its jobs (default: slurm)",
        more={"choices": _CLUSTERS},
    ),
    _Flag("submitit", "--block", int, "runs of a job, one after the other (default: as few as 1,000 jobs allow)", 1),
    _Flag("submitit", "--partition", str, "partition of SLURM"),
    _Flag("submitit", "--timeout-min", int, "minutes after which a job is queued again (default: 240)", 5),
    _Flag("submitit", "--gpus-per-node", int, "GPUs of a job (default: none)", 0),
    _Flag("submitit", "--cpus-per-task", int, "CPUs of a job (default: one for each thread of its runs)", 1),
    _Flag("submitit", "--mem-gb", float, "memory of a job in GB (default: that of the partition)", 0),
    _Flag("submitit", "--array-parallelism", int, "jobs at work at once (default: 256; local: one for each core)", 1),
    _Flag(
        "submitit",
        "--slurm",
        str,
        "other options of sbatch, as --slurm account=vision qos=long exclusive",
        more={"nargs": "+", "metavar": "KEY=VALUE"},
    ),
)
_ENGINES = tuple(dict.fromkeys(flag.engine for flag in _FLAGS))


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add ``--engine`` and the flags of every engine, each engine with a section of its own in --help."""
    parser.add_argument(
        "--engine", choices=_ENGINES, default="local", help="where runs are computed (default: local, this machine)"
    )
    for engine in _ENGINES:
        group = parser.add_argument_group(f"--engine {engine}")
        for flag in _FLAGS:
            if flag.engine == engine:
                group.add_argument(flag.name, type=flag.type, help=flag.help, **flag.more)


def check_engine(request: argparse.Namespace) -> None:
    """Raise for flags of another engine than the call's, and for numbers out of range.

    Raises:
        MistakeError: for the first that is wrong.
    """
    for flag in _FLAGS:
        value = getattr(request, flag.key)
        if value is None:
            continue
        if flag.engine != request.engine:
            raise MistakeError(f"study: {flag.name} belongs to --engine {flag.engine}, got --engine {request.engine}")
        if flag.least is not None and not value >= flag.least:
            raise MistakeError(f"study: {flag.name} must be at least {flag.least:g}, got {value:g}")
    if request.mem_gb == 0:
        raise MistakeError("study: --mem-gb must be more than 0, got 0")
    if request.gpus_per_run is not None and request.gpus_per_run > 1 and request.gpus_per_run % 1:
        raise MistakeError(
            f"study: --gpus-per-run must be a share of one or a whole number, got {request.gpus_per_run}"
        )


def engine_of(request: argparse.Namespace) -> Engine:
    """The engine that a call asks for."""
    given = {flag.key: value for flag in _FLAGS if (value := getattr(request, flag.key)) is not None}
    if request.engine == "ray":
        from disentangle_ext.study.engines.ray import Ray

        return Ray(**given)
    if request.engine == "submitit":
        return _submitit(request.study / "jobs", given)
    from disentangle_ext.study.engines.local import Local

    return Local(given.get("workers", os.cpu_count() or 1))


def _submitit(folder: Path, given: dict[str, Any]) -> Engine:
    from disentangle_ext.study.engines.submitit import Resources, Submitit

    others = [each.partition("=") for each in given.pop("slurm", ())]
    slurm = {key: value if equals else True for key, equals, value in others}
    names = {field.name for field in dataclasses.fields(Resources)}
    resources = Resources(**{key: given.pop(key) for key in names & given.keys()}, slurm=slurm)
    return Submitit(folder, resources=resources, **given)

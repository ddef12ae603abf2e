"""The flags of engines: what a call asks for, and one line for each that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from disentangle_ext._errors import MistakeError
from disentangle_ext.study.command_line import parse
from disentangle_ext.study.engines.flags import engine_of
from disentangle_ext.study.engines.local import Local
from disentangle_ext.study.engines.ray import Ray
from disentangle_ext.study.engines.submitit import Resources, Submitit


@pytest.mark.parametrize(
    ("flags", "engine"),
    [
        ("", Local(os.cpu_count() or 1)),
        ("--workers 3", Local(3)),
        ("--engine ray", Ray("auto", 0.0)),
        ("--engine ray --address head:6379 --gpus-per-run .25", Ray("head:6379", 0.25)),
        ("--engine submitit", Submitit(Path("study/jobs"))),
        (
            "--engine submitit --cluster local --block 4 --partition gpu --timeout-min 90 --gpus-per-node 1 "
            "--cpus-per-task 4 --mem-gb 7.5 --array-parallelism 8 --slurm account=vision comment=a=b exclusive",
            Submitit(
                Path("study/jobs"),
                cluster="local",
                block=4,
                resources=Resources(
                    "gpu", 90, 1, 4, 7.5, 8, {"account": "vision", "comment": "a=b", "exclusive": True}
                ),
            ),
        ),
    ],
)
@pytest.mark.parametrize("command", ["run study", "score study --metrics mig"])
def test_a_call_has_the_engine_that_it_asks_for(command: str, flags: str, engine: object) -> None:
    found = engine_of(parse([*command.split(), *flags.split()], None))
    assert (type(found), vars(found)) == (type(engine), vars(engine))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--address auto", "--address belongs to --engine ray, got --engine local"),
        ("--engine ray --workers 2", "--workers belongs to --engine local, got --engine ray"),
        ("--engine ray --partition gpu", "--partition belongs to --engine submitit, got --engine ray"),
        ("--engine submitit --gpus-per-run 1", "--gpus-per-run belongs to --engine ray, got --engine submitit"),
        ("--workers 0", "--workers must be at least 1, got 0"),
        ("--engine ray --gpus-per-run -1", "--gpus-per-run must be at least 0, got -1"),
        ("--engine ray --gpus-per-run nan", "--gpus-per-run must be at least 0, got nan"),
        ("--engine ray --gpus-per-run 1.5", "--gpus-per-run must be a share of one or a whole number, got 1.5"),
        ("--engine submitit --block 0", "--block must be at least 1, got 0"),
        ("--engine submitit --timeout-min 3", "--timeout-min must be at least 5, got 3"),
        ("--engine submitit --mem-gb 0", "--mem-gb must be more than 0, got 0"),
    ],
)
def test_a_wrong_flag_is_one_line(flags: str, message: str) -> None:
    with pytest.raises(MistakeError) as caught:
        parse(["run", "study", *flags.split()], None)
    assert str(caught.value) == f"study: {message}"


@pytest.mark.parametrize(("flag", "meant"), [("--worker", "--workers"), ("--retry", "--retry-failed")])
def test_an_option_has_to_be_written_out(flag: str, meant: str) -> None:
    with pytest.raises(MistakeError) as caught:
        parse(["run", "study", flag, "1"], None)
    said, _, known = str(caught.value).partition("? known: ")
    assert said == f"study: unknown option '{flag}': did you mean '{meant}'"
    assert {"--engine", "--workers", "--retry-failed"} <= set(known.split(", "))

"""The work on one run, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from disentangle_ext._exit_codes import ExitCode
from disentangle_ext.runs.config import resolve
from disentangle_ext.runs.folder import EVALUATION
from disentangle_ext.study.work import Task, work


@pytest.mark.forks
def test_a_run_on_images_without_factors_is_finished(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)):
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    settings = resolve(
        {
            "model": "vae",
            "data": "image_folder",
            "data_path": str(tmp_path / "images"),
            **{"network": "mlp", "width": 8, "batch_size": 8, "max_steps": 2, "threads": 1},
        }
    ).plain()
    task = Task("a", str(tmp_path / "a"), str(tmp_path / "a.log"), settings, ("active_units", "mig"), "cpu")
    assert work(task) == ExitCode.FINISHED
    scores = json.loads((tmp_path / "a" / EVALUATION).read_text())["metrics"]
    assert scores["active_units"]["score"] is not None
    assert scores["mig"]["score"] is None
    assert scores["mig"]["reason"] == "mig needs factors, which the data set does not have"


def test_scores_that_are_damaged_are_named(tmp_path: Path) -> None:
    settings = resolve({"model": "vae", "data": "digits"}).plain()
    task = Task("a", str(tmp_path / "a"), str(tmp_path / "a.log"), settings, ("mig",), "cpu")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "DONE").touch()
    (tmp_path / "a" / EVALUATION).write_text("[")
    assert work(task) == ExitCode.MISTAKE
    assert (tmp_path / "a.log").read_text().startswith("study: the scores of a run must be a new file, or one that ")


def test_a_run_that_was_killed_at_its_end_leaves_no_checkpoints(tmp_path: Path) -> None:
    settings = resolve({"model": "vae", "data": "digits"}).plain()
    task = Task("a", str(tmp_path / "a"), str(tmp_path / "a.log"), settings, ("mig",), "cpu")
    (tmp_path / "a" / "checkpoints").mkdir(parents=True)
    (tmp_path / "a" / "checkpoints" / "step-00000001.safetensors").touch()
    (tmp_path / "a" / "DONE").touch()
    (tmp_path / "a" / EVALUATION).write_text(json.dumps({"metrics": {"mig": {"score": 0.5}}}))
    assert work(task) == ExitCode.FINISHED
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["DONE", EVALUATION]

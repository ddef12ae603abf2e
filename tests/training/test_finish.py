"""What a run leaves behind at its end, and what it must leave alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from disentangle_ext.data import GroundTruthData


def test_a_run_is_scored_where_its_model_and_data_lie(
    tmp_path: Path, small_run: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other runs of a stack are scored with the same data, which may fill most of a GPU."""

    def moved(*_: Any) -> Any:
        raise AssertionError("moved")

    monkeypatch.setattr(GroundTruthData, "to", moved)
    monkeypatch.setattr(torch.nn.Module, "cpu", moved)
    assert small_run(tmp_path / "run") == 0
    assert (tmp_path / "run" / "samples.png").exists()

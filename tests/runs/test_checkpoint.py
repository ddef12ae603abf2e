"""Checkpoint files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from disentangle_ext._errors import MistakeError
from disentangle_ext.engine.descent import load_optimizer_state, optimizer_state
from disentangle_ext.runs.checkpoint import Checkpoint, last_checkpoint, read_tensors, save_checkpoint, save_tensors


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"a": torch.full((2, 3), float(step))}, {"names": ["x"], "count": step})


def test_round_trip(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, checkpoint(7))
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert (found.step, found.state) == (7, {"names": ["x"], "count": 7})
    assert torch.equal(found.tensors["a"], torch.full((2, 3), 7.0))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (9, 10, 100, 1000):
        save_checkpoint(tmp_path, checkpoint(step))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step-0000000100.safetensors",
        "step-0000001000.safetensors",
    ]
    found = last_checkpoint(tmp_path)
    assert found is not None
    assert found.step == 1000


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_the_one_before_a_damaged_checkpoint_is_used(tmp_path: Path, damage: bytes | None) -> None:
    save_checkpoint(tmp_path, checkpoint(1))
    newest = save_checkpoint(tmp_path, checkpoint(2))
    newest.write_bytes(newest.read_bytes()[:-5] if damage is None else damage)
    lines: list[str] = []
    found = last_checkpoint(tmp_path, warn=lines.append)
    assert found is not None
    assert found.step == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"{newest} is damaged")
    (tmp_path / "step-0000000001.safetensors").write_bytes(b"")
    said = (
        rf"^train: --resume: {newest} is damaged.*, and there is no other that can be read: start again, .*--overwrite$"
    )
    with pytest.raises(MistakeError, match=said):
        last_checkpoint(tmp_path)


def test_none_without_checkpoints(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "none") is None


def test_another_format_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "step-0000000001.safetensors", {}, {"format": 99, "step": 1, "state": {}})
    with pytest.raises(ValueError, match="has format 99"):
        last_checkpoint(tmp_path)


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a.safetensors does not exist"):
        read_tensors(tmp_path / "a.safetensors")


def test_optimizer_goes_on_exactly_with_channels_last_weights() -> None:
    """Moments come back in the strides of their weights: the fused step reads both as one block of memory."""

    def make() -> tuple[torch.nn.Conv2d, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 5).to(memory_format=torch.channels_last)
        return layer, torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)

    def advance(layer: torch.nn.Conv2d, optimizer: torch.optim.Optimizer, step: int) -> None:
        optimizer.zero_grad()
        x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        layer(x).square().mean().backward()
        optimizer.step()

    one, adam_one = make()
    for step in range(4):
        advance(one, adam_one, step)
    two, adam_two = make()
    for step in range(2):
        advance(two, adam_two, step)
    tensors, state = optimizer_state(adam_two)
    three, adam_three = make()
    three.load_state_dict(two.state_dict())
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    load_optimizer_state(adam_three, contiguous, state)
    assert adam_three.state[three.weight]["exp_avg"].stride() == three.weight.stride()
    for step in (2, 3):
        advance(three, adam_three, step)
    assert torch.equal(three.weight, one.weight)
    assert torch.equal(three.bias, one.bias)

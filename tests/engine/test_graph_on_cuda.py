"""An update as one CUDA graph, on a GPU: the graph itself."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext.engine import descent, graph
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.objectives import OBJECTIVES, Loss, PlainVAE
from tests.engine.graphs import STEPS, Float32, make, objectives, precisions

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on_cuda(case: str, precision: str = "fp32", *, graphed: bool) -> Trainer:
    host = make(case, precision)
    return Trainer(
        host.model.cuda(),
        host.objective.cuda(),
        host.data.to("cuda"),
        descent=host.descent,
        adversary=host.adversary,
        batch_size=8,
        seed=0,
        autocast=host.autocast,
        graph=graphed,
    )


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LENGTH", 4)
    monkeypatch.setattr(descent, "Schedule", Float32)


def copies(values: Any) -> list[Tensor]:
    return [each.detach().clone() for each in values]


def assert_close(a: Trainer, b: Trainer) -> None:
    """Where kernels may add in another order: Adam makes much of a small gradient's last bits."""
    for ours, theirs in zip(a.model.parameters(), b.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    for ours, theirs in zip(a.objective.parameters(), b.objective.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@objectives
@precisions
@pytest.mark.usefixtures("short_windows")
def test_replays_on_cuda_are_the_steps_of_the_eager_run(case: str, precision: str) -> None:
    eager, graphed = (on_cuda(case, precision, graphed=each) for each in (False, True))
    for step in range(STEPS):
        rows = [each.read(each.update()) for each in (eager, graphed)]
        assert rows[0] == pytest.approx(rows[1], rel=1e-3, abs=1e-4), f"step {step}"
    assert_close(eager, graphed)
    assert graphed.meter.state()[1] == eager.meter.state()[1]


@pytest.mark.usefixtures("short_windows")
def test_every_replay_on_cuda_has_the_noise_and_the_images_of_its_step() -> None:
    eager, graphed = (on_cuda("beta_vae", graphed=each) for each in (False, True))
    noises = []
    for _ in range(STEPS):  # past the ends of epochs and windows
        want, got = copies(eager.update()), copies(graphed.update())
        for ours, theirs in zip(got, want, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
        _, z, mu, logvar, _ = got
        noises.append((z - mu) / (logvar / 2).exp())
    for one, two in pairwise(noises):
        assert (one - two).abs().max() > 0.1


@pytest.mark.parametrize("cut", [0, 2, 6, 11])
@pytest.mark.parametrize("case", ["beta_tcvae", "factor_vae of two batches", "dcign"])
@pytest.mark.usefixtures("short_windows")
def test_a_graphed_run_on_cuda_goes_on_where_it_stopped(case: str, cut: int) -> None:
    whole, stopped, resumed = (on_cuda(case, graphed=True) for _ in range(3))
    for _ in range(STEPS):
        whole.update()
    for _ in range(cut):
        stopped.update()
    for _ in range(6):
        resumed.update()
    resumed.load(stopped.checkpoint())
    while resumed.step < STEPS:
        resumed.update()
    assert_close(resumed, whole)


@pytest.mark.parametrize("case", ["beta_tcvae", "factor_vae of two batches"])
@pytest.mark.usefixtures("short_windows")
def test_replays_on_cuda_wait_for_nothing(case: str) -> None:
    trainer = on_cuda(case, graphed=True)
    for _ in range(graph.WARM_UP + 1):
        trainer.update()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(9):  # and two new windows
            trainer.update()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.step == graph.WARM_UP + 10


class Waiting(PlainVAE):
    """Reads its loss back."""

    def forward(self, *arguments: Any, **options: Any) -> Loss:
        loss = super().forward(*arguments, **options)
        return Loss(loss.total * (1 + float(loss.total.detach()) * 0), loss.terms)


@pytest.mark.usefixtures("short_windows")
def test_an_update_that_waits_cannot_be_captured_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "vae", Waiting)
    trainer = on_cuda("vae", graphed=True)
    for _ in range(graph.WARM_UP):
        trainer.update()
    with pytest.raises(ValueError, match="^train: compilation 'graph': the update cannot be captured: .+"):
        trainer.update()

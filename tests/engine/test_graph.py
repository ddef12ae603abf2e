"""An update as one CUDA graph, without a GPU: what the graph would hold, replayed op by op."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from disentangle_ext import train as train_module
from disentangle_ext.data import DSpritesLike, FacesLike, GroundTruthData, Shapes3DLike, TorusLike
from disentangle_ext.engine import descent, graph
from disentangle_ext.engine import trainer as trainer_module
from disentangle_ext.engine.meter import NonFiniteLossError
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.objectives import AnnealedVAE, annealed_vae, likelihood
from disentangle_ext.runs.checkpoint import last_checkpoint, save_checkpoint
from tests.engine.graphs import CASES, STEPS, Float32, make, make_data, objectives, precisions
from tests.engine.recording import LIFT, Graph, Recorder, waits


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs on the CPU, as far as it can stand in for a GPU, where rows and pixels are not read to be checked."""
    monkeypatch.setattr(trainer_module, "check", lambda *arguments: None)
    monkeypatch.setattr(graph, "CudaGraph", Graph)
    monkeypatch.setattr(graph, "LENGTH", 4)
    monkeypatch.setattr(descent, "Schedule", Float32)
    monkeypatch.setattr(GroundTruthData, "_check_index", lambda self, index, method: index)
    monkeypatch.setattr(likelihood, "_check_range", lambda name, images: None)


def assert_equal(a: Trainer, b: Trainer) -> None:
    one, two = a.checkpoint(), b.checkpoint()
    assert one.tensors.keys() == two.tensors.keys()
    assert [name for name in one.tensors if not torch.equal(one.tensors[name], two.tensors[name])] == []
    assert one.state == two.state


@pytest.mark.parametrize("case", CASES)
def test_a_window_holds_what_is_drawn_for_each_step(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "LENGTH", 4)
    trainer = make(case)
    rates = [Float32(1e-3, "cosine", 3, STEPS), Float32(0.1, "constant", 5, STEPS)]
    window = graph.Window(trainer._draw, rates, torch.device("cpu"))
    for step in (*range(STEPS), 2, 3, 9, 4, 4):  # in order, and wherever a checkpoint may lead
        window.seek(step)
        taken, there = window.take()
        drawn = trainer._draw(step)
        assert isinstance(taken.step, Tensor)
        assert taken.step.tolist() == step
        assert [each.item() for each in there] == [rate(step) for rate in rates]
        for name in ("rows", "second_rows", "group"):
            ours, want = getattr(taken, name), getattr(drawn, name)
            assert (ours is None) == (want is None)
            assert want is None or torch.equal(ours, want)
        assert len(taken.keys) == len(drawn.keys)
        assert all(map(torch.equal, taken.keys, drawn.keys))


@objectives
@precisions
@pytest.mark.usefixtures("on_cpu")
def test_replays_are_the_steps_of_the_eager_run(case: str, precision: str) -> None:
    eager, graphed = make(case, precision), make(case, precision, "graph")
    for step in range(STEPS):
        rows = [each.read(each.update()) for each in (eager, graphed)]
        assert rows[0] == rows[1], f"step {step}"
    assert_equal(eager, graphed)
    for ours, theirs in zip(graphed._descents, eager._descents, strict=True):
        kept = [{**each.optimizer.param_groups[0], "params": None} for each in (ours, theirs)]
        assert kept[0] == kept[1]
        assert type(kept[0]["lr"]) is float
    assert graphed._graph is not None
    assert graphed._graph._graph.replays == STEPS - graph.WARM_UP


@objectives
@precisions
@pytest.mark.usefixtures("on_cpu")
def test_an_update_is_the_same_work_at_every_step_and_waits_for_nothing(case: str, precision: str) -> None:
    """The same ops with the same numbers on the same memory, so that one that is captured serves all."""
    trainer = make(case, precision, "graph")
    for _ in range(graph.WARM_UP):
        trainer.update()
    held, seen = trainer._graph, []
    assert held is not None
    for step in range(graph.WARM_UP, graph.WARM_UP + 3):  # on both sides of the end of an epoch, and of a window
        held._window.seek(step)
        trainer.descent.optimizer.param_groups[0]["lr"] = float(step)
        with Recorder() as recorder:
            held._work()
        seen.append(recorder)
    assert [str(each.function) for each in seen[0].calls if waits(each)] == []
    assert seen[0].describe() == seen[1].describe() == seen[2].describe()
    assert seen[0].numbers() == seen[1].numbers() == seen[2].numbers()
    assert len(seen[0].calls) > 50


@pytest.mark.parametrize("case", ["beta_tcvae", "factor_vae of two batches", "ada_gvae", "dcign", "annealed_vae"])
@pytest.mark.usefixtures("on_cpu")
def test_a_graphed_run_goes_on_where_it_stopped(case: str, tmp_path: Path) -> None:
    whole, untouched, cuts = make(case, "fp32", "graph"), make(case, "fp32", "graph"), (0, 1, 3, 4, 7, 12)
    for step in range(STEPS):
        if step in cuts:
            save_checkpoint(tmp_path / str(step), whole.checkpoint())
        whole.update()
        untouched.update()
    assert_equal(untouched, whole)
    for cut in cuts:
        resumed = make(case, "fp32", "graph")
        for _ in range(5):  # what was captured before must not be replayed on what is loaded
            resumed.update()
        found = last_checkpoint(tmp_path / str(cut))
        assert found is not None
        resumed.load(found)
        while resumed.step < STEPS:
            resumed.update()
        assert_equal(resumed, whole)


@pytest.mark.usefixtures("on_cpu")
def test_the_averages_count_replays() -> None:
    eager, graphed = make("beta_vae"), make("beta_vae", "fp32", "graph")
    for _ in range(2):
        for _ in range(6):
            outputs = [each.update() for each in (eager, graphed)]
        assert eager.meter.state()[1] == graphed.meter.state()[1]
        assert graphed.meter.state()[1]["count"] == 6
        assert eager.read(outputs[0]) == graphed.read(outputs[1])


@pytest.mark.parametrize("case", ["conv", "factor_vae"])
@pytest.mark.usefixtures("on_cpu")
def test_weights_cast_by_a_callers_autocast_stay_out_of_the_graph(case: str) -> None:
    eager, graphed = make(case, "bf16"), make(case, "bf16", "graph")
    for _ in range(STEPS):
        eager.update()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(STEPS):
            graphed.model.encoder(torch.rand(2, 1, 32, 32))
            graphed.update()
    assert_equal(eager, graphed)


@pytest.mark.usefixtures("on_cpu")
def test_a_loss_that_is_not_finite_names_its_step() -> None:
    trainer = make("vae", "fp32", "graph")
    for _ in range(6):
        output = trainer.update()
    with torch.no_grad():
        next(trainer.model.parameters()).fill_(torch.nan)
    for _ in range(3):
        output = trainer.update()
    with pytest.raises(NonFiniteLossError, match="at step 6"):
        trainer.read(output)


@pytest.fixture
def on_meta(monkeypatch: pytest.MonkeyPatch, on_cpu: None) -> None:
    """The meta device in the place of a GPU: what is on the host is elsewhere there, too, and nothing can be read."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: contextlib.nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)
    monkeypatch.setattr(descent, "_adam", lambda parameters, lr, betas: torch.optim.Adam(parameters, lr))
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: None)  # the fused one has no kernel there
    for name in ("rsample_kl", "permute_dims", "mmd", "aggregate_posterior", "elbo_decomposition"):
        monkeypatch.setattr(sys.modules[f"disentangle_ext.ops.{name}"], "available", lambda device: True)


def assert_stays_on_meta(recorder: Recorder) -> None:
    for call in recorder.calls:
        tensors = [each for each in tree_leaves(call[1:]) if isinstance(each, Tensor)]
        assert {each.device.type for each in tensors} <= {"meta"}, str(call.function)
        assert call.function is not LIFT
        assert not waits(call), str(call.function)


@objectives
@pytest.mark.usefixtures("on_meta")
def test_nothing_in_an_update_is_on_the_host(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, peer = make_data(), make(case)
    drawn = peer._draw(0)
    monkeypatch.setattr(Trainer, "_draw", lambda self, step: drawn)
    monkeypatch.setattr(trainer_module, "batch_order", lambda *arguments: peer.order)
    data = data.to("meta")
    with torch.device("meta"):
        trainer = make(case, "fp32", "graph", data)
    held = trainer._graph
    assert held is not None
    assert trainer.device.type == "meta"
    held._window.seek(0)
    held._work()
    held._window.seek(1)
    with Recorder() as recorder:
        held._work()
    assert_stays_on_meta(recorder)
    names = {str(each.function) for each in recorder.calls}
    assert any("disentangle_ext" in name for name in names)


SETS: dict[str, Callable[[], GroundTruthData]] = {
    "arrays": make_data,
    "dsprites_like": DSpritesLike,
    "quick": lambda: DSpritesLike("quick"),
    "color": lambda: DSpritesLike(effect="color"),
    "noisy": lambda: DSpritesLike(effect="noisy"),
    "texture": lambda: DSpritesLike(effect="texture"),
    "shapes3d_like": lambda: Shapes3DLike("quick"),
    "faces_like": lambda: FacesLike("quick"),
    "torus_like": lambda: TorusLike(factors=4),
}


@pytest.mark.parametrize("name", SETS)
def test_no_batch_of_a_data_set_is_made_on_the_host(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: contextlib.nullcontext())
    data = SETS[name]().to("meta")
    rows = torch.zeros(100, dtype=torch.int64, device="meta")
    with Recorder() as recorder:
        data.batch(rows)
    assert_stays_on_meta(recorder)


def test_a_capacity_is_the_same_on_the_device() -> None:
    torch.manual_seed(0)
    trainer = make("annealed_vae")
    images = trainer.data.batch(range(8))
    output = trainer.model(images)
    for dtype, step in product((torch.float32, torch.float64), (0, 1, 3, 6, 7, 8, 10_000_000)):
        cast = output._replace(kl=output.kl.to(dtype))
        known = annealed_vae(cast, images, step=step, c_max=17.3, threshold=7)
        there = annealed_vae(cast, images, step=torch.tensor(step), c_max=17.3, threshold=7)
        assert torch.equal(known.terms["capacity_gap"], there.terms["capacity_gap"])
        assert known.terms["capacity_gap"].dtype == there.terms["capacity_gap"].dtype
        assert torch.equal(known.total, there.total)
    assert AnnealedVAE(c_max=3.0, threshold=2).capacity(1) == 1.5


QUICK = ["--model", "beta_vae", "--data", "dsprites_like", "--quick", "--compilation", "graph"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_graph_needs_a_cuda_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_module.main([*QUICK, "--output-dir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "train: compilation 'graph' needs a CUDA device, got cpu\n"
    assert list(tmp_path.iterdir()) == []


def test_what_a_graph_cannot_hold_is_refused() -> None:
    parameter = [torch.nn.Parameter(torch.zeros(1))]
    adam = torch.optim.Adam(parameter, fused=True)
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    refused: list[tuple[tuple[Any, ...], str]] = [
        (([adam], cpu, cpu, None), "a CUDA device, got cpu"),
        (([adam], cuda, cpu, None), r"the data set on the device of the model \(cuda\), got cpu"),
        (([adam, torch.optim.RMSprop(parameter)], cuda, cuda, None), "optimizer 'adam', got 'rmsprop'"),
        (([torch.optim.Adam(parameter)], cuda, cuda, None), "an Adam that is fused"),
        (([adam], cuda, cuda, torch.float16), "precision 'fp32' or 'bf16', got 'fp16'"),
    ]
    for arguments, message in refused:
        with pytest.raises(ValueError, match=f"^train: compilation 'graph' needs {message}"):
            graph.check(*arguments)
    for autocast in (None, torch.bfloat16):
        graph.check([adam], cuda, cuda, autocast)


def test_a_failed_capture_is_one_line_and_gives_the_stream_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """With PyTorch's graphs as they fail: the end of the capture complains, too, and leaves its stream current."""
    current = ["default"]

    class Stream:
        device = torch.device("cuda")

        def __init__(self, device: torch.device) -> None:
            assert device == self.device

    @contextlib.contextmanager
    def capture(recorded: object, stream: Stream) -> Iterator[None]:
        current[0] = "side"
        try:
            yield
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    def work() -> Any:
        raise RuntimeError("operation not permitted when stream is capturing\nCompile with ..")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current[0])
    monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: current.__setitem__(0, stream))
    with pytest.raises(ValueError, match="cannot be captured: operation not permitted when stream is capturing$"):
        graph.CudaGraph(torch.device("cuda")).record(work)
    assert current == ["default"]

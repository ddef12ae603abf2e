"""A stack of trainers takes the steps that they take alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from disentangle_ext.data import ArrayData
from disentangle_ext.engine.descent import Descent, Schedule
from disentangle_ext.engine.meter import Meter, NonFiniteLossError
from disentangle_ext.engine.stack import Stack, _CastLayers
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import build_vae
from disentangle_ext.objectives import (
    DCIGN,
    DIPVAEI,
    DIPVAEII,
    MLVAE,
    OBJECTIVES,
    WAEMMD,
    AdaGVAE,
    AdversarialObjective,
    AnnealedVAE,
    BetaTCVAE,
    BetaVAE,
    FactorVAE,
    InfoVAE,
    Loss,
    Objective,
    PlainAE,
    PlainVAE,
)
from disentangle_ext.runs.checkpoint import last_checkpoint, save_checkpoint

K, N, B, D = 4, 40, 8, 3
FACTORS = list(product(range(2), range(4), range(5)))
GROUPS: dict[str, Any] = {
    "latent_dim": D,
    "factor_names": [f"factor_{k}" for k in range(3)],
    "extrinsic": ("factor_1",),
}
NETWORKS: dict[str, dict[str, int]] = {"conv": {"base_channels": 4}, "burgess": {}, "mlp": {"width": 12}}
SMALL: dict[str, Any] = {"latent_dim": D, "discriminator_layers": 2, "discriminator_width": 16}

# The objective of the k-th run, k = 0, .., K - 1: every hyper-parameter that is a real number differs.
MAKERS: dict[str, Callable[[int], Objective]] = {
    "ada_gvae": lambda k: AdaGVAE(beta=1.0 + k),
    "ae": lambda k: PlainAE(likelihood="laplace", scale=0.5 + k),
    "annealed_vae": lambda k: AnnealedVAE(c_max=5.0 + k, gamma=10.0 * (k + 1), threshold=20),
    "beta_tcvae": lambda k: BetaTCVAE(dataset_size=N, beta=2.0 * k),
    "beta_vae": lambda k: BetaVAE(beta=2 * k, likelihood="gaussian", scale="learned"),
    "dcign": lambda k: DCIGN(**GROUPS, strength=0.01 * (k + 1)),
    "dip_vae_i": lambda k: DIPVAEI(lambda_od=1.0 + k),
    "dip_vae_ii": lambda k: DIPVAEII(lambda_od=1.0 + k, lambda_d=2.0 + k),
    "factor_vae": lambda k: FactorVAE(**SMALL, gamma=10.0 * k, discriminator_lr=1e-3 * (k + 1)),
    "info_vae": lambda k: InfoVAE(alpha=0.2 * k, lambda_mmd=10.0 + k),
    "ml_vae": lambda k: MLVAE(beta=1.0 + k, likelihood="gaussian", scale=0.5 + k),
    "vae": lambda k: PlainVAE(likelihood="gaussian", scale=0.5 + k),
    "wae_mmd": lambda k: WAEMMD(lambda_mmd=5.0 * k, encoding="gaussian"),
}
OTHERS: dict[str, Callable[[int], Objective]] = {
    "beta_tcvae, decomposed": lambda k: BetaTCVAE(
        dataset_size=N, alpha=1.0 + k, beta=2.0 + k, gamma=1.0 - 0.1 * k, kl="decomposed", estimator="mss"
    ),
    "factor_vae of two batches": lambda k: FactorVAE(**SMALL, gamma=10.0 * k, second_batch=True),
}


class Doubles(ArrayData):
    def batch(self, index: Tensor) -> Tensor:
        return super().batch(index).double()


class RecordingMeter(Meter):
    """Keeps the terms as they come: the sums of a meter have fewer digits."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def add(self, step: int, loss: Loss) -> None:
        super().add(step, loss)
        self.rows.append(
            {"loss": float(loss.total.detach()), **{name: float(term.detach()) for name, term in loss.terms.items()}}
        )


def make(
    k: int,
    objective: Callable[[int], Objective],
    *,
    dtype: torch.dtype = torch.float64,
    network: str = "mlp",
    **options: Any,
) -> Trainer:
    """The k-th of some trainers that differ in all that may differ."""
    pixels = torch.randint(256, (N, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(7))
    torch.manual_seed(k)
    model = build_vae(network, (1, 32, 32), D, **(NETWORKS[network]))
    made = objective(k)
    model, made = model.to(dtype), made.to(dtype)
    adversary = None
    if isinstance(made, AdversarialObjective):
        own = torch.optim.Adam(made.adversary_parameters(), betas=made.betas, fused=True)
        adversary = Descent(own, Schedule(made.lr, "cosine", 3, 50))
    parameters = [*model.parameters(), *made.likelihood_parameters()]
    data = (Doubles if dtype == torch.float64 else ArrayData)(pixels, FACTORS)
    settings: dict[str, Any] = {"batch_size": B, "seed": 10 + k, "adversary": adversary, **options}
    return Trainer(
        model,
        made,
        data,
        descent=Descent(
            torch.optim.Adam(parameters, betas=(0.9, 0.99 + 0.001 * k), fused=True),
            Schedule(1e-3 * (k + 1), ("constant", "cosine")[k % 2], 3 * k, 50),
        ),
        **settings,
    )


def state(trainer: Trainer) -> dict[str, Tensor]:
    return trainer.checkpoint().tensors


def both(objective: Callable[[int], Objective], steps: int, **options: Any) -> tuple[list[Trainer], list[Trainer]]:
    """Trainers after some steps in a stack, and others like them after as many alone."""
    stacked, alone = ([make(k, objective, **options) for k in range(K)] for _ in range(2))
    for trainer in (*stacked, *alone):
        trainer.meter = RecordingMeter()
    stack = Stack(stacked)
    for _ in range(steps):
        stack.update()
        for trainer in alone:
            trainer.update()
    return stacked, alone


def assert_alike(stacked: Trainer, alone: Trainer, tolerance: float) -> None:
    assert stacked.step == alone.step
    ours, theirs = state(stacked), state(alone)
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"meter"}:
        torch.testing.assert_close(
            ours[name], theirs[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    for mine, other in zip(stacked.meter.rows, alone.meter.rows, strict=True):
        assert mine == pytest.approx(other, rel=tolerance, abs=tolerance)


def test_every_objective_is_here() -> None:
    assert MAKERS.keys() == OBJECTIVES.keys()


@pytest.mark.parametrize("name", [*MAKERS, *OTHERS])
def test_a_stack_equals_its_members_alone(name: str) -> None:
    steps = 25 if name in ("annealed_vae", "beta_tcvae", "beta_vae", "dcign", "factor_vae") else 8
    for stacked, alone in zip(*both({**MAKERS, **OTHERS}[name], steps), strict=True):
        assert len(stacked.meter.rows) == steps
        assert_alike(stacked, alone, 1e-8)


@pytest.mark.parametrize("network", ["conv", "burgess"])
def test_the_convolutional_networks(network: str) -> None:
    for stacked, alone in zip(*both(MAKERS["factor_vae"], 4, dtype=torch.float32, network=network), strict=True):
        for mine, other in zip(stacked.meter.rows, alone.meter.rows, strict=True):
            assert mine == pytest.approx(other, rel=1e-4, abs=0.02)


def gradient(trainer: Trainer) -> Tensor:
    """Adam's first moments of all parameters, those of the adversary included: after one step, of one gradient."""
    return torch.cat([each.flatten() for name, each in sorted(state(trainer).items()) if name.endswith("exp_avg")])


@pytest.mark.parametrize("network", NETWORKS)
def test_a_gradient_in_bf16_is_that_of_the_run_alone(network: str) -> None:
    options = {"dtype": torch.float32, "network": network, "autocast": torch.bfloat16}
    for stacked, alone in zip(*both(OTHERS["factor_vae of two batches"], 1, **options), strict=True):
        (mine,), (other,) = stacked.meter.rows, alone.meter.rows
        assert mine == pytest.approx(other, rel=2**-6, abs=1e-3)
        assert (gradient(stacked) - gradient(alone)).norm() < 2**-7 * gradient(alone).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "layer", [lambda dtype: nn.Linear(4, 3, dtype=dtype), lambda dtype: nn.Conv1d(2, 3, 2, dtype=dtype)]
)
def test_layers_are_cast_as_autocast_casts_them(dtype: torch.dtype, layer: Callable[[torch.dtype], nn.Module]) -> None:
    module, images = layer(dtype), torch.rand(5, 2, 4, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = module(images)
    with _CastLayers(torch.bfloat16):
        got = module(images)
    assert got.dtype == expected.dtype
    assert torch.equal(got, expected)


class Layers(TorchDispatchMode):
    """Notes what the layers of a model compute with."""

    def __init__(self) -> None:
        super().__init__()
        self.dtypes: dict[str, set[torch.dtype]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("convolution", "convolution_backward", "bmm", "mm", "addmm"):
            floating = {each.dtype for each in args if isinstance(each, Tensor)}
            self.dtypes.setdefault(name, set()).update(floating)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("network", NETWORKS)
def test_every_layer_of_a_stack_computes_in_bf16(network: str) -> None:
    stack = Stack(
        [make(k, MAKERS["factor_vae"], dtype=torch.float32, network=network, autocast=torch.bfloat16) for k in range(2)]
    )
    with Layers() as layers:
        stack.update()
    assert "bmm" in layers.dtypes
    assert ("convolution" in layers.dtypes) == (network != "mlp")
    assert set().union(*layers.dtypes.values()) == {torch.bfloat16}


@pytest.mark.parametrize("name", [*MAKERS, *OTHERS])
def test_every_objective_in_float32(name: str) -> None:
    for stacked, alone in zip(*both({**MAKERS, **OTHERS}[name], 4, dtype=torch.float32), strict=True):
        for mine, other in zip(stacked.meter.rows, alone.meter.rows, strict=True):
            assert mine == pytest.approx(other, rel=1e-4, abs=1e-3)


def test_trainers_of_a_stack_read_save_and_measure_as_alone() -> None:
    stacked, alone = ([make(k, MAKERS["beta_tcvae"]) for k in range(K)] for _ in range(2))
    stack = Stack(stacked)
    for _ in range(3):
        outputs = stack.update()
        others = [trainer.update() for trainer in alone]
    for k in range(K):
        row = stacked[k].read(outputs[k])
        assert row == pytest.approx(alone[k].read(others[k]), rel=1e-6)
        assert "total_correlation" in row
        assert stacked[k].descent.optimizer.param_groups[0]["lr"] == alone[k].descent.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("loaded", ["before they are stacked", "in the stack"])
@pytest.mark.parametrize("name", ["beta_vae", "factor_vae of two batches"])
def test_a_stack_goes_on_from_checkpoints_bit_for_bit(tmp_path: Path, name: str, loaded: str) -> None:
    def trainers() -> list[Trainer]:
        return [make(k, {**MAKERS, **OTHERS}[name], dtype=torch.float32, network="conv") for k in range(K)]

    whole = trainers()
    stack = Stack(whole)
    for step in range(6):
        if step == 3:
            for k, trainer in enumerate(whole):
                save_checkpoint(tmp_path / str(k), trainer.checkpoint())
        stack.update()
    resumed = trainers()
    if loaded == "in the stack":
        stack = Stack(resumed)
    for k, trainer in enumerate(resumed):
        found = last_checkpoint(tmp_path / str(k))
        assert found is not None
        trainer.load(found)
    if loaded == "before they are stacked":  # as a run that goes on does
        stack = Stack(resumed)
    for _ in range(3):
        stack.update()
    for one, other in zip(resumed, whole, strict=True):
        ours, theirs = state(one), state(other)
        assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []


def test_a_smaller_stack_goes_on_with_the_trainers_of_a_larger_one() -> None:
    trainers, alone = ([make(k, MAKERS["beta_vae"]) for k in range(K)] for _ in range(2))
    stack = Stack(trainers)
    for _ in range(3):
        stack.update()
    stack = Stack(trainers[1:])
    for _ in range(3):
        stack.update()
    for _ in range(6):
        alone[2].update()
    assert [trainer.step for trainer in trainers] == [3, 6, 6, 6]
    for name, tensor in state(alone[2]).items():
        torch.testing.assert_close(state(trainers[2])[name], tensor, rtol=1e-6, atol=1e-8)


def test_a_loss_that_is_not_finite_is_that_of_its_run_alone() -> None:
    trainers = [make(k, lambda k: BetaVAE(beta=1e300 if k == 1 else 1.0)) for k in range(3)]
    alone = make(2, lambda k: BetaVAE(beta=1.0))
    stack = Stack(trainers)
    for _ in range(3):
        outputs = stack.update()
        alone.update()
    with pytest.raises(NonFiniteLossError, match="loss is inf at step 0"):
        trainers[1].read(outputs[1])
    assert math.isfinite(trainers[0].read(outputs[0])["loss"])
    for name, tensor in state(alone).items():
        torch.testing.assert_close(state(trainers[2])[name], tensor, rtol=1e-6, atol=1e-8)


def test_global_random_state_has_no_influence() -> None:
    stacks = []
    for seed in (1, 2):
        stacks.append([make(k, MAKERS["factor_vae"]) for k in range(2)])
        stack = Stack(stacks[-1])
        torch.manual_seed(seed)
        stack.update()
        stack.update()
    for one, other in zip(*stacks, strict=True):
        assert [key for key, tensor in state(one).items() if not torch.equal(tensor, state(other)[key])] == []


class Normalised(nn.Module):
    """An encoder with buffers that change from step to step."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.norm = nn.BatchNorm2d(1)

    def forward(self, images: Tensor) -> Tensor:
        posterior: Tensor = self.encoder(self.norm(images))
        return posterior


def test_buffers_are_those_of_each_run() -> None:
    def trainers() -> list[Trainer]:
        made = [make(k, MAKERS["beta_vae"]) for k in range(2)]
        for trainer in made:
            trainer.model.encoder = Normalised(trainer.model.encoder).double()
        return made

    stacked, alone = trainers(), trainers()
    stack = Stack(stacked)
    for _ in range(3):
        stack.update()
        for trainer in alone:
            trainer.update()
    for one, other in zip(stacked, alone, strict=True):
        assert "model.encoder.norm.running_mean" in state(one)
        for name, tensor in state(other).items():
            torch.testing.assert_close(state(one)[name], tensor, rtol=1e-6, atol=1e-8, msg=name)


def changed(k: int, **settings: Any) -> Trainer:
    return make(k, lambda _: BetaVAE(), **(settings if k else {}))


DIFFERENT: dict[str, tuple[Callable[[int], Trainer], str]] = {
    "objective": (lambda k: make(k, (MAKERS["vae"], MAKERS["info_vae"])[k]), "objective .* PlainVAE, InfoVAE"),
    "a name": (
        lambda k: make(k, lambda k: BetaTCVAE(dataset_size=N, estimator=("mws", "mss")[k])),
        "estimator .* mws, mss",
    ),
    "a count": (lambda k: make(k, lambda k: AnnealedVAE(threshold=10 + k)), "threshold .* 10, 11"),
    "a likelihood": (
        lambda k: make(k, lambda k: PlainVAE(likelihood=("bernoulli", "laplace")[k])),
        "likelihood .* bernoulli, laplace",
    ),
    "a switch": (lambda k: make(k, lambda k: FactorVAE(**SMALL, second_batch=bool(k))), "second_batch .* False, True"),
    "a number or not": (lambda k: make(k, lambda k: DIPVAEI(lambda_d=(None, 1.0)[k])), "lambda_d .* None, 1.0"),
    "weights": (lambda k: changed(k, network="conv"), r"model.encoder.\S+ must be the same in every run"),
    "dtype": (lambda k: changed(k, dtype=torch.float32), r"model.encoder.\S+ .*float64, .*float32"),
    "batch size": (lambda k: changed(k, batch_size=4), "batch_size .* 8, 4"),
    "precision": (lambda k: changed(k, autocast=torch.bfloat16), "autocast .* None, torch.bfloat16"),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_what_must_be_the_same_is_named(what: str) -> None:
    maker, message = DIFFERENT[what]
    with pytest.raises(ValueError, match=f"Stack: {message}"):
        Stack([maker(k) for k in range(2)])


def test_trainers_after_different_numbers_of_updates_are_refused() -> None:
    trainers: Sequence[Trainer] = [changed(0), changed(0)]
    trainers[1].update()
    with pytest.raises(ValueError, match="Stack: step must be the same in every run, got 0, 1"):
        Stack(trainers)
    with pytest.raises(ValueError, match="Stack: trainers must be at least one"):
        Stack([])

"""The trainer in float64 on every process of a group, beside the same steps on one."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext.data import ArrayData
from disentangle_ext.engine.descent import Descent
from disentangle_ext.engine.device import choose_device
from disentangle_ext.engine.meter import NonFiniteLossError
from disentangle_ext.engine.ranks import Ranks
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import build_vae
from disentangle_ext.objectives import OBJECTIVES, AdversarialObjective, Objective
from tests.ops import ranks as parallel

FACTORS = list(product(range(2), range(4), range(5)))


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ada_gvae": ("ada_gvae", {"changes": "random"}),
    "annealed_vae": ("annealed_vae", {"c_max": 5.0, "threshold": 3}),
    "beta_tcvae, mss": ("beta_tcvae", {"dataset_size": 40, "estimator": "mss", "kl": "decomposed"}),
    "beta_tcvae, mws": ("beta_tcvae", {"dataset_size": 40, "likelihood": "gaussian", "scale": "learned"}),
    "dcign": ("dcign", {"latent_dim": 3, "factor_names": ["factor_0", "factor_1", "factor_2"]}),
    "dip_vae_i": ("dip_vae_i", {}),
    "dip_vae_ii": ("dip_vae_ii", {}),
    "factor_vae": ("factor_vae", {"latent_dim": 3, "discriminator_layers": 2, "discriminator_width": 16}),
    "factor_vae, two batches": (
        "factor_vae",
        {"latent_dim": 3, "discriminator_layers": 2, "discriminator_width": 16, "second_batch": True},
    ),
    "info_vae": ("info_vae", {}),
    "ml_vae": ("ml_vae", {}),
    "wae_mmd": ("wae_mmd", {}),
}


class DoubleData(ArrayData):
    """Images in float64, of which one can be broken."""

    broken: int | None = None

    def batch(self, index: Tensor) -> Tensor:
        images = super().batch(index).double()
        if self.broken is not None:
            images[index == self.broken] = torch.inf
        return images


def make(case: str, group: ProcessGroup | None = None, *, batch_size: int = 8) -> Trainer:
    torch.manual_seed(3)
    model = build_vae("conv", (1, 32, 32), 3, base_channels=2).double()
    name, options = CASES[case]
    objective: Objective = OBJECTIVES[name](**options).double()
    data = DoubleData(torch.randint(256, (40, 1, 32, 32), dtype=torch.uint8), FACTORS)
    adversary = None
    if isinstance(objective, AdversarialObjective):
        adversary = Descent(torch.optim.Adam(objective.adversary_parameters(), 1e-3), lambda step: 1e-3)
    return Trainer(
        model,
        objective,
        data,
        descent=Descent(torch.optim.Adam([*model.parameters(), *objective.likelihood_parameters()]), lambda step: 1e-3),
        adversary=adversary,
        batch_size=batch_size,
        seed=1,
        process_group=group,
    )


def advance(trainer: Trainer, steps: int) -> dict[str, float]:
    for _ in range(steps):
        output = trainer.update()
    return trainer.read(output)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    own = {f"objective.{name}": weight for name, weight in trainer.objective.state_dict().items()}
    return {**trainer.model.state_dict(), **own}


def assert_same(ours: Trainer, theirs: Trainer, tolerance: float = 1e-9) -> None:
    assert ours.step == theirs.step
    for (name, own), other in zip(weights(ours).items(), weights(theirs).values(), strict=True):
        torch.testing.assert_close(own, other, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}")


def as_one_process(case: str, group: ProcessGroup) -> None:
    """Three steps, a checkpoint that one process goes on from for two, and its checkpoint for the group again."""
    alone, together = make(case), make(case, group)
    before = {name: weight.clone() for name, weight in weights(alone).items()}
    expected = advance(alone, 3)
    assert min((weight - before[name]).abs().max() for name, weight in weights(alone).items()) > 1e-4, "nothing moves"
    # Terms are added up in float32.
    assert advance(together, 3) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert_same(together, alone)

    alone.update()
    together.update()
    saved, reference = together.checkpoint(), alone.checkpoint()
    assert saved.state == reference.state
    assert saved.tensors.keys() == reference.tensors.keys()
    for name, tensor in reference.tensors.items():
        torch.testing.assert_close(saved.tensors[name], tensor, rtol=1e-6, atol=1e-9)

    resumed = make(case)
    resumed.load(saved)
    expected = advance(alone, 2)
    assert advance(resumed, 2) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    again = make(case, group)
    again.load(resumed.checkpoint())
    alone.update()
    again.update()
    assert_same(again, alone)


class OneProcess(NamedTuple):
    """A check that can be sent to a process."""

    case: str

    def __call__(self, group: ProcessGroup) -> None:
        as_one_process(self.case, group)


def a_loss_that_is_not_finite_on_one_process(group: ProcessGroup) -> None:
    """Every process raises what one process would: of the step, the term and its value."""
    seen = []
    for trainer in (make("info_vae"), make("info_vae", group)):
        trainer.data.broken = int(trainer.order.index(2)[-1])  # type: ignore[attr-defined]
        with pytest.raises(NonFiniteLossError) as raised:
            advance(trainer, 5)
        seen.append((raised.value.step, raised.value.term, str(raised.value)))
    assert seen[0] == seen[1]
    assert seen[0][0] <= 2


def unequal_shares(group: ProcessGroup) -> None:
    world = dist.get_world_size(group)
    with pytest.raises(ValueError, match=f"^BetaTCVAE: batch_size must be divisible by {world} processes, got 7$"):
        make("beta_tcvae, mws", group, batch_size=7)
    expected = f"^AdaGVAE: batch_size must be divisible by {2 * world}: {world} processes, and pairs of images, got 6$"
    with pytest.raises(ValueError, match=expected):
        make("ada_gvae", group, batch_size=6)


CHECKS: dict[str, parallel.Check] = {
    **{case: OneProcess(case) for case in CASES},
    "not finite": a_loss_that_is_not_finite_on_one_process,
    "unequal shares": unequal_shares,
}


@pytest.fixture(scope="module", params=parallel.WORLDS)
def outcome(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return parallel.run(CHECKS, request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.forks
@pytest.mark.parametrize("name", CHECKS)
def test_the_trainer_on_several_processes(name: str, outcome: dict[str, str]) -> None:
    assert not outcome[name], outcome[name]


def test_shards_are_contiguous_rows_of_each_half() -> None:
    ranks = Ranks()
    assert ranks.shard(torch.arange(8), 2).tolist() == list(range(8))
    ranks.group, ranks.world, ranks.rank = dist.GroupMember.WORLD or object(), 2, 1  # type: ignore[assignment]
    assert ranks.shard(torch.arange(8)).tolist() == [4, 5, 6, 7]
    assert ranks.shard(torch.arange(8), 2).tolist() == [2, 3, 6, 7]


def test_every_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", 1) == torch.device("cuda", 1)
    with pytest.raises(ValueError, match="there are 2 GPUs"):
        choose_device("cuda", 2)
    with pytest.raises(ValueError, match="each of several processes has a GPU of its own"):
        choose_device("cuda:1", 0)

"""Objectives on ranks that share a batch train as one process does with the whole of it."""

from __future__ import annotations

import copy
import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.parallel import DistributedDataParallel

from disentangle_ext import objectives
from disentangle_ext.models import VAE, Discriminator, VAEOutput, build_vae
from disentangle_ext.objectives import OBJECTIVES, AdversarialObjective, GroupObjective, Objective, PairObjective
from disentangle_ext.ops import _collectives
from tests.ops import ranks
from tests.ops.ranks import assert_as_one_process, mean_over_ranks, near, own

B, D, SHAPE = 16, 3, (1, 4, 5)
KEY, OWN_KEY = torch.tensor([1, 2]), torch.tensor([3, 4])
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "annealed_vae": [{"c_max": 0.001, "threshold": 1}, {"c_max": 100.0, "threshold": 1}],
    "beta_tcvae": [
        {"dataset_size": 50, "likelihood": "gaussian", "scale": "learned"},
        {"dataset_size": 50, "kl": "decomposed", "alpha": 2.0, "estimator": "mss"},
        {"dataset_size": 50, "estimator": "mss_legacy"},
    ],
    "dcign": [{"latent_dim": D, "factor_names": ["a", "b", "c"], "reference": name} for name in ("mean", "first")],
    "factor_vae": [{"latent_dim": D, "discriminator_layers": 2, "discriminator_width": 7}],
    "info_vae": [{"convention": name, "alpha": 0.5} for name in ("infovae", "wae", "wae_rbf")],
    "wae_mmd": [{}, {"encoding": "gaussian"}],
}
"""Where the defaults are not all there is to try."""

CHECKS: dict[str, ranks.Check] = {}


def check(function: ranks.Check) -> ranks.Check:
    CHECKS[function.__name__] = function
    return function


def small_vae() -> VAE:
    torch.manual_seed(5)
    return build_vae("mlp", SHAPE, D, width=6).double()


def make(name: str, options: dict[str, Any]) -> Objective:
    torch.manual_seed(6)
    return OBJECTIVES[name](**options).double()


def shard(images: Tensor, objective: Objective, group: ProcessGroup) -> Tensor:
    """The rank's images: of both halves of a batch of pairs."""
    if not isinstance(objective, PairObjective):
        return own(images, group, 0)
    return torch.cat([own(half, group, 0) for half in images.chunk(2)])


def step(objective: Objective, model: VAE, images: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Terms and measurements, and the gradients of all that is trained with the model."""
    active = torch.tensor(1) if isinstance(objective, GroupObjective) else None
    output, loss = objective.evaluate(model, images, step=1, key=KEY, own_key=OWN_KEY, group=active)
    gradients = torch.autograd.grad(loss.total, trained(objective, model), allow_unused=True)
    values = {"total": loss.total, **loss.terms, **objective.measure(output)}
    return values, [torch.zeros(()) if g is None else g for g in gradients]


def trained(objective: Objective, model: VAE) -> list[nn.Parameter]:
    return [*model.parameters(), *objective.likelihood_parameters()]


def compare(objective: Objective, model: VAE, group: ProcessGroup) -> None:
    images = torch.rand(B, *SHAPE, dtype=torch.float64)
    expected, expected_gradients = step(objective, model, images)
    objective.process_group = group
    values, gradients = step(objective, model, shard(images, objective, group))
    assert values.keys() == expected.keys()
    for name, value in values.items():
        torch.testing.assert_close(mean_over_ranks(value, group), expected[name].detach(), rtol=1e-9, atol=1e-12)
    assert any(g.abs().max() > 0 for g in expected_gradients)
    for ours, theirs in zip(gradients, expected_gradients):
        torch.testing.assert_close(mean_over_ranks(ours, group), theirs, rtol=1e-9, atol=1e-12)


def an_objective(group: ProcessGroup, name: str) -> None:
    for options in OPTIONS.get(name, [{}]):
        compare(make(name, options), small_vae(), group)


CHECKS.update({name: partial(an_objective, name=name) for name in OBJECTIVES})


@check
def a_gather_that_keeps_its_own_gradient_alone_is_found(group: ProcessGroup) -> None:
    def own_slot_alone(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[dist.get_rank(group)].clone(), None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_collectives._Gather, "backward", staticmethod(own_slot_alone))
        for name in ("annealed_vae", "beta_tcvae", "dip_vae_i", "dip_vae_ii", "info_vae", "wae_mmd"):
            for options in OPTIONS.get(name, [{}]):
                with pytest.raises(AssertionError, match="not close"):
                    compare(make(name, options), small_vae(), group)


@check
def a_capacity_between_the_divergences_of_two_ranks(group: ProcessGroup) -> None:
    """The sign of the gradient is that of the whole batch, not of each shard."""
    kl = torch.arange(1.0, B + 1, dtype=torch.float64)[:, None]
    capacity = kl.mean().item() + 0.1

    def loss(kl: Tensor, process_group: ProcessGroup | None) -> Tensor:
        images = torch.zeros(len(kl), *SHAPE, dtype=torch.float64)
        output = VAEOutput(images, kl, kl, kl, kl[:, 0])
        options: dict[str, Any] = {"step": 1, "threshold": 1, "c_max": capacity, "gamma": 3.0}
        return objectives.annealed_vae(output, images, **options, process_group=process_group).total

    assert_as_one_process(loss, [kl], group)


@check
def discriminators(group: ProcessGroup) -> None:
    for second_batch in (False, True):
        objective = make("factor_vae", {**OPTIONS["factor_vae"][0], "second_batch": second_batch})
        assert isinstance(objective, AdversarialObjective)
        codes = torch.randn(B, D, dtype=torch.float64)
        others = torch.randn(B, D, dtype=torch.float64) if second_batch else codes
        expected = objective.adversary(codes, others, key=KEY)
        objective.process_group = group
        loss = objective.adversary(own(codes, group), own(others, group), key=KEY)
        near(mean_over_ranks(loss, group), expected.detach())
        parameters = objective.adversary_parameters()
        for ours, theirs in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters)):
            near(mean_over_ranks(ours, group), theirs)


@check
def noise_of_a_model(group: ProcessGroup) -> None:
    model, images = small_vae(), torch.rand(B, *SHAPE, dtype=torch.float64)
    output = model(own(images, group, 0), key=KEY, process_group=group)
    for ours, theirs in zip(output, model(images, key=KEY)):
        near(ours, own(theirs, group, 0))


@check
def a_batch_of_one_a_rank(group: ProcessGroup) -> None:
    model, objective = small_vae(), make("beta_tcvae", {"dataset_size": 50})
    world = dist.get_world_size(group)
    images = torch.rand(world, *SHAPE, dtype=torch.float64)
    expected = objective(model(images, key=KEY), images).total
    objective.process_group = group
    mine = own(images, group, 0)
    near(mean_over_ranks(objective(model(mine, key=KEY, process_group=group), mine).total, group), expected.detach())
    with pytest.raises(ValueError, match="beta_tcvae: output must be of at least 2 images, got 1"):
        objectives.beta_tcvae(model(mine), mine, dataset_size=50)


@check
def copies_and_pickles(group: ProcessGroup) -> None:
    """A copy in the same process trains on the same ranks; what is read by another process has none."""
    objective = make("factor_vae", OPTIONS["factor_vae"][0])
    objective.process_group = group
    holder = copy.deepcopy(nn.ModuleList([objective]))
    duplicate = holder[0]
    assert isinstance(duplicate, objectives.FactorVAE)
    assert duplicate.process_group is group
    assert duplicate.discriminator is not objective.discriminator
    read = pickle.loads(pickle.dumps(objective))
    assert read.process_group is None
    for other in (duplicate, read):
        assert other.gamma == objective.gamma
        for ours, theirs in zip(other.parameters(), objective.parameters(), strict=True):
            assert torch.equal(ours, theirs)


@check
def unequal_shards_are_refused_on_every_rank(group: ProcessGroup) -> None:
    rows = 4 + (dist.get_rank(group) == 0)
    rowwise = torch.randn(rows, D)
    output = VAEOutput(torch.zeros(rows, *SHAPE), rowwise, rowwise, rowwise, rowwise[:, 0])
    images = torch.zeros(rows, *SHAPE)
    way: dict[str, Any] = {"process_group": group}
    calls = {
        "annealed_vae: kl": lambda: objectives.annealed_vae(output, images, step=0, **way),
        "clamp_codes: z": lambda: objectives.clamp_codes(rowwise, rowwise[0] > 0, **way),
        "dip_penalty: mu": lambda: objectives.dip_vae(output, images, kind="i", **way),
        "elbo_decomposition: z": lambda: objectives.beta_tcvae(output, images, dataset_size=50, **way),
        "permute_dims: z": lambda: objectives.discriminator_loss(
            rowwise, rowwise, discriminator=Discriminator(D, layers=1, width=2), key=KEY, **way
        ),
        "rsample_kl: mu": lambda: objectives.info_vae(output, images, key=KEY, **way),
    }
    for argument, call in calls.items():
        with pytest.raises(ValueError, match=f"{argument} must be the same on every rank of process_group, got .5, "):
            call()


@check
def distributed_data_parallel(group: ProcessGroup) -> None:
    """Several updates, with so small buckets that their reductions run between the collectives of the loss."""
    images = torch.rand(3, B, *SHAPE, dtype=torch.float64)
    alone = small_vae()
    wrapped = DistributedDataParallel(small_vae(), process_group=group, bucket_cap_mb=1e-4)
    for model, mine, way in ((alone, images, {}), (wrapped, own(images, group, 1), {"process_group": group})):
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        for place, batch in enumerate(mine):
            output = model(batch, key=torch.tensor([7, place]), **way)
            optimizer.zero_grad()
            objectives.beta_tcvae(output, batch, dataset_size=50, **way).total.backward()
            optimizer.step()
    for ours, theirs in zip(wrapped.module.parameters(), alone.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        near(ours.grad, theirs.grad)
        near(ours.detach(), theirs.detach())


@check
def the_documented_loop_runs(group: ProcessGroup) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data_parallel.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("init_process_group", "destroy_process_group"):
            patch.setattr(dist, name, lambda *_: None)
        exec(example.replace("1000, 128", "2, 8"), names := {"__name__": "example"})
    sums = [torch.empty(()) for _ in range(dist.get_world_size(group))]
    weights = torch.cat([p.detach().flatten() for p in names["model"].parameters()])
    dist.all_gather(sums, weights.sum(), group=group)
    assert len(set(map(float, sums))) == 1
    assert names["loss"].total.isfinite()


@check
def compiled_without_a_break(group: ProcessGroup) -> None:
    if dist.get_world_size(group) > 2:
        return  # the number of ranks is a constant like any other
    model, objective = small_vae(), make("beta_tcvae", {"dataset_size": 50})
    objective.process_group = group
    images = own(torch.rand(B, *SHAPE, dtype=torch.float64), group, 0)

    def evaluate(images: Tensor, key: Tensor) -> Tensor:
        return objective.evaluate(model, images, key=key)[1].total

    expected = torch.autograd.grad(evaluate(images, KEY), list(model.parameters()))
    compiled = torch.compile(evaluate, backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(torch.autograd.grad(compiled(images, KEY), list(model.parameters())), expected):
        near(ours, theirs)


@pytest.mark.forks
@pytest.mark.parametrize("world", ranks.WORLDS)
def test_on_ranks(world: int, tmp_path: Path) -> None:
    """One group makes every check: its start takes longer than all of them."""
    wrong = {name: told for name, told in ranks.run(CHECKS, world, tmp_path).items() if told}
    assert not wrong, f"{', '.join(wrong)}\n" + "\n".join(wrong.values())

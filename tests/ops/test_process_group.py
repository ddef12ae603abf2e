"""Ops on ranks that share a batch do what one process does with the whole of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext import ops
from disentangle_ext.ops import _collectives
from tests.ops import ranks
from tests.ops.ranks import assert_as_one_process, near, own

B, D, STACK = 16, 5, 3
KEY = torch.tensor([11, 12])
CHECKS: dict[str, ranks.Check] = {}


def check(function: ranks.Check) -> ranks.Check:
    CHECKS[function.__name__] = function
    return function


def normals(count: int, *leading: int, rows: int = B) -> list[Tensor]:
    return [torch.randn(*leading, rows, D, dtype=torch.float64) * 0.7 for _ in range(count)]


def total_correlation(*posterior: Tensor, estimator: str, process_group: ProcessGroup | None) -> Tensor:
    return ops.total_correlation(*posterior, dataset_size=1000, estimator=estimator, process_group=process_group)


@check
def total_correlations(group: ProcessGroup) -> None:
    for estimator in ("mss", "mws", "mss_legacy", "uniform"):
        assert_as_one_process(partial(total_correlation, estimator=estimator), normals(3), group)


@check
def all_fields_of_a_stack(group: ProcessGroup) -> None:
    whole = normals(3, STACK)
    shards = [own(t, group) for t in whole]
    options = {"dataset_size": 1000, "reduction": "none"}
    ours = ops.elbo_decomposition(*shards, **options, process_group=group)
    for mine, every in zip(ours, ops.elbo_decomposition(*whole, **options)):
        near(mine, own(every, group, -1))

    def total(*posterior: Tensor, process_group: ProcessGroup | None) -> Tensor:
        parts = ops.elbo_decomposition(*posterior, dataset_size=1000, process_group=process_group)
        return sum((i + 1.5) * field.mean() for i, field in enumerate(parts))

    assert_as_one_process(total, whole, group)


@check
def given_components_and_offset(group: ProcessGroup) -> None:
    mu, logvar = normals(2)
    first = 1
    queries = torch.randn_like(mu)
    mine = own(queries, group)[:-first]  # query i is the component first + i of the rank
    ours = ops.elbo_decomposition(
        *(mine, mine, mine),
        dataset_size=99,
        components=(own(mu, group), own(logvar, group)),
        offset=first,
        reduction="none",
        process_group=group,
    )
    place = dist.get_rank(group) * (B // dist.get_world_size(group))
    theirs = ops.elbo_decomposition(
        *(mine, mine, mine), dataset_size=99, components=(mu, logvar), offset=place + first, reduction="none"
    )
    near(ours.log_qz, theirs.log_qz)
    near(ours.log_prod_qz, theirs.log_prod_qz)


@check
def aggregate_posteriors(group: ProcessGroup) -> None:
    def stratified(z: Tensor, mu: Tensor, logvar: Tensor, process_group: ProcessGroup | None) -> Tensor:
        settings = {"estimator": "mss", "dataset_size": 77, "process_group": process_group}
        joint, marginals = ops.aggregate_posterior(z, mu, logvar, **settings)
        return joint.mean() + marginals.square().mean()

    def weighted(z: Tensor, mu: Tensor, logvar: Tensor, weight: Tensor, process_group: ProcessGroup | None) -> Tensor:
        settings = {"log_weight": weight[..., 0], "process_group": process_group}
        joint, marginals = ops.aggregate_posterior(z, mu, logvar, **settings)
        return joint.mean() + marginals.square().mean()

    assert_as_one_process(stratified, normals(3), group)
    assert_as_one_process(weighted, normals(4), group)
    assert_as_one_process(weighted, normals(4, STACK), group)


@check
def discrepancies(group: ProcessGroup) -> None:
    ways = [{"convention": name} for name in ("infovae", "wae", "wae_rbf")]
    ways += [{"estimator": name} for name in ("unbiased", "biased", "linear")]
    ways += [{"kernel": "energy"}, {"bandwidth": "median"}]
    for way in ways:
        assert_as_one_process(partial(ops.mmd, **way), normals(2), group)
    x, y = normals(1) + normals(1, rows=2 * B)
    assert_as_one_process(ops.mmd, [x, y], group)
    assert_as_one_process(lambda x, y, **way: ops.mmd(x, y, **way).sum(), normals(2, STACK), group)


@check
def permutations_bit_for_bit(group: ProcessGroup) -> None:
    keys = torch.tensor([[1, 2], [3, 4], [5, 6]])
    for (z,), key in ((normals(1), KEY), (normals(1, STACK), KEY), (normals(1, STACK), keys)):
        ours = ops.permute_dims(own(z, group).clone(), key=key, process_group=group)
        assert torch.equal(ours, own(ops.permute_dims(z, key=key), group))
    whole = torch.arange(B * D).reshape(B, D)
    for dtype in (torch.int64, torch.float16):
        mine = ops.permute_dims(own(whole, group).to(dtype), key=KEY, process_group=group)
        assert torch.equal(mine, own(ops.permute_dims(whole.to(dtype), key=KEY), group))


@check
def gradients_move_back_to_their_ranks(group: ProcessGroup) -> None:
    z, weight = normals(2)
    whole = z.clone().requires_grad_()
    (expected,) = torch.autograd.grad((ops.permute_dims(whole, key=KEY) * weight).sum(), whole)
    shard = own(z, group).clone().requires_grad_()
    permuted = ops.permute_dims(shard, key=KEY, process_group=group)
    (gradient,) = torch.autograd.grad((permuted * own(weight, group)).sum(), shard)
    assert torch.equal(gradient, own(expected, group))


@check
def noise_bit_for_bit(group: ProcessGroup) -> None:
    keys = torch.tensor([[1, 2], [3, 4], [5, 6]])
    for leading, key in (((), KEY), ((STACK,), KEY), ((STACK,), keys), ((2, STACK), KEY)):
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            for per_dimension in (False, True):
                _draw_as_one_process(group, [t.to(dtype) for t in normals(2, *leading)], key, per_dimension)


def _draw_as_one_process(group: ProcessGroup, posterior: list[Tensor], key: Tensor, per_dimension: bool) -> None:
    whole = [t.clone().requires_grad_() for t in posterior]
    shards = [own(t, group).clone().requires_grad_() for t in posterior]
    ours = ops.rsample_kl(*shards, per_dimension=per_dimension, key=key, process_group=group)
    theirs = ops.rsample_kl(*whole, per_dimension=per_dimension, key=key)
    for mine, every, dim in zip(ours, theirs, (-2, -2 if per_dimension else -1)):
        assert torch.equal(mine, own(every, group, dim))
    gradients = torch.autograd.grad(sum(t.square().sum() for t in ours), shards)
    for mine, every in zip(gradients, torch.autograd.grad(sum(t.square().sum() for t in theirs), whole)):
        assert torch.equal(mine, own(every, group))


@check
def half_precision(group: ProcessGroup) -> None:
    whole = [t.bfloat16().requires_grad_() for t in normals(3)]
    shards = [own(t, group).detach().clone().requires_grad_() for t in whole]
    ours = total_correlation(*shards, estimator="mws", process_group=group)
    theirs = total_correlation(*whole, estimator="mws", process_group=None)
    near(ranks.mean_over_ranks(ours, group), theirs.detach(), 1e-5)
    for mine, every in zip(torch.autograd.grad(ours, shards), torch.autograd.grad(theirs, whole)):
        assert mine.dtype == torch.bfloat16
        near(mine / dist.get_world_size(group), own(every, group), 2**-7)


@check
def a_gather_that_keeps_its_own_gradient_alone_is_found(group: ProcessGroup) -> None:
    def own_slot_alone(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[dist.get_rank(group)].clone(), None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_collectives._Gather, "backward", staticmethod(own_slot_alone))
        for loss, tensors in ((partial(total_correlation, estimator="mss"), 3), (ops.mmd, 2)):
            with pytest.raises(AssertionError, match="relative error"):
                assert_as_one_process(loss, normals(tensors), group)


@check
def a_transform_of_torch_func(group: ProcessGroup) -> None:
    z, mu, logvar = (own(t, group) for t in normals(3))
    leaf = mu.clone().requires_grad_()
    (expected,) = torch.autograd.grad(total_correlation(z, leaf, logvar, estimator="mss", process_group=group), leaf)
    transformed = torch.func.grad(lambda m: total_correlation(z, m, logvar, estimator="mss", process_group=group))(mu)
    near(transformed, expected, 1e-12)


def _rows(group: ProcessGroup, rows: int = 4) -> Tensor:
    """One row more on the last rank."""
    return torch.randn(rows + (dist.get_rank(group) == dist.get_world_size(group) - 1), D)


@check
def unequal_shards_are_refused_on_every_rank(group: ProcessGroup) -> None:
    last = dist.get_world_size(group) - 1
    shapes = rf"\(4, {D}\) float32 on rank 0.*; \(5, {D}\) float32 on rank {last}"
    z, even = _rows(group), torch.randn(4, D)
    calls: dict[str, Callable[[], object]] = {
        "total_correlation: z": lambda: total_correlation(z, z, z, estimator="mws", process_group=group),
        "total_correlation: logvar": lambda: total_correlation(even, even, z, estimator="mws", process_group=group),
        "aggregate_posterior: mu": lambda: ops.aggregate_posterior(even, z, z, process_group=group),
        "mmd: y": lambda: ops.mmd(even, z, process_group=group),
        "permute_dims: z": lambda: ops.permute_dims(z, key=KEY, process_group=group),
        "rsample_kl: mu": lambda: ops.rsample_kl(z, z, key=KEY, process_group=group),
    }
    for argument, call in calls.items():
        with pytest.raises(
            ValueError, match=f"{argument} must be the same on every rank of process_group, got {shapes}"
        ):
            call()
    near(ops.mmd(even, even + 1, process_group=group), ops.mmd(even, even + 1, process_group=group))  # still in step


@check
def ranks_that_differ_are_refused_on_every_rank(group: ProcessGroup) -> None:
    rank = dist.get_rank(group)
    z = torch.randn(4, D)
    with_gradient = z.clone().requires_grad_(rank == 0)
    double = z if rank else z.double()
    kernel, key, some_key = "rbf" if rank else "imq", torch.tensor([1, rank]), KEY if rank else None
    way = {"process_group": group}
    calls: dict[str, Callable[[], object]] = {
        "mmd: x must .* float64 on rank 0": lambda: ops.mmd(double, double, **way),
        "mmd: x must .* float32 with gradient on rank 0": lambda: ops.mmd(with_gradient, z, **way),
        "mmd: kernel must .* 'imq' on rank 0; 'rbf' on rank 1": lambda: ops.mmd(z, z, kernel=kernel, **way),
        "elbo_decomposition: dataset_size must .* got 100 on rank 0; 101 on rank 1": lambda: ops.elbo_decomposition(
            z, z, z, dataset_size=min(100 + rank, 101), **way
        ),
        r"permute_dims: key must .* got \[1, 0\] on rank 0; \[1, 1\] on": lambda: ops.permute_dims(z, key=key, **way),
        "rsample_kl: key must .* got None on rank 0": lambda: ops.rsample_kl(z, z, key=some_key, **way),
        ": op must .* got 'mmd' on rank 0; 'permute_dims' on rank 1": lambda: (
            ops.permute_dims(z, key=KEY, **way) if rank else ops.mmd(z, z, **way)
        ),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=message):
            call()


@check
def noise_without_a_key_is_refused(group: ProcessGroup) -> None:
    z = torch.randn(4, D)
    for call in (lambda: ops.permute_dims(z, process_group=group), lambda: ops.rsample_kl(z, z, process_group=group)):
        with pytest.raises(
            ValueError, match="key must be given with a process_group, the same on every rank, got None"
        ):
            call()


@check
def bad_input_is_refused_as_without_a_group(group: ProcessGroup) -> None:
    z = torch.randn(4, D)
    with pytest.raises(ValueError, match="elbo_decomposition: dataset_size must be at least the number of components"):
        ops.elbo_decomposition(z, z, z, dataset_size=5, process_group=group)
    with pytest.raises(TypeError, match="elbo_decomposition: offset must be an int, got float"):
        ops.elbo_decomposition(z, z, z, dataset_size=500, offset=0.5, process_group=group)
    with pytest.raises(ValueError, match="elbo_decomposition: logvar must have the shape of mu"):
        ops.elbo_decomposition(z, z, z[:3], dataset_size=500, process_group=group)
    with pytest.raises(TypeError, match="mmd: x must be a Tensor, got int"):
        ops.mmd(3, z, process_group=group)
    with pytest.raises(ValueError, match="rsample_kl: mu must have the shape"):
        ops.rsample_kl(z[0], z[0], key=KEY, process_group=group)
    with pytest.raises(TypeError, match="mmd: process_group must be a ProcessGroup that this rank belongs to, got str"):
        ops.mmd(z, z, process_group="gloo")


@check
def groups_of_some_ranks(group: ProcessGroup) -> None:
    """A rank's place is that in the group, a group of one is none, and a rank has no part in the groups of others."""
    world, rank = dist.get_world_size(group), dist.get_rank(group)
    alone = [dist.new_group([each]) for each in range(world)]
    last = dist.new_group([world - 1, world - 2][::-1])
    z = torch.randn(4, D)
    assert torch.equal(ops.mmd(z, z + 1, process_group=alone[rank]), ops.mmd(z, z + 1))
    torch.manual_seed(1)
    drawn = ops.rsample_kl(z, z, process_group=alone[rank])[0]
    torch.manual_seed(1)
    assert torch.equal(drawn, ops.rsample_kl(z, z)[0])
    with pytest.raises(TypeError, match="must be a ProcessGroup that this rank belongs to, got that of other ranks"):
        ops.mmd(z, z, process_group=alone[rank - 1])
    if rank >= world - 2:
        assert_as_one_process(partial(total_correlation, estimator="mss"), normals(3), last)


@pytest.mark.forks
@pytest.mark.parametrize("world", ranks.WORLDS)
def test_on_ranks(world: int, tmp_path: Path) -> None:
    """One group makes every check: its start takes longer than all of them."""
    wrong = {name: told for name, told in ranks.run(CHECKS, world, tmp_path).items() if told}
    assert not wrong, f"{', '.join(wrong)}\n" + "\n".join(wrong.values())


def test_no_group_stays_on_the_short_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a group nothing of this is touched."""
    for name in ("parallel", "agree", "gather"):
        monkeypatch.setattr(_collectives, name, None)
    z = torch.randn(4, D)
    ops.elbo_decomposition(z, z, z, dataset_size=100)
    ops.aggregate_posterior(z, z, z)
    ops.mmd(z, z)
    ops.permute_dims(z)
    ops.rsample_kl(z, z)

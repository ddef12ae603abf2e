"""permute_dims: permutations, uniform and independent; values moved and never changed; the exact inverse backward."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.ops import reference
from tests.ops.cases import FORMATS, NANS, NASTY, SOME, Shape, dtypes, key, layouts, normal, shapes

ALL_DTYPES = (
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.complex128,
    torch.bool,
    torch.uint8,
    torch.int16,
    torch.int32,
    torch.int64,
)


def rows(*size: int, device="cpu") -> Tensor:
    """Every element is the number of its row, so that the output is the permutation itself."""
    return torch.arange(size[-2], device=device)[:, None].expand(size).contiguous()


def permutations(z: Tensor, key: Tensor) -> Tensor:
    return ops.permute_dims(rows(*z.shape, device=z.device), key=key)


def p_value(codes: Tensor, kinds: int) -> float:
    """The p-value of counts that should be uniform, by the chi-squared test."""
    return scipy.stats.chisquare(torch.bincount(codes.flatten(), minlength=kinds).cpu().numpy()).pvalue


def numbered(permuted: Tensor) -> Tensor:
    """The permutations in the columns of [.., B, D] as one integer each below B^B, [.., D]."""
    batch = permuted.shape[-2]
    return (permuted * batch ** torch.arange(batch, device=permuted.device)[:, None]).sum(-2)


# Permutations ----------------------------------------------------------------------------------------------------


@shapes((*NASTY, Shape((), 5000, 3)))
def test_every_column_is_a_permutation(shape, device):
    z = rows(*shape.leading, shape.batch, shape.D, device=device)
    out = ops.permute_dims(z, key=key(device))
    assert out.shape == z.shape
    assert torch.equal(out.sort(-2).values, z)
    if shape.batch >= 31:
        assert not torch.equal(out, z)


@shapes((*NASTY, *(Shape((), batch, 3) for batch in (1024, 4096, 4097, 10_000, 70_001)), Shape((3,), 5001, 1)))
def test_cuda_permutations_are_those_of_the_reference(shape, device):
    """One block sorts up to 4096 rows; beyond, sorted runs are merged, one to four times here."""
    if device.type == "cpu":
        pytest.skip("the CPU draws its permutations without sorting")
    z = rows(*shape.leading, shape.batch, shape.D, device=device)
    keys = [key(device)]
    if shape.leading:
        keys.append(torch.randint(-(2**63), 2**63 - 1, (*shape.leading, 2)).to(device))
    for k in keys:
        assert torch.equal(ops.permute_dims(z, key=k), reference.permute_dims(z, k))


@dtypes(*ALL_DTYPES)
@shapes(SOME)
def test_values_are_moved_and_never_changed(shape, dtype, device):
    z = normal(*shape.leading, shape.batch, shape.D, device=device, scale=3)
    z = z > 0 if dtype == torch.bool else z.abs().to(dtype) if dtype == torch.uint8 else z.to(dtype)
    if dtype.is_complex:
        z = z * (1 + 2j)
    out = ops.permute_dims(z, key=key(device))
    assert (out.dtype, out.device) == (z.dtype, z.device)
    assert torch.equal(out, z.gather(-2, permutations(z, key(device))))


@dtypes(*FORMATS)
def test_bits_of_special_values_survive(dtype, device):
    numbers = torch.tensor([0.0, -0.0, float("inf"), -float("inf"), 6e-8], dtype=dtype, device=device)
    z = torch.cat([numbers, torch.stack([nan.to(dtype, device) for nan in NANS])])[:, None]
    z = z.expand(len(z), 40).contiguous()
    out = ops.permute_dims(z, key=key(device))
    bits, _ = FORMATS[dtype]
    expected = z.view(bits).gather(0, permutations(z, key(device)))
    assert torch.equal(out.view(bits), expected)


@layouts()
@shapes(SOME)
def test_any_layout(shape, layout, device):
    z = layout(normal(*shape.leading, shape.batch, shape.D, device=device))
    assert torch.equal(ops.permute_dims(z, key=key(device)), ops.permute_dims(z.contiguous(), key=key(device)))


def test_the_input_is_left_alone(device):
    z = normal(9, 4, device=device)
    before = z.clone()
    out = ops.permute_dims(z)
    assert torch.equal(z, before)
    assert out.data_ptr() != z.data_ptr()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3), (0, 4, 3)], ids=str)
def test_nothing_to_permute(shape, device):
    z = torch.zeros(shape, device=device, requires_grad=True)
    out = ops.permute_dims(z)
    assert out.shape == shape
    (gradient,) = torch.autograd.grad(out.sum(), z)
    assert gradient.shape == shape


def test_a_single_row_stays(device):
    z = normal(3, 1, 5, device=device)
    assert torch.equal(ops.permute_dims(z), z)


# Uniform and independent -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("through", ["columns", "problems", "problems with keys", "calls"])
@pytest.mark.parametrize("batch", [2, 3, 4])
def test_uniform_over_all_permutations(batch, through, device):
    draws = 20_000
    torch.manual_seed(11)
    if through == "columns":
        out = ops.permute_dims(rows(batch, draws, device=device), key=key(device))
    elif through == "problems":
        out = ops.permute_dims(rows(draws, batch, 1, device=device), key=key(device))
    elif through == "problems with keys":  # keys as a counter makes them, one after the other
        keys = torch.stack([torch.full((draws,), 3), torch.arange(draws)], -1).to(device)
        out = ops.permute_dims(rows(draws, batch, 1, device=device), key=keys)
    else:
        out = torch.stack([ops.permute_dims(rows(batch, 1, device=device)) for _ in range(draws // 10)])
    codes = numbered(out).flatten()
    kinds, index = codes.unique(return_inverse=True)
    assert len(kinds) == {2: 2, 3: 6, 4: 24}[batch]
    assert p_value(index, len(kinds)) > 1e-3


@pytest.mark.parametrize("batch", [7, 64, 100])
def test_every_place_goes_everywhere(batch, device):
    """Where a large batch's rows end, one table per place: a biased draw of the last of them would show."""
    out = ops.permute_dims(rows(batch, 20_000, device=device), key=key(device))
    for place in (0, 1, batch // 2, batch - 2, batch - 1):
        assert p_value(out[place], batch) > 1e-4
        assert p_value((out == place).int().argmax(0), batch) > 1e-4


def test_no_correlation_with_the_place(device):
    """A sample of 4096 rows: the rank correlation of a uniform permutation with the identity has deviation 1/64."""
    out = ops.permute_dims(rows(4096, 50, device=device), key=key(device)).double()
    place = torch.arange(4096, device=device).double()
    centre, variance = 2047.5, (4096**2 - 1) / 12
    r = ((out - centre) * (place - centre)[:, None]).mean(0) / variance
    assert abs(float(r.mean())) < 4 / (64 * 50**0.5)
    assert float(r.abs().max()) < 5 / 64
    # Neighbours: nor do they stay together.
    together = ((out[1:] - out[:-1]).abs() == 1).double().sum(0)
    assert abs(float(together.mean()) - 2) < 4 * (2 / 50) ** 0.5


@pytest.mark.parametrize("across", ["columns", "problems", "keys"])
def test_two_permutations_are_independent(across, device):
    draws = 36_000
    if across == "columns":
        codes = numbered(ops.permute_dims(rows(draws, 3, 2, device=device), key=key(device)))
    elif across == "problems":
        codes = numbered(ops.permute_dims(rows(draws, 2, 3, 1, device=device), key=key(device)))[..., 0]
    else:
        keys = torch.stack([torch.full((draws,), 3), torch.arange(draws)], -1).to(device)
        codes = numbered(ops.permute_dims(rows(draws, 3, 1, device=device), key=keys)).view(-1, 2)
    pairs = codes.unique(return_inverse=True)[1].cpu().numpy()
    assert pairs.max() == 5
    table = np.zeros((6, 6))
    np.add.at(table, (pairs[:, 0], pairs[:, 1]), 1)
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-3
    assert scipy.stats.chisquare(table.ravel()).pvalue > 1e-3


def test_shuffled_dimensions_are_independent_samples(device):
    """What it is for: the sum of a strongly correlated pair loses its correlation, the marginals do not change."""
    x = normal(5000, 1, device=device)
    out = ops.permute_dims(torch.cat([x, x], 1), key=key(device))
    assert abs(float(torch.corrcoef(out.mT)[0, 1])) < 4 / 5000**0.5
    assert torch.equal(out.sort(0).values, torch.cat([x, x], 1).sort(0).values)


# Gradient --------------------------------------------------------------------------------------------------------


@dtypes(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)
@shapes((*SOME, Shape((2,), 9000, 3)))
def test_gradient_is_the_inverse(shape, dtype, device):
    z = normal(*shape.leading, shape.batch, shape.D, device=device).to(dtype).requires_grad_()
    incoming = normal(*z.shape, device=device).to(dtype)
    (gradient,) = torch.autograd.grad(ops.permute_dims(z, key=key(device)), z, incoming)
    assert gradient.dtype == dtype
    assert torch.equal(gradient, torch.zeros_like(z).scatter(-2, permutations(z, key(device)), incoming))


@layouts()
def test_gradient_of_any_layout(layout, device):
    z = normal(31, 5, device=device)
    incoming = layout(normal(31, 5, device=device))
    leaf = layout(z).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(ops.permute_dims(leaf, key=key(device)), leaf, incoming)
    expected = torch.zeros_like(z).scatter(-2, permutations(z, key(device)), incoming.contiguous())
    assert torch.equal(gradient, expected)


def test_gradcheck(device):
    z = normal(2, 5, 3, device=device).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: ops.permute_dims(z, key=key(device)), z)


# Keys ------------------------------------------------------------------------------------------------------------


@dtypes(torch.float16, torch.float32, torch.int64, torch.complex128)
@pytest.mark.parametrize("key_dims", [1, 2])
def test_a_stack_with_keys_equals_its_members(key_dims, dtype, device):
    keys = torch.randint(-(2**63), 2**63 - 1, (*(2, 3)[:key_dims], 2)).to(device)
    z = (normal(2, 3, 17, 5, device=device) * 100).to(dtype)
    out = ops.permute_dims(z, key=keys)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in keys.shape[:-1])).view(-1, key_dims).tolist():
        index = tuple(index)
        assert torch.equal(out[index], ops.permute_dims(z[index], key=keys[index]))


def test_a_stack_with_keys_has_the_gradients_of_its_members(device):
    keys = torch.randint(-(2**63), 2**63 - 1, (3, 2)).to(device)
    z, incoming = normal(3, 17, 5, device=device).requires_grad_(), normal(3, 17, 5, device=device)
    (gradient,) = torch.autograd.grad(ops.permute_dims(z, key=keys), z, incoming)
    for i in range(3):
        member = z[i].detach().requires_grad_()
        (alone,) = torch.autograd.grad(ops.permute_dims(member, key=keys[i]), member, incoming[i])
        assert torch.equal(gradient[i], alone)


def test_one_key_gives_every_problem_its_own_permutations(device):
    out = ops.permute_dims(rows(4, 64, 1, device=device), key=key(device))
    for i in range(4):
        for j in range(i):
            assert not torch.equal(out[i], out[j])


def test_both_words_of_the_key_matter(device):
    keys = ((1, 0), (0, 1), (1, 1), (2**32 + 1, 0), (1, 2**32), (-1, 0))
    draws = [permutations(torch.zeros(64, 2, device=device), key(device, *k)) for k in keys]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert not torch.equal(a, b)


def test_manual_seed_governs_the_permutations(device):
    draws = []
    for _ in range(2):
        torch.manual_seed(3)
        draws.append([ops.permute_dims(rows(64, 2, device=device)) for _ in range(2)])
    assert torch.equal(draws[0][0], draws[1][0])
    assert torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], draws[0][1])


def test_generator(device):
    generator = torch.Generator(device)
    z = rows(64, 2, device=device)
    first, other, again = (ops.permute_dims(z, generator=generator.manual_seed(seed)) for seed in (7, 8, 7))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, ops.permute_dims(z, generator=generator))

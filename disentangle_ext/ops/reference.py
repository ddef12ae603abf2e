"""The specification: every op in plain PyTorch.

Compiled kernels are correct when they agree with these functions evaluated in float64. They are also what runs on a
device without kernels. Nothing here is fast; everything is meant to be read beside the paper.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

LOG_2PI = math.log(2 * math.pi)

Estimator = Literal["uniform", "mws", "mss", "mss_legacy"]
ESTIMATORS: tuple[str, ...] = ("uniform", "mws", "mss", "mss_legacy")

# Queries of a chunk times components: bounds the [chunk, N, D] intermediate of `log_aggregate_posterior`.
_CHUNK_PAIRS = 1 << 20


# Noise -----------------------------------------------------------------------------------------------------------


def philox(key: Tensor, count: int) -> Tensor:
    """Philox4x32-10 (Salmon et al. 2011): `count` counters' worth of 32-bit integers.

    key: int64 [.., 2] = (seed, offset). Counter i is (low 64 bits: i, high 64 bits: offset).
    Returns int64 [.., count, 4] holding unsigned 32-bit values.
    """
    mask = 0xFFFFFFFF
    seed, offset = key[..., 0, None], key[..., 1, None]
    i = torch.arange(count, device=key.device).expand(*key.shape[:-1], count)
    k0, k1 = seed & mask, (seed >> 32) & mask
    x0, x1 = i & mask, (i >> 32) & mask
    x2, x3 = (offset & mask).expand_as(i), ((offset >> 32) & mask).expand_as(i)
    for _ in range(10):
        # int64 products wrap modulo 2^64, so the high word survives once the sign is masked off.
        p0, p1 = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0, x1, x2, x3 = ((p1 >> 32) & mask) ^ x1 ^ k0, p1 & mask, ((p0 >> 32) & mask) ^ x3 ^ k1, p0 & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return torch.stack([x0, x1, x2, x3], dim=-1)


def standard_normal(key: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """`count` normals per key: lanes (0, 1) and (2, 3) of each counter are Box-Muller pairs. Returns [.., count]."""
    lanes = philox(key, (count + 3) // 4)
    radius, angle = lanes[..., 0::2], lanes[..., 1::2]
    # The uniform is (x + 1/2) / 2^32. Near 1 its logarithm is taken from the complement, which is exact there, and the
    # angle is reduced to [-pi, pi) before it is rounded to `dtype`.
    complement = (0xFFFFFFFF - radius).to(dtype) + 0.5
    uniform = (radius.to(dtype) + 0.5) * 2.0**-32
    log_uniform = torch.where(radius >= 1 << 31, torch.log1p(-complement * 2.0**-32), uniform.log())
    r = torch.sqrt(-2 * log_uniform)
    signed = torch.where(angle >= 1 << 31, angle - (1 << 32), angle)
    theta = signed.to(dtype) * (2 * math.pi * 2.0**-32)
    pairs = torch.stack([r * theta.cos(), r * theta.sin()], dim=-1)
    return pairs.flatten(-3)[..., :count]


def noise_like(x: Tensor, key: Tensor) -> Tensor:
    """Noise in the shape of x: an element's index counts inside the problem that shares its key."""
    lead = key.dim() - 1
    count = math.prod(x.shape[lead:])
    dtype = x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32
    return standard_normal(key, count, dtype).reshape(x.shape)


# Gaussians -------------------------------------------------------------------------------------------------------


def kl_standard_normal(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) per element: (mu^2 + exp(logvar) - 1 - logvar) / 2."""
    return 0.5 * (mu.square() + (torch.expm1(logvar) - logvar))


def rsample_kl(mu: Tensor, logvar: Tensor, key: Tensor, per_dimension: bool = False) -> tuple[Tensor, Tensor]:
    dtype = mu.dtype
    if dtype in (torch.float16, torch.bfloat16):
        mu, logvar = mu.float(), logvar.float()
    z = mu + torch.exp(0.5 * logvar) * noise_like(mu, key)
    kl = kl_standard_normal(mu, logvar)
    return z.to(dtype), kl if per_dimension else kl.sum(-1)


def normal_log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """log N(z; mu, exp(logvar)) per element."""
    return -0.5 * (LOG_2PI + logvar + (z - mu).square() * torch.exp(-logvar))


# Aggregate posterior ---------------------------------------------------------------------------------------------


def log_weights(
    estimator: str, queries: int, components: int, dataset_size: int | None, offset: int, like: Tensor
) -> Tensor:
    """w_ij of the estimator, [queries, components] or [1, components]."""
    size = float(dataset_size or 0)
    if estimator == "uniform":
        return like.new_full((1, components), -math.log(components) if components else 0.0)
    if estimator == "mws":
        return like.new_full((1, components), -math.log(size * components) if components else 0.0)
    m = components - 1
    own, rest, following = -math.log(size), -math.log(m), math.log((size - m) / (size * m))
    w = like.new_full((queries, components), rest)
    i = torch.arange(queries, device=like.device)
    if estimator == "mss":
        w[i, offset + i] = own
        w[i, (offset + i + 1) % components] = following
    elif estimator == "mss_legacy":
        w[:, 0], w[:, 1] = own, following
        w[(offset + i) == m - 1, 0] = following
    else:
        raise ValueError(f"unknown estimator {estimator!r}")
    return w


def log_aggregate_posterior(z: Tensor, mu: Tensor, logvar: Tensor, log_weight: Tensor) -> tuple[Tensor, Tensor]:
    """log q(z_i) = LSE_j(w_ij + sum_d l_ijd) and log q(z_id) = LSE_j(w_ij + l_ijd), chunked over queries.

    z [.., M, D], mu and logvar [.., N, D], log_weight [.., M or 1, N]. Returns [.., M] and [.., M, D].
    """
    queries, components = z.shape[-2], mu.shape[-2]
    chunk = max(1, _CHUNK_PAIRS // max(components * math.prod(z.shape[:-2]), 1))
    joint, marginal = [], []
    for first in range(0, queries, chunk):
        rows = slice(first, first + chunk)
        w = log_weight if log_weight.shape[-2] == 1 else log_weight[..., rows, :]
        density = normal_log_density(z[..., rows, None, :], mu[..., None, :, :], logvar[..., None, :, :])
        joint.append(_logsumexp(w + density.sum(-1), -1))
        marginal.append(_logsumexp(w[..., None] + density, -2))
    if not joint:
        return z.sum(-1), z.clone()
    return torch.cat(joint, -1), torch.cat(marginal, -2)


def _logsumexp(x: Tensor, dim: int) -> Tensor:
    """logsumexp whose gradient is zero, not NaN, where every term is -inf."""
    empty = torch.isneginf(x).all(dim, keepdim=True)
    value = torch.logsumexp(torch.where(empty, torch.zeros_like(x), x), dim)
    return torch.where(empty.squeeze(dim), torch.full_like(value, -math.inf), value)


def aggregate_posterior(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    log_weight: Tensor | None = None,
    estimator: str = "uniform",
    dataset_size: int | None = None,
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    z, mu, logvar = (t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in (z, mu, logvar))
    if log_weight is None:
        w = log_weights(estimator, z.shape[-2], mu.shape[-2], dataset_size, offset, z)
    else:
        w = log_weight.to(z.dtype)[..., None, :]
    return log_aggregate_posterior(z, mu, logvar, w)


def elbo_decomposition(
    z: Tensor,
    mu: Tensor,
    logvar: Tensor,
    component_mu: Tensor | None,
    component_logvar: Tensor | None,
    estimator: str,
    dataset_size: int,
    offset: int = 0,
    reduction: str = "mean",
) -> tuple[Tensor, ...]:
    """The seven fields of `ops.ElboDecomposition`, in their order."""
    z, mu, logvar = (t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in (z, mu, logvar))
    component_mu = mu if component_mu is None else component_mu.to(mu.dtype)
    component_logvar = logvar if component_logvar is None else component_logvar.to(mu.dtype)
    log_qz, marginals = aggregate_posterior(z, component_mu, component_logvar, None, estimator, dataset_size, offset)
    log_qz_x = normal_log_density(z, mu, logvar).sum(-1)
    log_pz = normal_log_density(z, torch.zeros_like(z), torch.zeros_like(z)).sum(-1)
    log_prod_qz = marginals.sum(-1)
    fields = (log_qz_x - log_qz, log_qz - log_prod_qz, log_prod_qz - log_pz, log_qz_x, log_qz, log_prod_qz, log_pz)
    return tuple(reduce(f, reduction) for f in fields)


def reduce(x: Tensor, reduction: str) -> Tensor:
    return x.mean(-1) if reduction == "mean" else x.sum(-1) if reduction == "sum" else x


# Maximum mean discrepancy ----------------------------------------------------------------------------------------

KERNELS: tuple[str, ...] = ("rbf", "rq", "imq", "laplacian", "energy")


def squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2, [.., M, N], by differences: the expansion into a matrix product cancels."""
    return (x[..., :, None, :] - y[..., None, :, :]).square().sum(-1)


def kernel_of(d2: Tensor, kernel: str, bandwidth: Tensor, exponent: float) -> Tensor:
    """k as a function of the squared distance, summed over the bandwidths [.., K]."""
    pairs = (..., *([None] * (d2.dim() - bandwidth.dim() + 1)), slice(None))
    h = torch.where(bandwidth > 0, bandwidth, math.nan)[pairs].to(d2.dtype)
    d2 = d2[..., None]
    if kernel == "rbf":
        k = torch.exp(-d2 / (2 * h.square()))
    elif kernel in ("rq", "imq"):
        a = 1.0 if kernel == "imq" else exponent
        k = torch.exp(-a * torch.log1p(d2 / (2 * a * h.square())))
    else:
        # sqrt has an infinite slope at 0: the zero is replaced before it, so its gradient is zero and not NaN.
        zero = d2 == 0
        d = torch.where(zero, torch.zeros_like(d2), torch.where(zero, torch.ones_like(d2), d2).sqrt())
        k = torch.exp(-d / h) if kernel == "laplacian" else -d.expand(*d.shape[:-1], h.shape[-1])
    return k.sum(-1)


def mmd(
    x: Tensor, y: Tensor, bandwidth: Tensor, kernel: str = "rbf", exponent: float = 1.0, estimator: str = "unbiased"
) -> Tensor:
    """MMD^2(X, Y) = E k(x, x') + E k(y, y') - 2 E k(x, y); x [.., M, D], y [.., N, D], bandwidth [.., K]."""
    x, y = (t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for t in (x, y))
    if estimator == "linear":
        return _mmd_linear(x, y, bandwidth, kernel, exponent)
    m, n = x.shape[-2], y.shape[-2]
    xx, yy, xy = (kernel_of(squared_distance(a, b), kernel, bandwidth, exponent) for a, b in ((x, x), (y, y), (x, y)))
    cross = xy.sum((-2, -1)) / (m * n)
    if estimator == "biased":
        return xx.sum((-2, -1)) / m**2 + yy.sum((-2, -1)) / n**2 - 2 * cross
    off_x, off_y = (k.sum((-2, -1)) - k.diagonal(dim1=-2, dim2=-1).sum(-1) for k in (xx, yy))
    return off_x / (m * (m - 1)) + off_y / (n * (n - 1)) - 2 * cross


def _mmd_linear(x: Tensor, y: Tensor, bandwidth: Tensor, kernel: str, exponent: float) -> Tensor:
    """Gretton et al. 2012, lemma 14: the mean of h over disjoint pairs of rows."""
    x1, x2, y1, y2 = x[..., 0::2, :], x[..., 1::2, :], y[..., 0::2, :], y[..., 1::2, :]

    def k(a: Tensor, b: Tensor) -> Tensor:
        return kernel_of((a - b).square().sum(-1), kernel, bandwidth, exponent)

    return (k(x1, x2) + k(y1, y2) - k(x1, y2) - k(x2, y1)).mean(-1)


# Permutation -----------------------------------------------------------------------------------------------------


def permute_dims(z: Tensor, key: Tensor) -> Tensor:
    """out[.., i, d] = z[.., perm_d(i), d] with independent uniform permutations: 64-bit keys from Philox, sorted.

    Two equal keys among B have probability below B^2 / 2^65. The permutation differs from the CPU kernel's, which is
    a Fisher-Yates shuffle: only the distribution is shared.
    """
    lead = key.dim() - 1
    batch, columns = z.shape[-2], math.prod(z.shape[lead:-2]) * z.shape[-1]
    lanes = philox(key, (columns * batch + 1) // 2)
    keys = (lanes[..., 0::2] << 32) | lanes[..., 1::2]
    keys = keys.flatten(-2)[..., : columns * batch].reshape(*z.shape[:-2], z.shape[-1], batch)
    return z.gather(-2, keys.argsort(-1).transpose(-1, -2))

"""Errors and conventions of losses: total correlation, DIP-VAE, ML-VAE, MMD, and permutations by sorting."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from disentangle_ext import ops
from disentangle_ext.objectives.ada_gvae import Average, share_posteriors
from disentangle_ext.objectives.dip_vae import dip_penalty
from studies.known_errors.error import NOTHING, Error, stored_arrays


class Batch(NamedTuple):
    """A batch of posteriors, in float64: [B, D] each."""

    z: Tensor
    mu: Tensor
    logvar: Tensor
    prior: Tensor
    dataset_size: int

    def decomposition(self, estimator: str, dataset_size: int | None = None) -> ops.ElboDecomposition:
        size = self.dataset_size if dataset_size is None else dataset_size
        return ops.elbo_decomposition(self.z, self.mu, self.logvar, dataset_size=size, estimator=estimator)

    @property
    def constant(self) -> float:
        """What the weights 1 / (N B) of ``mws`` add to a total correlation."""
        return (self.z.shape[1] - 1) * math.log(self.dataset_size * len(self.z))

    def __str__(self) -> str:
        return f"{len(self.z)} samples of {self.z.shape[1]} latents, N = {self.dataset_size:,}"


def batch(case: str, dataset_size: int) -> Batch:
    arrays = stored_arrays("ops/oracles/peers.npz")
    z, mu, logvar, prior = (torch.from_numpy(arrays[f"{case}__{name}"]) for name in ("z", "mu", "logvar", "z_prior"))
    return Batch(z, mu, logvar, prior, dataset_size)


DSPRITES = batch("l02_b64_d10_n737280", 737_280)
PRIOR = batch("l07_collapsed_posterior", 10_000)
OUTLIERS = batch("l10_outlier_z", 5_000)


# Total correlation


def _log_densities(data: Batch) -> Tensor:
    """log q(z_id | x_j): [B, B, D]."""
    deviation = data.z[:, None] - data.mu
    return -0.5 * (math.log(2 * math.pi) + data.logvar + deviation**2 * torch.exp(-data.logvar))


def _terms(data: Batch, joint: Tensor, each: Tensor) -> tuple[float, float]:
    """Mutual information and total correlation, of log q(z_i) and sum_d log q(z_id)."""
    own = _log_densities(data).diagonal().sum(0)
    return float((own - joint).mean()), float((joint - each).mean())


def weights_counted_per_latent(data: Batch) -> tuple[float, float]:
    """The misplaced weights of ``mss_legacy``, added to each latent before the sum over latents."""
    rows = len(data.z)
    others = rows - 1
    weights = torch.full((rows, rows), 1 / others, dtype=torch.float64)
    weights.view(-1)[::rows] = 1 / data.dataset_size
    weights.view(-1)[1::rows] = weights[others - 1, 0] = (data.dataset_size - others) / (data.dataset_size * others)
    weighted = _log_densities(data) + weights.log()[:, :, None]
    return _terms(data, weighted.sum(2).logsumexp(1), weighted.logsumexp(1).sum(1))


def without_weights(data: Batch) -> tuple[float, float]:
    densities = _log_densities(data)
    return _terms(data, densities.sum(2).logsumexp(1), densities.logsumexp(1).sum(1))


def by_exponentials(data: Batch) -> tuple[float, float]:
    """The terms from sums of densities, which underflow where a sample is far from all posteriors."""
    densities = _log_densities(data)
    return _terms(data, densities.sum(2).exp().sum(1).log(), densities.logsumexp(1).sum(1))


_LEGACY = ("beta-tcvae", "pythae")
_PER_LATENT = ("disvae", "PyTorch-VAE")
_MISPLACED = "`mss` with the weight 1/N in the first column, not on the diagonal"
_COUNTED = "the same, and the log-weight counted once for each latent in log q(z)"
_UNWEIGHTED = "`mws` without its weights: log(B N) too high for every density"

TOTAL_CORRELATION = (
    Error(
        "MI",
        _MISPLACED,
        _LEGACY,
        str(DSPRITES),
        lambda: float(DSPRITES.decomposition("mss_legacy").mutual_information),
        lambda: float(DSPRITES.decomposition("mss").mutual_information),
        '`estimator="mss_legacy"`',
        "mss, MI",
    ),
    Error(
        "TC",
        _MISPLACED,
        _LEGACY,
        str(DSPRITES),
        lambda: float(DSPRITES.decomposition("mss_legacy").total_correlation),
        lambda: float(DSPRITES.decomposition("mss").total_correlation),
        '`estimator="mss_legacy"`',
        "mss, TC",
    ),
    Error(
        "MI",
        _COUNTED,
        _PER_LATENT,
        str(DSPRITES),
        lambda: weights_counted_per_latent(DSPRITES)[0],
        lambda: float(DSPRITES.decomposition("mss").mutual_information),
        NOTHING,
        "mss per latent, MI",
    ),
    Error(
        "TC",
        _COUNTED,
        _PER_LATENT,
        str(DSPRITES),
        lambda: weights_counted_per_latent(DSPRITES)[1],
        lambda: float(DSPRITES.decomposition("mss").total_correlation),
        NOTHING,
        "mss per latent, TC",
    ),
    Error(
        "MI",
        _UNWEIGHTED,
        ("disvae",),
        str(DSPRITES),
        lambda: without_weights(DSPRITES)[0],
        lambda: float(DSPRITES.decomposition("mws").mutual_information),
        "`mws` less log(B N)",
        "mws unweighted, MI",
    ),
    Error(
        "TC",
        _UNWEIGHTED,
        ("disvae", "disentanglement_lib", "disent", "amir-abdi"),
        str(DSPRITES),
        lambda: without_weights(DSPRITES)[1],
        lambda: float(DSPRITES.decomposition("mws").total_correlation),
        "`mws` less (D - 1) log(B N)",
        "mws unweighted, TC",
    ),
    Error(
        "TC",
        "densities are exponentiated before they are summed, and underflow",
        ("amir-abdi",),
        f"{OUTLIERS}; four of them far from all posteriors; without weights",
        lambda: by_exponentials(OUTLIERS)[1],
        lambda: float(OUTLIERS.decomposition("mws").total_correlation) - OUTLIERS.constant,
        NOTHING,
        "underflow, TC",
    ),
    Error(
        "TC",
        "the batch size given as the size of the data set",
        (),
        str(DSPRITES),
        lambda: float(DSPRITES.decomposition("mws", len(DSPRITES.z)).total_correlation),
        lambda: float(DSPRITES.decomposition("mws").total_correlation),
        "`dataset_size=B`",
    ),
    Error(
        "MI",
        "`mws` reported as a measurement",
        (),
        f"{PRIOR}; every posterior is the prior, so MI = TC = 0",
        lambda: float(PRIOR.decomposition("mws").mutual_information),
        lambda: 0.0,
        '`estimator="mws"`',
        "prior, MI",
    ),
    Error(
        "TC",
        "`mws` reported as a measurement",
        (),
        f"{PRIOR}; every posterior is the prior, so MI = TC = 0",
        lambda: float(PRIOR.decomposition("mws").total_correlation),
        lambda: 0.0,
        '`estimator="mws"`',
        "prior, TC",
    ),
)


# Moments


LAMBDAS = {"lambda_od": 10.0, "lambda_d": 5.0}


def _penalty(covariance: Tensor) -> float:
    """The penalty of DIP-VAE: lambda_od sum of squares off the diagonal + lambda_d sum of (1 - each)^2 on it."""
    diagonal = covariance.diagonal()
    outside = covariance.square().sum() - diagonal.square().sum()
    return float(LAMBDAS["lambda_od"] * outside + LAMBDAS["lambda_d"] * (diagonal - 1).square().sum())


def _right_penalty(data: Batch, kind: str = "ii") -> float:
    outside, diagonal = dip_penalty(
        data.mu, data.logvar, kind=kind, lambda_od=LAMBDAS["lambda_od"], lambda_d=LAMBDAS["lambda_d"]
    )
    return float(outside + diagonal)


def scalar_on_every_entry(data: Batch) -> float:
    """The mean over the batch of diag exp(logvar), where diag took the diagonal of the [B, D] table of variances."""
    centred = data.mu - data.mu.mean(0)
    return _penalty(centred.T @ centred / len(data.mu) + data.logvar.exp().diagonal().mean())


def centred_over_latents(data: Batch, variances: Tensor | None = None) -> float:
    """Means are taken over the latents, and the sum over the batch is not divided; a mean of variances as above."""
    centred = data.mu - data.mu.mean(1, keepdim=True)
    return _penalty(centred.T @ centred + (0 if variances is None else variances.diagonal().mean()))


_SCALAR = "one number is added to every entry of Cov[mu], for the mean variances on its diagonal"

DIP = (
    *(
        Error(
            "DIP-VAE II",
            _SCALAR,
            ("disent", "amir-abdi"),
            inputs,
            lambda data=data: scalar_on_every_entry(data),  # type: ignore[misc]
            lambda data=data: _right_penalty(data),  # type: ignore[misc]
            NOTHING,
            recorded,
        )
        for data, inputs, recorded in (
            (DSPRITES, str(DSPRITES), "dip ii"),
            (PRIOR, f"{PRIOR}; every posterior is the prior", "dip ii, prior"),
        )
    ),
    Error(
        "DIP-VAE II",
        "the same; Cov[mu] is centred over latents, not the batch, and not divided by B; variances are squared",
        ("PyTorch-VAE",),
        str(DSPRITES),
        lambda: centred_over_latents(DSPRITES, (2 * DSPRITES.logvar).exp()),
        lambda: _right_penalty(DSPRITES),
        NOTHING,
        "dip ii, over latents",
    ),
    Error(
        "DIP-VAE II",
        "the same, but the variances as they are",
        ("AIX360",),
        str(DSPRITES),
        lambda: centred_over_latents(DSPRITES, DSPRITES.logvar.exp()),
        lambda: _right_penalty(DSPRITES),
        NOTHING,
        "dip ii, over latents, AIX360",
    ),
    Error(
        "DIP-VAE I",
        "Cov[mu] is centred over latents, not the batch, and not divided by B",
        ("AIX360",),
        str(DSPRITES),
        lambda: centred_over_latents(DSPRITES),
        lambda: _right_penalty(DSPRITES, "i"),
        NOTHING,
        "dip i, over latents, AIX360",
    ),
)


# Shared posteriors


def kl_of_pairs(data: Batch, average: Average) -> float:
    """The mean KL of the images of pairs (i, i + B / 2), whose posteriors ML-VAE has shared."""
    mu, logvar = share_posteriors(data.mu, data.logvar, average=average)
    return float(0.5 * (mu**2 + logvar.exp() - 1 - logvar).sum(1).mean())


PAIRS = (
    Error(
        "KL, ML-VAE",
        "twice the variance of the product of two posteriors, which is that of their geometric mean",
        ("disentanglement_lib", "disent"),
        f"{DSPRITES}, as {len(DSPRITES.z) // 2} pairs",
        lambda: kl_of_pairs(DSPRITES, "geometric"),
        lambda: kl_of_pairs(DSPRITES, "product"),
        '`average="geometric"`',
        "ml-vae, shared",
    ),
)


# MMD


def summed_kernel(data: Batch) -> float:
    """The inverse multiquadratic kernel with C = 4 D, as sums over unequal pairs in the place of means."""

    def total(x: Tensor, y: Tensor) -> Tensor:
        constant = 4 * x.shape[1]
        kernel = constant / (1e-7 + constant + torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2)
        return kernel.sum() - kernel.diagonal().sum()

    return float(total(data.z, data.z) + total(data.prior, data.prior) - 2 * total(data.z, data.prior))


class Kernel(NamedTuple):
    """A line of the table of what "rbf" means."""

    formula: str
    codes: tuple[str, ...]
    here: str
    options: dict[str, object]
    recorded: str
    tolerance: float = 1e-9

    def value(self) -> float:
        return float(ops.mmd(DSPRITES.z, DSPRITES.prior, **self.options))  # type: ignore[arg-type]


_DIMS = DSPRITES.z.shape[1]
KERNELS = (
    Kernel(
        "exp(-d2 / D^2), all pairs",
        ("Zhao", "amir-abdi"),
        'convention="infovae"',
        {"convention": "infovae"},
        "rbf, infovae",
    ),
    Kernel("exp(-d2 / 2D), unequal pairs", ("pythae",), 'convention="wae_rbf"', {"convention": "wae_rbf"}, "rbf, wae"),
    Kernel(
        "exp(-d2 / 4D), unequal pairs",
        ("disent",),
        "bandwidth=sqrt(2 D)",
        {"bandwidth": math.sqrt(2 * _DIMS)},
        "rbf, disent",
    ),
    Kernel(
        "exp(-d2 / 4D^2), all pairs",
        ("PyTorch-VAE",),
        'bandwidth=sqrt(2) D, estimator="biased"',
        {"bandwidth": math.sqrt(2) * _DIMS, "estimator": "biased"},
        "rbf, PyTorch-VAE",
    ),
)

MMD = (
    Error(
        "MMD, `imq`",
        "kernels are summed over pairs, for their mean",
        ("PyTorch-VAE",),
        str(DSPRITES),
        lambda: summed_kernel(DSPRITES),
        lambda: float(ops.mmd(DSPRITES.z, DSPRITES.prior, kernel="imq", bandwidth=math.sqrt(2 * _DIMS))),
        NOTHING,
        "imq, summed",
    ),
)


# Permutations


def share_of_ties(rows: int) -> float:
    """The probability that two of ``rows`` float32 numbers from torch.rand, which are multiples of 2^-24, are equal."""
    return 1 - math.exp(math.fsum(math.log1p(-i / 2**24) for i in range(rows)))

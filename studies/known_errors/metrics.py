"""Errors and conventions of metrics."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from disentangle_ext import metrics, ops
from disentangle_ext.metrics._discrete import entropy, histogram_bins, mutual_information, to_classes
from disentangle_ext.metrics.mig import aggregate_information
from studies.known_errors.error import NOTHING, Error, stored_arrays


def codes_and_factors(case: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = stored_arrays("metrics/oracles/mig.npz")
    return arrays[f"{case}__codes"], arrays[f"{case}__factors"]


def _information(case: str, num_bins: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mutual information [D, K], and the entropies of binned codes [D] and of factors [K], in nats."""
    codes, factors = codes_and_factors(case)
    bins, (classes, sizes) = histogram_bins(codes, num_bins), to_classes(factors)
    counts = [num_bins] * bins.shape[1]
    return mutual_information(bins, counts, classes, sizes), entropy(bins, counts), entropy(classes, sizes)


def mig_by_the_code(case: str) -> float:
    """MIG with the mutual information in shares of the code's entropy."""
    mutual, of_codes, _ = _information(case)
    with np.errstate(invalid="ignore"):
        ranked = np.sort(mutual / of_codes[:, None], axis=0)
    return float((ranked[-1] - ranked[-2]).mean())


def mig_with_a_constant_factor(case: str) -> float:
    mutual, _, of_factors = _information(case)
    ranked = np.sort(mutual, axis=0)
    with np.errstate(invalid="ignore"):
        return float(((ranked[-1] - ranked[-2]) / of_factors).mean())


def mig_sup_with_dead_codes(case: str) -> float:
    mutual, of_codes, _ = _information(case)
    ranked = np.sort(mutual, axis=1)
    with np.errstate(invalid="ignore"):
        return float(((ranked[:, -1] - ranked[:, -2]) / of_codes).mean())


def jemmig_with_a_constant_factor(case: str) -> float:
    """No code knows anything of a constant factor: of those, the last is taken for the best."""
    mutual, of_codes, of_factors = _information(case)
    best, ranked = len(mutual) - 1 - mutual[::-1].argmax(0), np.sort(mutual, axis=0)
    joint = of_codes[best] + of_factors - ranked[-1]
    return float((1 - (joint - ranked[-1] + ranked[-2]) / (of_factors + math.log(20))).mean())


def grid_posteriors() -> tuple[Tensor, Tensor, Tensor, np.ndarray, list[int]]:
    """Samples, means and log-variances of a grid of 120 images, in which latents are factors, and their classes."""
    arrays = stored_arrays("metrics/oracles/aggregate_mig.npz")
    z, mu, logvar = (torch.from_numpy(arrays[f"g1_perfect__{name}"]) for name in ("z", "mu", "logvar"))
    sizes = arrays["g1_perfect__sizes"].tolist()
    return z, mu, logvar, np.stack(np.unravel_index(np.arange(len(z)), sizes), 1), sizes


def _gap(known: np.ndarray, sizes: list[int]) -> float:
    ranked = np.sort(np.maximum(known, 0), axis=0)
    return float(np.mean((ranked[-1] - ranked[-2]) / np.log(sizes)))


def mig_of_reshaped_samples() -> float:
    """Samples [n, D] viewed as [D, n] without a transposition, for all images and for those of each class."""
    z, mu, logvar, classes, sizes = grid_posteriors()

    def entropies(rows: np.ndarray) -> Tensor:
        mixed = z[rows].contiguous().view(z.shape[1], -1).T.contiguous()
        return -ops.aggregate_posterior(mixed, mu[rows], logvar[rows])[1].mean(0)

    everything = entropies(np.arange(len(z)))
    known = [
        everything - torch.stack([entropies(classes[:, k] == c) for c in range(size)]).mean(0)
        for k, size in enumerate(sizes)
    ]
    return _gap(torch.stack(known, 1).numpy(), sizes)


def mig_of_samples() -> float:
    z, mu, logvar, classes, sizes = grid_posteriors()
    known = aggregate_information(z, torch.arange(len(z)), mu, logvar, classes, sizes)
    return _gap(known.mean(0), sizes)


_DEAD = "S1__perfect_plus_exactly_dead"


def grid_with_dead_codes() -> tuple[np.ndarray, np.ndarray]:
    codes = stored_arrays("metrics/oracles/sampled.npz")[_DEAD]
    return codes, np.stack(np.unravel_index(np.arange(len(codes)), (4, 5, 6, 7)), 1)


def factor_vae_score_of_dead_codes(train: int = 2000, test: int = 1000) -> float:
    """The vote of a batch with a dead code is that code's: the least of numbers among which there is a 0 / 0."""
    codes, factors = grid_with_dead_codes()
    table = metrics.Representation.from_table(codes, factors)
    rng = np.random.default_rng(0)
    overall = codes.var(0, ddof=1)
    votes = np.zeros((2, codes.shape[1], factors.shape[1]), np.int64)
    for part, count in enumerate((train, test)):
        for k in rng.integers(0, factors.shape[1], count):
            rows = table.draw_alike(table.draw(1, rng), int(k), rng, 64)[0]
            with np.errstate(invalid="ignore"):
                votes[part, np.argmin(codes[rows].var(0, ddof=1) / overall), k] += 1
    return float(votes[1][np.arange(codes.shape[1]), votes[0].argmax(1)].sum() / test)


def _score(name: str, case: str, **options: object) -> Callable[[], float]:
    return lambda: getattr(metrics, name)(*codes_and_factors(case), **options).score


PERFECT, DEAD, CONSTANT = "c01_perfect_dsprites", "c06_dead_dims_exact", "c21_constant_factor"
REPEATED, CORRELATED = "c08_discrete_codes", "c16_correlated_unbalanced"
_PERFECT = "perfect code of the factors of dSprites"
_FOUR = "four factors, each in a code of its own, and four dead codes"

METRICS = (
    Error(
        "MIG",
        "the gap is divided by the entropy of the binned code, not of the factor",
        ("ubisoft",),
        _PERFECT,
        lambda: mig_by_the_code(PERFECT),
        _score("mig", PERFECT),
        NOTHING,
        "mig by the code",
    ),
    Error(
        "MIG",
        "the same; a dead code has entropy 0",
        ("ubisoft",),
        _FOUR,
        lambda: mig_by_the_code(DEAD),
        _score("mig", DEAD),
        NOTHING,
        "mig by the code, dead",
    ),
    Error(
        "MIG",
        "a constant factor has entropy 0",
        ("disentanglement_lib", "disent"),
        "one factor that varies, and a constant one",
        lambda: mig_with_a_constant_factor(CONSTANT),
        _score("mig", CONSTANT),
        NOTHING,
        "mig, constant",
    ),
    Error(
        "MIG, aggregate",
        "samples are reshaped where they should be transposed: a latent is scored by those of others",
        ("disvae",),
        "posteriors of a grid of 120 images, in which three latents are the factors",
        mig_of_reshaped_samples,
        mig_of_samples,
        NOTHING,
    ),
    Error(
        "MIG-sup",
        "a dead code has entropy 0",
        ("ubisoft",),
        _FOUR,
        lambda: mig_sup_with_dead_codes(DEAD),
        _score("mig_sup", DEAD),
        NOTHING,
        "mig_sup, dead",
    ),
    Error(
        "JEMMIG",
        "a constant factor counts, compared with a code that has nothing to do with it",
        ("ubisoft",),
        "one factor that varies, and a constant one",
        lambda: jemmig_with_a_constant_factor(CONSTANT),
        _score("jemmig", CONSTANT),
        NOTHING,
        "jemmig, constant",
    ),
    Error(
        "Modularity",
        "a dead code counts 0",
        ("disentanglement_lib",),
        _FOUR,
        _score("modularity", DEAD, dead_codes="zero"),
        _score("modularity", DEAD, dead_codes="skip"),
        'the default, `dead_codes="zero"`',
        "modularity, dead",
    ),
    Error(
        "FactorVAE score",
        "a dead code has 0 / 0, which argmin takes for the least: it wins every vote",
        ("disentanglement_lib", "ubisoft"),
        "four factors, each in a code of its own, and two dead codes; threshold 0",
        factor_vae_score_of_dead_codes,
        lambda: (
            metrics.factor_vae_score(*grid_with_dead_codes(), num_train=2000, num_test=1000, prune_threshold=0).score
        ),
        NOTHING,
        "factor vae, dead",
        0.15,  # both are drawn
    ),
    Error(
        "IRS",
        "factors are binned again into 20, so that one of more classes is not held",
        ("disentanglement_lib",),
        _PERFECT,
        _score("irs", PERFECT, factor_bins=20),
        _score("irs", PERFECT),
        "`factor_bins=20`",
        "irs, 20 bins",
    ),
    Error(
        "SAP",
        "a linear support vector machine, which names two ends of a line and little between",
        ("disentanglement_lib", "disent"),
        _PERFECT,
        _score("sap", PERFECT),
        _score("sap", PERFECT, predictor="thresholds"),
        'the default, as in the large study; `predictor="thresholds"` is the paper\'s',
        "sap",
        5e-3,
        2,
    ),
    Error(
        "DCI",
        "a random forest that sees sqrt(D) codes at a split",
        ("tripod",),
        _FOUR,
        _score("dci", DEAD, predictor="forest_sqrt"),
        _score("dci", DEAD, predictor="forest"),
        '`predictor="forest_sqrt"`',
        "dci, forest",
        0.05,  # drawn, and split otherwise
        2,
    ),
    *(
        Error(
            "InfoM",
            f"codes with equal values are told apart by noise that is drawn anew: seed {seed}",
            ("tripod", "latent_quantization"),
            "codes of integers",
            _score("infomec", REPEATED, seed=seed),
            _score("infomec", REPEATED, estimator="discrete"),
            f"`seed={seed}`",
            f"infom, seed {seed}",
            0.15,  # another noise
        )
        for seed in (0, 1)
    ),
)

CONVENTIONS = (
    Error(
        "MIG",
        "10 bins, not 20",
        (),
        _PERFECT,
        _score("mig", PERFECT, num_bins=10),
        _score("mig", PERFECT),
        "`num_bins=10`",
        "mig, 10 bins",
    ),
    Error(
        "IRS",
        "the largest deviation, not the quantile .99",
        ("ubisoft",),
        "five mixed codes, three weak ones and two of noise",
        _score("irs", "c20_standard_10k", quantile=1),
        _score("irs", "c20_standard_10k"),
        "`quantile=1`",
        "irs, quantile 1",
    ),
    Error(
        "Explicitness",
        "the AUC of each class against the rest on the training rows; not of all classes at once on test rows",
        ("ubisoft",),
        "three correlated factors, each with noise in a code of its own",
        lambda: metrics.explicitness(*codes_and_factors(CORRELATED), variant="one_vs_rest").score / 2 + 0.5,
        _score("explicitness", CORRELATED),
        '`variant="one_vs_rest"`, which is 2 AUC - 1; `variant="auc"` is the paper\'s',
        "explicitness",
        1e-4,
        2,
    ),
)

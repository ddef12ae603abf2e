"""beta-TCVAE."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from disentangle_ext import ops
from disentangle_ext._errors import MistakeError
from disentangle_ext._names import choose
from disentangle_ext.models.vae import VAEOutput
from disentangle_ext.objectives._arguments import check_output, check_weights
from disentangle_ext.objectives.base import Loss, Objective
from disentangle_ext.objectives.likelihood import Scale, negative_log_likelihood
from disentangle_ext.ops import _collectives

Form = Literal["analytic", "decomposed"]
Estimator = Literal["mws", "mss", "mss_legacy"]


def _check(kl: str, beta: float, alpha: float, gamma: float) -> None:
    choose("beta_tcvae: kl", kl, get_args(Form))
    check_weights("beta_tcvae", beta=beta, alpha=alpha, gamma=gamma)
    if kl == "analytic" and (alpha != 1 or gamma != 1):
        raise MistakeError(
            f"beta_tcvae: alpha and gamma must be 1 with kl='analytic', got {alpha} and {gamma}: "
            "kl='decomposed' has them"
        )


def beta_tcvae(
    output: VAEOutput,
    images: Tensor,
    *,
    dataset_size: int,
    beta: float = 6.0,
    alpha: float = 1.0,
    gamma: float = 1.0,
    kl: Form = "analytic",
    estimator: Estimator = "mws",
    likelihood: str = "bernoulli",
    scale: float | Tensor = 1.0,
    process_group: ProcessGroup | None = None,
) -> Loss:
    """beta-TCVAE (Chen et al. 2018, "Isolating sources of disentanglement in VAEs"), averaged over the batch.

        kl="analytic"       recon + KL + (beta - 1) TC             (the study of Locatello et al.; the default)
        kl="decomposed"     recon + alpha MI + beta TC + gamma dwKL    (the paper)

    MI + TC + dwKL is a one-sample estimate of the KL, so for alpha = gamma = 1 the two have the same expectation;
    the first has the KL in closed form and less noise. All terms are in nats. TC and MI are estimated from the
    batch: by "mws" they are far too high as numbers (TC by about (D - 1) log N), and it is their gradient that trains.
    Watch the values of :meth:`BetaTCVAE.measure`, and quote those of :func:`metrics.exact_elbo`.

    Args:
        output: what a :class:`models.VAE` returns for B >= 2 images.
        images: [B, C, H, W] in [0, 1].
        dataset_size: number N of images in the data set.
        beta: weight of the total correlation.
        alpha: weight of the mutual information; only with kl="decomposed".
        gamma: weight of the dimension-wise KL; only with kl="decomposed".
        kl: "analytic" or "decomposed".
        estimator: "mws", "mss" or "mss_legacy"; see :func:`ops.elbo_decomposition`.
        likelihood: "bernoulli", "gaussian" or "laplace".
        scale: scale of the Gaussian or Laplace likelihood: a number, or a scalar tensor to learn.
        process_group: ranks that each hold an equal shard of the batch: their posteriors make up q(z).

    Returns:
        A :class:`Loss` with the terms ``reconstruction``, ``kl`` and ``tc_<estimator>``, or ``reconstruction``,
        ``mi_<estimator>``, ``tc_<estimator>`` and ``dwkl_<estimator>``.

    Raises:
        ValueError: for a weight that is negative or not finite, an unknown kl or estimator, alpha or gamma with
            kl="analytic", a batch of 1, or a data set smaller than the batch.
    """
    check_output("beta_tcvae", output)
    _check(kl, beta, alpha, gamma)
    if len(output.z) < 2 and _collectives.parallel("beta_tcvae", process_group) is None:
        raise MistakeError(f"beta_tcvae: output must be of at least 2 images, got {len(output.z)}")
    recon = negative_log_likelihood(output.reconstruction, images, likelihood=likelihood, scale=scale).mean()
    parts = ops.elbo_decomposition(
        output.z,
        output.mu,
        output.logvar,
        dataset_size=dataset_size,
        estimator=estimator,
        process_group=process_group,
    )
    mi, tc, dwkl = parts.mutual_information, parts.total_correlation, parts.dimwise_kl
    if kl == "analytic":
        closed = output.kl.mean()
        total = recon + closed + (beta - 1) * tc
        return Loss(total, {"reconstruction": recon, "kl": closed, f"tc_{estimator}": tc})
    return Loss(
        recon + alpha * mi + beta * tc + gamma * dwkl,
        {"reconstruction": recon, f"mi_{estimator}": mi, f"tc_{estimator}": tc, f"dwkl_{estimator}": dwkl},
    )


class BetaTCVAE(Objective):
    """:func:`beta_tcvae` as a module, and the measurements that belong to it.

    Args:
        dataset_size: number N of images in the data set.
        beta: weight of the total correlation.
        alpha: weight of the mutual information; only with kl=decomposed.
        gamma: weight of the dimension-wise KL; only with kl=decomposed.
        kl: analytic: recon + KL + (beta - 1) TC; decomposed: recon + alpha MI + beta TC + gamma dwKL.
        estimator: estimator of the terms that are trained on; MI and TC are always logged by mss.
        likelihood: p(x|z): bernoulli, gaussian or laplace.
        scale: scale of the gaussian or laplace likelihood: a number, or learned, one for all pixels.
    """

    smallest_batch = 2

    def __init__(
        self,
        *,
        dataset_size: int,
        beta: float = 6.0,
        alpha: float = 1.0,
        gamma: float = 1.0,
        kl: Form = "analytic",
        estimator: Estimator = "mws",
        likelihood: str = "bernoulli",
        scale: Scale = 1.0,
    ) -> None:
        super().__init__(likelihood=likelihood, scale=scale)
        _check(kl, beta, alpha, gamma)
        self.dataset_size = dataset_size
        self.beta = beta
        self.alpha = alpha
        self.gamma = gamma
        self.kl: Form = kl
        self.estimator: Estimator = estimator

    def forward(self, output: VAEOutput, images: Tensor, *, step: int | Tensor = 0, key: Tensor | None = None) -> Loss:
        return beta_tcvae(
            output,
            images,
            dataset_size=self.dataset_size,
            beta=self.beta,
            alpha=self.alpha,
            gamma=self.gamma,
            kl=self.kl,
            estimator=self.estimator,
            likelihood=self.likelihood,
            scale=self.scale,
            process_group=self.process_group,
        )

    @torch.no_grad()
    def measure(self, output: VAEOutput) -> dict[str, Tensor]:
        """MI, TC and dimension-wise KL by minibatch stratified sampling, the estimator to watch in training.

        Returns:
            ``mutual_information``, ``total_correlation`` and ``dimwise_kl``, scalars in nats; ``scale``, if it is
            learned.
        """
        parts = ops.elbo_decomposition(
            output.z,
            output.mu,
            output.logvar,
            dataset_size=self.dataset_size,
            estimator="mss",
            process_group=self.process_group,
        )
        return {
            **super().measure(output),
            "mutual_information": parts.mutual_information,
            "total_correlation": parts.total_correlation,
            "dimwise_kl": parts.dimwise_kl,
        }

    def extra_repr(self) -> str:
        return f"dataset_size={self.dataset_size}, beta={self.beta}, kl={self.kl!r}, estimator={self.estimator!r}"

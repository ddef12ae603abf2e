"""What to minimise: each objective as a function and as a module with the same defaults.

An objective sees the output of a :class:`models.VAE` and the images, and returns a :class:`Loss`. It knows nothing of
networks, data or optimisers; a name in :data:`OBJECTIVES` is all that the command line needs, and its keyword-only
arguments become flags there.
"""

from __future__ import annotations

from disentangle_ext.objectives.annealed_vae import AnnealedVAE, annealed_vae
from disentangle_ext.objectives.base import AdversarialObjective, Loss, Objective
from disentangle_ext.objectives.beta_tcvae import BetaTCVAE, beta_tcvae
from disentangle_ext.objectives.beta_vae import BetaVAE, beta_vae
from disentangle_ext.objectives.dip_vae import DIPVAEI, DIPVAEII, dip_penalty, dip_vae
from disentangle_ext.objectives.factor_vae import FactorVAE, discriminator_loss, factor_vae
from disentangle_ext.objectives.info_vae import InfoVAE, info_vae
from disentangle_ext.objectives.likelihood import LIKELIHOODS, bernoulli, gaussian, laplace, negative_log_likelihood
from disentangle_ext.objectives.vae import PlainAE, PlainVAE, ae, vae
from disentangle_ext.objectives.wae_mmd import WAEMMD, wae_mmd

__all__ = [
    "DIPVAEI",
    "DIPVAEII",
    "LIKELIHOODS",
    "OBJECTIVES",
    "WAEMMD",
    "AdversarialObjective",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "FactorVAE",
    "InfoVAE",
    "Loss",
    "Objective",
    "PlainAE",
    "PlainVAE",
    "ae",
    "annealed_vae",
    "bernoulli",
    "beta_tcvae",
    "beta_vae",
    "dip_penalty",
    "dip_vae",
    "discriminator_loss",
    "factor_vae",
    "gaussian",
    "info_vae",
    "laplace",
    "negative_log_likelihood",
    "vae",
    "wae_mmd",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "ae": PlainAE,
    "annealed_vae": AnnealedVAE,
    "beta_tcvae": BetaTCVAE,
    "beta_vae": BetaVAE,
    "dip_vae_i": DIPVAEI,
    "dip_vae_ii": DIPVAEII,
    "factor_vae": FactorVAE,
    "info_vae": InfoVAE,
    "vae": PlainVAE,
    "wae_mmd": WAEMMD,
}
"""The objectives by name."""

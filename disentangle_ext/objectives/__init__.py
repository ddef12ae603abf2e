"""What to minimise: each objective as a function and as a module with the same defaults.

An objective sees the output of a :class:`models.VAE` and the images, and returns a :class:`Loss`. It knows nothing of
networks, data or optimisers; a name in :data:`OBJECTIVES` is all that the command line needs, and its keyword-only
arguments become flags there.
"""

from __future__ import annotations

from disentangle_ext.objectives.ada_gvae import MLVAE, AdaGVAE, ada_gvae, ml_vae, share_posteriors
from disentangle_ext.objectives.annealed_vae import AnnealedVAE, annealed_vae
from disentangle_ext.objectives.base import AdversarialObjective, GroupObjective, Loss, Objective, PairObjective
from disentangle_ext.objectives.beta_tcvae import BetaTCVAE, beta_tcvae
from disentangle_ext.objectives.beta_vae import BetaVAE, beta_vae
from disentangle_ext.objectives.dcign import DCIGN, clamp_codes, dcign
from disentangle_ext.objectives.dip_vae import DIPVAEI, DIPVAEII, dip_penalty, dip_vae
from disentangle_ext.objectives.factor_vae import FactorVAE, discriminator_loss, factor_vae
from disentangle_ext.objectives.info_vae import InfoVAE, info_vae
from disentangle_ext.objectives.likelihood import LIKELIHOODS, bernoulli, gaussian, laplace, negative_log_likelihood
from disentangle_ext.objectives.vae import PlainAE, PlainVAE, ae, vae
from disentangle_ext.objectives.wae_mmd import WAEMMD, wae_mmd

__all__ = [
    "DCIGN",
    "DIPVAEI",
    "DIPVAEII",
    "LIKELIHOODS",
    "MLVAE",
    "OBJECTIVES",
    "WAEMMD",
    "AdaGVAE",
    "AdversarialObjective",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "FactorVAE",
    "GroupObjective",
    "InfoVAE",
    "Loss",
    "Objective",
    "PairObjective",
    "PlainAE",
    "PlainVAE",
    "ada_gvae",
    "ae",
    "annealed_vae",
    "bernoulli",
    "beta_tcvae",
    "beta_vae",
    "clamp_codes",
    "dcign",
    "dip_penalty",
    "dip_vae",
    "discriminator_loss",
    "factor_vae",
    "gaussian",
    "info_vae",
    "laplace",
    "ml_vae",
    "negative_log_likelihood",
    "share_posteriors",
    "vae",
    "wae_mmd",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "ada_gvae": AdaGVAE,
    "ae": PlainAE,
    "annealed_vae": AnnealedVAE,
    "beta_tcvae": BetaTCVAE,
    "beta_vae": BetaVAE,
    "dcign": DCIGN,
    "dip_vae_i": DIPVAEI,
    "dip_vae_ii": DIPVAEII,
    "factor_vae": FactorVAE,
    "info_vae": InfoVAE,
    "ml_vae": MLVAE,
    "vae": PlainVAE,
    "wae_mmd": WAEMMD,
}
"""The objectives by name."""

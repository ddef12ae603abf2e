"""What to minimise: each objective as a function and as a module with the same defaults.

An objective sees the output of a :class:`models.VAE` and the images, and returns a :class:`Loss`. It knows nothing of
networks, data or optimisers; a name in :data:`OBJECTIVES` is all that the command line needs, and its keyword-only
arguments become flags there.
"""

from __future__ import annotations

from disentangle_ext.objectives.base import Loss, Objective
from disentangle_ext.objectives.beta_tcvae import BetaTCVAE, beta_tcvae
from disentangle_ext.objectives.beta_vae import BetaVAE, beta_vae
from disentangle_ext.objectives.dip_vae import DIPVAEI, DIPVAEII, dip_penalty, dip_vae
from disentangle_ext.objectives.likelihood import LIKELIHOODS, bernoulli, gaussian, laplace, negative_log_likelihood

__all__ = [
    "DIPVAEI",
    "DIPVAEII",
    "LIKELIHOODS",
    "OBJECTIVES",
    "BetaTCVAE",
    "BetaVAE",
    "Loss",
    "Objective",
    "bernoulli",
    "beta_tcvae",
    "beta_vae",
    "dip_penalty",
    "dip_vae",
    "gaussian",
    "laplace",
    "negative_log_likelihood",
]

OBJECTIVES: dict[str, type[Objective]] = {
    "beta_tcvae": BetaTCVAE,
    "beta_vae": BetaVAE,
    "dip_vae_i": DIPVAEI,
    "dip_vae_ii": DIPVAEII,
}
"""The objectives by name."""

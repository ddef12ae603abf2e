"""What to minimise: each objective as a function and as a module with the same defaults.

An objective sees the output of a :class:`models.VAE` and the images, and returns a :class:`Loss`. It knows nothing of
networks, data or optimisers; a name in :data:`OBJECTIVES` is all that the command line needs, and its keyword-only
arguments become flags there.

In a loop of your own:

>>> model = build_vae("conv", (1, 32, 32), latent_dim=6, base_channels=4)
>>> optimizer = torch.optim.Adam(model.parameters(), 1e-4)
>>> images = torch.rand(16, 1, 32, 32)
>>> def update(loss, optimizer=optimizer):
...     optimizer.zero_grad()
...     loss.backward()
...     optimizer.step()
>>> update(vae(model(images), images).total)
>>> update(beta_vae(model(images), images, beta=4.0).total)
>>> update(beta_tcvae(model(images), images, dataset_size=1536, beta=6.0).total)
>>> update(info_vae(model(images), images, lambda_mmd=50.0).total)
>>> update(dip_vae(model(images), images, kind="ii", lambda_od=10.0).total)
>>> update(annealed_vae(model(images), images, step=0, c_max=25.0).total)

Autoencoders decode the mean:

>>> update(ae(model(images, sample=False), images).total)
>>> update(wae_mmd(model(images, sample=False), images, lambda_mmd=10.0).total)

FactorVAE alternates with its discriminator; neither loss has a gradient for the other side:

>>> discriminator = Discriminator(6, layers=3, width=64)
>>> output = model(images)
>>> update(factor_vae(output, images, discriminator=discriminator, gamma=35.0).total)
>>> its_loss = discriminator_loss(output.z, output.z, discriminator=discriminator)
>>> update(its_loss, torch.optim.Adam(discriminator.parameters(), 1e-4, betas=(0.5, 0.9)))

Pairs of images, the second half of the batch being the partners of the first, need the model itself, because what is
decoded are samples of the posteriors that they share; so does DC-IGN, whose codes are clamped before they are decoded:

>>> output, loss = ada_gvae(model, images, beta=1.0)
>>> update(loss.total)
>>> output, loss = ml_vae(model, images, beta=1.0)
>>> update(loss.total)
>>> active = torch.tensor([True, False, False, False, False, False])  # of the factor that varies in the batch
>>> output = model(images)
>>> output = output._replace(reconstruction=model.decoder(clamp_codes(output.z, active)))
>>> update(dcign(output, images, active=active).total)

A scale of the likelihood that is learned with the model (:func:`gaussian`):

>>> log_scale = torch.nn.Parameter(torch.zeros(()))
>>> both = torch.optim.Adam([*model.parameters(), log_scale], 1e-4)
>>> update(vae(model(images), images, likelihood="gaussian", scale=log_scale.exp()).total, both)
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

"""DC-IGN against its loss written out, and against the paper's rule for the gradient of the codes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_ext.models import VAE, build_vae
from disentangle_ext.objectives import DCIGN, clamp_codes, dcign

B, D = 6, 5
KEY = torch.tensor([1, 2])
FACES = ("identity", "azimuth", "elevation", "light")


def model() -> VAE:
    torch.manual_seed(0)
    return build_vae("mlp", (1, 4, 4), D, width=8).double()


def batch() -> Tensor:
    return torch.rand(B, 1, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def reference_of(z: Tensor, reference: str) -> Tensor:
    return (z.sum(0) / B if reference == "mean" else z[0]).detach()


@pytest.mark.parametrize("reference", ["mean", "first"])
@pytest.mark.parametrize("group", [0, 2, 3])
def test_loss_and_the_gradient_of_every_weight(group: int, reference: str) -> None:
    vae, images = model(), batch()
    objective = DCIGN(latent_dim=D, factor_names=FACES, strength=0.3, reference=reference)
    output, (total, terms) = objective.evaluate(vae, images, key=KEY, group=torch.tensor(group))
    mu, logvar = vae.encoder(images).chunk(2, 1)
    noise = ((output.z - output.mu) / (output.logvar / 2).exp()).detach()
    z = mu + (logvar / 2).exp() * noise
    active = {0: [0], 2: [2], 3: [3, 4]}[group]
    columns = [z[:, d] if d in active else reference_of(z, reference)[d].expand(B) for d in range(D)]
    p = vae.decoder(torch.stack(columns, 1)).sigmoid()
    recon = -(images * p.log() + (1 - images) * (1 - p).log()).sum() / B
    kl = (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).sum() / B
    inactive = [d for d in range(D) if d not in active]
    invariance = sum(((z[:, d] - reference_of(z, reference)[d]) ** 2).sum() / (2 * B) for d in inactive)
    assert list(terms) == ["reconstruction", "kl", "invariance"]
    weights = list(vae.parameters())
    want = (recon + kl + 0.3 * invariance, recon, kl, invariance)
    for mine, other in zip((total, *terms.values()), want, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)
        for a, b in zip(
            torch.autograd.grad(mine, weights, retain_graph=True, allow_unused=True),
            torch.autograd.grad(other, weights, retain_graph=True, allow_unused=True),
            strict=True,
        ):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("reference", ["mean", "first"])
def test_the_gradient_of_the_codes_is_the_papers_rule(reference: str) -> None:
    """Active latents keep the gradient of the reconstruction; that of the others is strength (z - reference)."""
    vae, images = model(), batch()
    z = torch.randn(B, D, dtype=torch.float64).requires_grad_()
    active = torch.tensor([False, True, False, False, False])
    clamped = clamp_codes(z, active, reference=reference)
    output = vae(images, key=KEY)._replace(z=z, reconstruction=vae.decoder(clamped))
    total = dcign(output, images, active=active, reference=reference).total
    (ours,) = torch.autograd.grad(total, z)

    leaf = clamped.detach().requires_grad_()
    recon = torch.nn.functional.binary_cross_entropy_with_logits(vae.decoder(leaf), images, reduction="sum") / B
    (theirs,) = torch.autograd.grad(recon, leaf)
    rule = torch.where(active, theirs, 0.01 * (z - reference_of(z, reference)) / B)
    torch.testing.assert_close(ours, rule, rtol=1e-10, atol=1e-14)


def test_groups_of_faces_and_of_other_sets() -> None:
    faces = DCIGN(latent_dim=D, factor_names=FACES)
    assert list(faces.groups) == ["azimuth", "elevation", "light", "intrinsic"]
    assert (faces.groups["intrinsic"], faces.weights) == (["identity"], {"intrinsic": 10.0})
    assert faces.active.long().tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]]
    assert faces.latents == {"azimuth": 0, "elevation": 1, "light": 2}
    other = DCIGN(latent_dim=D, factor_names=("scale", "x"))
    assert (list(other.groups), other.weights) == (["scale", "x"], {})
    assert other.active.long().tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]]
    chosen = DCIGN(latent_dim=3, factor_names=("scale", "x", "y"), extrinsic=("y",))
    assert chosen.groups == {"y": ["y"], "intrinsic": ["scale", "x"]}
    assert chosen.latents == {"y": 0}
    assert chosen.active.long().tolist() == [[1, 0, 0], [0, 1, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor_names": ()}, "DCIGN: the data set must have factors"),
        ({"extrinsic": ("azimut",)}, "DCIGN: unknown extrinsic factor 'azimut': did you mean 'azimuth'"),
        ({"extrinsic": ("light", "light")}, "DCIGN: extrinsic must name each factor once, got light, light"),
        ({"latent_dim": 3}, "DCIGN: latent_dim must be at least 4, one a group, got 3"),
        ({"likelihood": "gausian"}, "DCIGN: unknown likelihood 'gausian': did you mean 'gaussian'"),
        ({"likelihood": "gaussian", "scale": -3.0}, "DCIGN: scale must be greater than 0 and finite, got -3"),
        ({"reference": "men"}, "DCIGN: unknown reference 'men': did you mean 'mean'"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DCIGN(**{"latent_dim": D, "factor_names": FACES, **options})
    with pytest.raises(ValueError, match="DCIGN: group must say which factors vary in the batch, got None"):
        DCIGN(latent_dim=D, factor_names=FACES).evaluate(model(), batch())

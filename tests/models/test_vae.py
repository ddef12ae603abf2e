"""The model as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from disentangle_ext.models import VAE, build_vae

SHAPE = (1, 32, 32)


def key(seed: int) -> Tensor:
    return torch.tensor([seed, 0])


@pytest.fixture
def model() -> VAE:
    torch.manual_seed(0)
    return build_vae("conv", SHAPE, 5, base_channels=4)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_forward_joins_its_parts(model: VAE, images: Tensor) -> None:
    output = model(images, key=key(3))
    mu, logvar = model.encode(images)
    torch.testing.assert_close(output.mu, mu)
    torch.testing.assert_close(output.logvar, logvar)
    torch.testing.assert_close(output.reconstruction, model.decoder(output.z))
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mu, (0.5 * logvar).exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum(1)
    torch.testing.assert_close(output.kl, kl)


def test_means_come_before_logvars(images: Tensor) -> None:
    class Encoder(torch.nn.Linear):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[1.0, 2.0, -3.0, -4.0]]).expand(len(images), 4)

    mu, logvar = VAE(Encoder(1, 1), torch.nn.Identity(), 2).encode(images)
    assert mu[0].tolist() == [1.0, 2.0]
    assert logvar[0].tolist() == [-3.0, -4.0]


def test_noise_follows_from_the_key(model: VAE, images: Tensor) -> None:
    first, again, other = (model(images, key=key(seed)).z for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    drawn = [model(images, generator=torch.Generator().manual_seed(seed)).z for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_bytes_are_read_as_pixels(model: VAE) -> None:
    pixels = torch.randint(256, (3, *SHAPE), dtype=torch.uint8)
    torch.testing.assert_close(model.encode(pixels)[0], model.encode(pixels.float() / 255)[0])
    assert model.traverse(pixels, 0).shape == (3, 9, *SHAPE)


def test_encode_refuses_what_is_no_image(model: VAE) -> None:
    with pytest.raises(ValueError, match=r"VAE.encode: images must be \[B, 1, 32, 32\], got \(3, 1, 64, 64\)"):
        model.encode(torch.rand(3, 1, 64, 64))
    with pytest.raises(ValueError, match=r"got \(1, 32, 32\)"):
        model.encode(torch.rand(SHAPE))
    with pytest.raises(TypeError, match=r"floating point in .* or uint8, got torch.int64"):
        model.encode(torch.zeros(3, *SHAPE, dtype=torch.int64))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "laplace"])
def test_decode_gives_pixel_means(likelihood: str) -> None:
    model = build_vae("mlp", (1, 4, 4), 2, likelihood=likelihood, width=8)
    z = 50 * torch.randn(64, 2)
    raw = model.decoder(z)
    assert raw.min() < 0
    want = raw.sigmoid() if likelihood == "bernoulli" else raw.clamp(0, 1)
    torch.testing.assert_close(model.decode(z), want)
    with pytest.raises(ValueError, match=r"VAE.decode: z must be \[B, 2\], got \(64, 3\)"):
        model.decode(torch.randn(64, 3))


@pytest.mark.parametrize("dim", [2, -3])
def test_traverse_moves_one_latent(model: VAE, images: Tensor, dim: int) -> None:
    values = [-1.5, 0.0, 2.5]
    frames = model.traverse(images, dim, values=values)
    assert frames.shape == (3, 3, *SHAPE)
    assert not frames.requires_grad
    for column, value in enumerate(values):
        z = model.encode(images)[0].clone()
        z[:, 2] = value
        torch.testing.assert_close(frames[:, column], model.decode(z))


def test_traverse_by_default_spans_two_deviations(model: VAE, images: Tensor) -> None:
    torch.testing.assert_close(model.traverse(images, 0), model.traverse(images, 0, values=torch.linspace(-2, 2, 9)))
    with pytest.raises(IndexError, match="dim must be below latent_dim = 5, got 5"):
        model.traverse(images, 5)
    with pytest.raises(ValueError, match=r"VAE.traverse: images must be \[B, 1, 32, 32\], got \(1, 32, 32\)"):
        model.traverse(images[0], 0)


def test_architecture_makes_the_model_again(model: VAE, images: Tensor) -> None:
    assert model.architecture is not None
    again = build_vae(**{**model.architecture, "image_shape": tuple(model.architecture["image_shape"])})
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.encode(images)[0], model.encode(images)[0])


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="build_vae: unknown network 'convs': did you mean 'conv'"):
        build_vae("convs", SHAPE)
    with pytest.raises(ValueError, match="VAE: unknown likelihood 'gausian': did you mean 'gaussian'"):
        build_vae("conv", SHAPE, likelihood="gausian")


def test_own_networks(images: Tensor) -> None:
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1024, 6))
    decoder = torch.nn.Sequential(torch.nn.Linear(3, 1024), torch.nn.Unflatten(1, SHAPE))
    output = VAE(encoder, decoder, 3)(images)
    assert output.z.shape == (3, 3)
    assert output.reconstruction.shape == images.shape

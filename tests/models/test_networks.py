"""The networks have the layers that the papers state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from disentangle_ext.models import (
    BurgessDecoder,
    BurgessEncoder,
    ConvDecoder,
    ConvEncoder,
    MLPDecoder,
    MLPEncoder,
    build_vae,
)
from disentangle_ext.models.conv import ToImage


def convolutions(module: nn.Module) -> list[tuple[int, int, int, int]]:
    """(in, out, kernel, stride) of each convolution."""
    layers = [each for each in module.modules() if isinstance(each, (nn.Conv2d, nn.ConvTranspose2d))]
    return [(each.in_channels, each.out_channels, each.kernel_size[0], each.stride[0]) for each in layers]


def linears(module: nn.Module) -> list[tuple[int, int]]:
    return [(each.in_features, each.out_features) for each in module.modules() if isinstance(each, nn.Linear)]


def test_study_encoder() -> None:
    encoder = ConvEncoder((3, 64, 64), 10)
    assert convolutions(encoder) == [(3, 32, 4, 2), (32, 32, 4, 2), (32, 64, 2, 2), (64, 64, 2, 2)]
    assert linears(encoder) == [(1024, 256), (256, 20)]
    assert encoder(torch.rand(2, 3, 64, 64)).shape == (2, 20)


def test_study_decoder() -> None:
    decoder = ConvDecoder((3, 64, 64), 10)
    assert linears(decoder) == [(10, 256), (256, 1024)]
    assert convolutions(decoder) == [(64, 64, 4, 2), (64, 32, 4, 2), (32, 32, 4, 2), (32, 3, 4, 2)]
    assert decoder(torch.rand(2, 10)).shape == (2, 3, 64, 64)


def test_encoder_of_4x4_kernels() -> None:
    encoder = ConvEncoder((1, 64, 64), 10, kernels="4x4")
    assert convolutions(encoder) == [(1, 32, 4, 2), (32, 32, 4, 2), (32, 64, 4, 2), (64, 64, 4, 2)]
    assert encoder(torch.rand(2, 1, 64, 64)).shape == (2, 20)


def test_burgess() -> None:
    encoder, decoder = BurgessEncoder((3, 64, 64), 10), BurgessDecoder((3, 64, 64), 10)
    assert convolutions(encoder) == [(3, 32, 4, 2), *[(32, 32, 4, 2)] * 3]
    assert linears(encoder) == [(512, 256), (256, 256), (256, 20)]
    assert linears(decoder) == [(10, 256), (256, 256), (256, 512)]
    assert convolutions(decoder) == [*[(32, 32, 4, 2)] * 3, (32, 3, 4, 2)]
    images = decoder(encoder(torch.rand(4, 3, 64, 64))[:, :10])
    assert images.shape == (4, 3, 64, 64)
    assert images.min() < 0 < images.max()
    assert not encoder.posterior.bias.any()
    small = build_vae("burgess", (1, 32, 32), 6, init="torch")
    assert len(convolutions(small.encoder)) == len(convolutions(small.decoder)) == 3
    assert small.encoder.posterior.bias.any()
    assert small(torch.rand(2, 1, 32, 32)).reconstruction.shape == (2, 1, 32, 32)
    with pytest.raises(ValueError, match="BurgessEncoder: image_shape"):
        BurgessEncoder((1, 48, 48), 10)
    with pytest.raises(ValueError, match="BurgessDecoder: unknown init 'glorrot'"):
        BurgessDecoder((1, 64, 64), 10, init="glorrot")


@pytest.mark.parametrize("kernels", ["study", "4x4"])
def test_pair_for_32_pixels(kernels: str) -> None:
    model = build_vae("conv", (1, 32, 32), 6, base_channels=8, kernels=kernels)
    size = 2 if kernels == "study" else 4
    assert convolutions(model.encoder) == [(1, 8, 4, 2), (8, 8, 4, 2), (8, 16, size, 2)]
    assert convolutions(model.decoder) == [(16, 8, 4, 2), (8, 8, 4, 2), (8, 1, 4, 2)]
    assert model(torch.rand(2, 1, 32, 32)).reconstruction.shape == (2, 1, 32, 32)


def test_no_activation_after_the_last_layers() -> None:
    """Both ends must reach either sign: a ReLU at the end would cut one off."""
    torch.manual_seed(0)
    encoder, decoder = ConvEncoder((1, 32, 32), 6), ConvDecoder((1, 32, 32), 6)
    for output in (encoder(torch.rand(8, 1, 32, 32)), decoder(torch.randn(8, 6))):
        assert output.min() < 0 < output.max()


def test_chen_mlp() -> None:
    encoder, decoder = MLPEncoder((1, 64, 64), 10), MLPDecoder((1, 64, 64), 10)
    assert linears(encoder) == [(4096, 1200), (1200, 1200), (1200, 20)]
    assert linears(decoder) == [(10, 1200), (1200, 1200), (1200, 1200), (1200, 4096)]
    kinds = [type(each) for each in (*encoder.layers, *decoder.layers)]
    assert kinds.count(nn.ReLU) == 2
    assert kinds.count(nn.Tanh) == 3
    assert decoder(encoder(torch.rand(2, 1, 64, 64))[:, :10]).shape == (2, 1, 64, 64)


def test_conv_starts_glorot_uniform() -> None:
    encoder = ConvEncoder((1, 64, 64), 10)
    second = [each for each in encoder.modules() if isinstance(each, nn.Conv2d)][1]
    bound = (6 / (32 * 16 + 32 * 16)) ** 0.5
    assert second.weight.abs().max() <= bound
    assert second.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    head_bound = (6 / (256 + 10)) ** 0.5
    assert 0.97 * head_bound < encoder.posterior.weight.abs().max() <= head_bound
    for layer in encoder.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            assert layer.bias is not None
            assert not layer.bias.any()


def test_conv_can_start_as_torch_does() -> None:
    torch.manual_seed(5)
    encoder = ConvEncoder((1, 64, 64), 10, init="torch")
    torch.manual_seed(5)
    first = nn.Conv2d(1, 32, 4, 2, 1)
    assert torch.equal(encoder.convolutions[0].weight, first.weight)
    assert torch.equal(encoder.convolutions[0].bias, first.bias)
    torch.manual_seed(5)
    decoder = ConvDecoder((1, 64, 64), 10, init="torch")
    torch.manual_seed(5)
    assert torch.equal(decoder.hidden[0].weight, nn.Linear(10, 256).weight)


@pytest.mark.parametrize("shape", [(1, 48, 48), (1, 64, 32), (1, 128, 128)])
def test_conv_refuses_other_sizes(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"ConvEncoder: image_shape must be .* got \(1, \d+, \d+\).*'mlp'"):
        ConvEncoder(shape, 10)
    with pytest.raises(ValueError, match="ConvDecoder: image_shape"):
        ConvDecoder(shape, 10)


def test_mlp_takes_any_size() -> None:
    assert build_vae("mlp", (2, 5, 7), 3, width=8)(torch.rand(4, 2, 5, 7)).reconstruction.shape == (4, 2, 5, 7)


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="ConvEncoder: unknown kernels '4×4'"):
        ConvEncoder((1, 64, 64), 10, kernels="4×4")
    with pytest.raises(ValueError, match="base_channels must be at least 1, got 0"):
        ConvEncoder((1, 64, 64), 10, base_channels=0)
    with pytest.raises(ValueError, match="ConvDecoder: unknown init 'glorrot': did you mean 'glorot'"):
        ConvDecoder((1, 64, 64), 10, init="glorrot")
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        MLPDecoder((1, 64, 64), 10, width=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
def test_the_last_layer_is_a_deconvolution(
    channels: int, memory_format: torch.memory_format, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    plain = nn.ConvTranspose2d(8, channels, 4, 2, 1).to(dtype)
    ours = ToImage(8, channels).to(dtype)
    ours.load_state_dict(plain.state_dict())
    maps = torch.randn(5, 8, 4, 6, dtype=dtype).to(memory_format=memory_format)
    upstream = torch.randn(5, channels, 8, 12, dtype=dtype)
    results = []
    for layer in (plain, ours):
        leaf = maps.clone().requires_grad_()
        images = layer(leaf)
        grads = torch.autograd.grad(images, (leaf, *layer.parameters()), upstream)
        results.append((images, *grads))
    for expected, result in zip(*results, strict=True):
        torch.testing.assert_close(result, expected, rtol=tolerance, atol=10 * tolerance)


def test_the_last_layer_composes() -> None:
    layer, maps = ToImage(3, 2).double(), torch.randn(2, 3, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (maps,))
    assert torch.autograd.gradgradcheck(layer, (maps,))
    torch.testing.assert_close(torch.func.vmap(layer)(maps[:, None])[:, 0], layer(maps))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = layer.float()(maps.float())
    assert images.dtype == torch.bfloat16
    images.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32

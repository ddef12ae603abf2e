"""The effects on sprites: what the study states, as a function of the row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from disentangle_ext.data import DSpritesLike

ROWS = torch.arange(0, 737_280, 8191)


def both(effect, **options):
    data = DSpritesLike(effect=effect, **options)
    sprites = DSpritesLike().images(ROWS).bool().expand(-1, 3, -1, -1)
    return data, data.images(ROWS), sprites


def test_color_is_one_bright_colour_per_image():
    data, images, sprites = both("color")
    assert data.image_shape == (3, 64, 64)
    assert (images[~sprites] == 0).all()
    colors = images.flatten(2).amax(2)
    assert torch.equal(images, torch.where(sprites, colors[:, :, None, None], 0))
    assert colors.min() >= 128
    assert colors.float().mean() == pytest.approx(191.5, abs=8)
    assert len(colors.unique(dim=0)) == len(ROWS)


def test_noise_is_uniform_where_there_is_no_sprite():
    data, images, sprites = both("noisy")
    assert (images[sprites] == 255).all()
    noise = images[~sprites].double()
    counts = torch.bincount(noise.long(), minlength=256)
    expected = len(noise) / 256
    assert ((counts - expected).square() / expected).sum() < 350  # chi-squared, 255 degrees of freedom
    clear = ~sprites[:2].flatten(2).any((0, 1))
    first, second = images[:2].double().flatten(2)[:, :, clear]
    pairs = [(first[0], first[1]), (first[1], first[2]), (first[0, 1:], first[0, :-1]), (first[0], second[0])]
    for one, other in pairs:
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.07
    assert data.image_shape == (3, 64, 64)


def test_texture_is_a_crop_inverted_under_the_sprite(tmp_path):
    flat = np.zeros((70, 80, 3), np.uint8)
    flat[..., 0] = np.arange(80)
    flat[..., 1] = np.arange(70)[:, None]
    Image.fromarray(flat).save(tmp_path / "gradient.png")
    _, images, sprites = both("texture", texture=tmp_path / "gradient.png")
    background = torch.where(sprites, 255 - images, images).int()
    lefts, tops, shades = set(), set(), set()
    for image in background:
        # Each channel is (crop + c) // 2: red rises by one in every second column, green in every second row.
        assert (image[0] == image[0, :1]).all()
        assert (image[1] == image[1, :, :1]).all()
        assert image[0, 0].diff().sum() in (31, 32)
        assert (image[2] == image[2, 0, 0]).all()
        lefts.add(tuple((image[0, 0] - image[0, 0, 0]).tolist()))
        shades.add(int(image[2, 0, 0]))
        tops.add(tuple((image[1, :, 0] - image[1, 0, 0]).tolist()))
    assert len(lefts) == len(tops) == 2
    assert len(shades) > 30
    assert max(shades) < 128


@pytest.mark.parametrize("effect", ["color", "noisy", "texture"])
def test_rows_are_fixed_and_samples_are_new(effect):
    data, images, _ = both(effect)
    assert torch.equal(data.images(ROWS.flip(0)), images.flip(0))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(DSpritesLike(effect=effect).images(ROWS[:3]), images[:3])
    factors = data.factors(ROWS)
    once, again, other = (data.sample_images(factors, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(once, again)
    assert (once != other).flatten(1).any(1).all()
    assert (once != images).flatten(1).any(1).all()
    assert data.images([]).shape == (0, 3, 64, 64)


def test_the_hash_is_that_of_unsigned_arithmetic():
    from disentangle_ext.data.sprites import _hash

    def mix(x):
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15)) * 0x846CA68B % 2**32
        return x ^ (x >> 16)

    for salt, place in ((0, 0), (737_279, 4095), (2**31 - 1, 1)):
        mixed = mix((mix(salt) + place) % 2**32)
        assert int(_hash(torch.tensor([salt]), place)) % 2**32 == mixed


def test_an_effect_keeps_the_quick_form_and_moves_with_the_device():
    data = DSpritesLike("quick", effect="texture")
    assert data.name == "dsprites_like (quick, texture)"
    assert data.images([0]).shape == (1, 3, 32, 32)
    assert data.to("meta").images([0]).device.type == "meta"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"effect": "noise"}, "DSpritesLike: unknown effect 'noise': did you mean 'noisy'"),
        ({"texture": "a.png"}, "DSpritesLike: texture is for effect 'texture', got effect 'none'"),
        ({"effect": "texture", "texture": "none.png"}, "there is no file none.png"),
        ({"effect": "texture", "texture": __file__}, r"test_sprites.py cannot be read as BMP"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DSpritesLike(**options)


def test_a_texture_must_be_as_large_as_the_images(tmp_path):
    Image.new("RGB", (63, 64)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"texture must be at least 64 x 64 pixels, .*small.png is 64 x 63"):
        DSpritesLike(effect="texture", texture=tmp_path / "small.png")

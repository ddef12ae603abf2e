"""Folders of images, and the digits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from disentangle_ext._errors import MistakeError
from disentangle_ext.data import ImageFolder, digits, image_folder

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    """Three images of different shapes and kinds, one in a folder of its own; and a text."""
    root = tmp_path / "pictures"
    (root / "more").mkdir(parents=True)
    wide = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(wide).save(root / "b.png")
    Image.fromarray(RNG.integers(0, 256, (40, 16), dtype=np.uint8)).save(root / "a.PNG")
    Image.new("RGBA", (64, 64), (255, 0, 0, 255)).save(root / "more" / "c.webp", lossless=True)
    (root / "notes.txt").write_text("no image")
    return root, wide


def test_images_are_cut_resized_and_in_the_order_of_their_paths(folder):
    root, wide = folder
    data = ImageFolder(root, size=16)
    assert [file.name for file in data.files] == ["a.PNG", "b.png", "c.webp"]
    assert (len(data), data.image_shape, data.factor_names) == (3, (3, 16, 16), ())
    assert np.array_equal(data.images([1])[0].permute(1, 2, 0).numpy(), wide[:, 4:20])
    grey = data.images([0])[0]
    assert torch.equal(grey[0], grey[2])
    assert data.images([2])[0, :, 8, 8].tolist() == [255, 0, 0]
    assert ImageFolder(root, size=8, channels=1).images(range(3)).shape == (3, 1, 8, 8)
    with pytest.raises(ValueError, match=r"ImageFolder.index: pictures has no factors to find an image by"):
        data.index(torch.empty(1, 0, dtype=torch.int64))


def test_a_folder_is_read_again_only_after_a_change(folder, monkeypatch):
    root, _ = folder
    images = ImageFolder(root).images(range(3))
    monkeypatch.setattr(image_folder, "read_image", lambda *arguments: torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert torch.equal(ImageFolder(root).images(range(3)), images)
    Image.new("RGB", (9, 9)).save(root / "d.png")
    assert (ImageFolder(root).images(range(4)) == 0).all()


def test_wrong_folders_are_named(folder, tmp_path, cache):
    root, _ = folder
    for content in (b"", b"<html>", (root / "b.png").read_bytes()[:200]):
        (root / "z.png").write_bytes(content)
        with pytest.raises(ValueError, match=f"{root / 'z.png'} cannot be read as BMP, .* or WEBP: "):
            ImageFolder(root)
        assert not [path for path in cache.rglob("*") if path.is_file()]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"ImageFolder: .*empty holds no images: no file there ends in .apng"):
        ImageFolder(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="ImageFolder: there is no folder "):
        ImageFolder(tmp_path / "none")
    for options, message in (
        ({}, "path is not given"),
        ({"path": root, "channels": 2}, "channels must be 1 or 3, got 2"),
        ({"path": root, "size": 0}, "size must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=f"ImageFolder: {message}"):
            ImageFolder(**options)


def only(tmp_path, name, image, **options):
    """A folder with one image in it."""
    tmp_path.mkdir(exist_ok=True)
    image.save(tmp_path / name, **options)
    return tmp_path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_16_bits_keep_their_greys(tmp_path, name):
    wide = np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16
    data = ImageFolder(only(tmp_path / "wide", name, Image.fromarray(wide)), channels=1)
    assert np.array_equal(data.images([0])[0, 0].numpy(), np.rint(wide / 257).astype(np.uint8))


def test_the_orientation_that_a_camera_noted_is_followed(tmp_path):
    wide = RNG.integers(0, 65536, (8, 8), dtype=np.uint16)
    for orientation, turned in ((1, wide), (2, wide[:, ::-1]), (6, np.rot90(wide, -1)), (8, np.rot90(wide))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        folder = only(tmp_path / f"{orientation}", "a.png", Image.fromarray(wide), exif=exif)
        image = ImageFolder(folder, size=8, channels=1).images([0])[0, 0]
        assert np.array_equal(image.numpy(), np.rint(turned / 257).astype(np.uint8)), orientation


def test_transparent_pixels_have_no_colour_and_are_refused(tmp_path):
    half = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    assert ImageFolder(only(tmp_path / "opaque", "a.png", half)).images([0])[0, :, 8, 8].tolist() == [255, 0, 0]
    half.putpixel((3, 3), (255, 0, 0, 128))
    cases = {
        "a.png": (half, {}),
        "b.webp": (half, {"lossless": True}),
        "c.png": (half.convert("LA"), {}),
        "d.png": (Image.new("RGB", (8, 8), (1, 2, 3)), {"transparency": (1, 2, 3)}),
        "e.gif": (Image.new("P", (8, 8)), {"transparency": 0}),
        "f.png": (Image.fromarray(np.zeros((8, 8), np.uint16)), {"transparency": 0}),
    }
    for name, (image, options) in cases.items():
        folder = only(tmp_path / name, name, image, **options)
        with pytest.raises(MistakeError, match=f"{folder / name} has transparent pixels and no background.*flatten"):
            ImageFolder(folder)


@pytest.mark.parametrize(("dtype", "what"), [(np.float32, "floating-point"), (np.int32, "32-bit")])
def test_pixels_of_an_unknown_range_are_refused(tmp_path, dtype, what):
    folder = only(tmp_path / "tif", "a.tif", Image.fromarray(RNG.random((8, 8)).astype(dtype)))
    with pytest.raises(MistakeError, match=f"{folder / 'a.tif'} has {what} pixels, whose range is not known"):
        ImageFolder(folder)


def test_only_the_formats_that_are_asked_for_are_opened(tmp_path, monkeypatch):
    """A PostScript file would start an interpreter, whatever its name says."""
    folder = tmp_path / "pictures"
    only(folder, "a.png", Image.new("RGB", (8, 8)), format="EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", None)
    read = "cannot be read as BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP: "
    with pytest.raises(MistakeError, match=f"{folder / 'a.png'} {read}"):
        ImageFolder(folder)
    only(folder, "a.png", Image.new("RGB", (8, 8), (9, 9, 9)), format="JPEG")  # an innocent mix-up
    only(folder, "b.tga", Image.new("RGB", (8, 8), (7, 7, 7)))
    assert ImageFolder(folder).images([0])[0, :, 1, 1].tolist() == [9, 9, 9]
    assert [file.name for file in ImageFolder(folder, formats=("TGA", "JPEG", "PNG")).files] == ["a.png", "b.tga"]
    with pytest.raises(MistakeError, match=f"{folder / 'a.png'} cannot be read as PNG: "):
        ImageFolder(folder, formats=("PNG",))
    with pytest.raises(MistakeError, match="ImageFolder: unknown format 'png': did you mean 'PNG'"):
        ImageFolder(folder, formats=("png",))
    with pytest.raises(MistakeError, match=r"ImageFolder: formats must name at least one format, got \(\)"):
        ImageFolder(folder, formats=())


def test_digits_are_whole_and_labelled():
    data = digits()
    assert (len(data), data.image_shape, data.factor_sizes) == (1797, (1, 32, 32), (10,))
    images = data.images(range(1797))[:, 0]
    assert torch.equal(images[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2), images)
    assert (images.min(), images.max(), len(images.unique())) == (0, 255, 17)
    assert data.factors(range(10))[:, 0].tolist() == list(range(10))

"""Pictures are read back: every image must be there, pixel for pixel, in its place, and no text cut off."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from disentangle_ext.report import grid, save_reconstructions, save_rows, save_samples, save_traversals
from disentangle_ext.report import reconstructions as reconstructions_module
from disentangle_ext.report import traversals as traversals_module


def colours(rows, columns, height=16, width=16):
    """Images of one colour each, no two alike: [rows, columns, 3, height, width] in [0, 1]."""
    codes = torch.arange(rows * columns).view(rows, columns, 1)
    rgb = torch.cat([codes * 5 + 40, 200 - codes * 4, 60 + codes * 3], -1) / 255
    return rgb[..., None, None].expand(rows, columns, 3, height, width)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def box(page, image):
    """Top, left, height and width of the pixels with the colour of ``image``: a filled rectangle."""
    colour = (image[:, 0, 0] * 255).round().numpy().astype(np.uint8)
    places = np.argwhere((page == colour).all(-1))
    assert len(places), "the image is missing"
    (top, left), (bottom, right) = places.min(0), places.max(0) + 1
    assert len(places) == (bottom - top) * (right - left)
    return top, left, bottom - top, right - left


def test_traversals_stand_in_rows_in_the_order_given(tmp_path):
    rows = colours(3, 5, height=20, width=40)
    labels = ["z0  KL 2.1 nats", "z4  KL 1.0 nats", "z1  KL 0.0 nats"]
    save_traversals(tmp_path / "t.png", rows, labels, [-2, -1, 0, 1, 2])
    page = read(tmp_path / "t.png")
    boxes = np.array([[box(page, image) for image in row] for row in rows])
    assert (boxes[..., 2] == 60).all()
    assert (boxes[..., 3] == 120).all()
    assert (np.diff(boxes[..., 0], axis=0) == 60 + grid.GAP).all()
    assert (np.diff(boxes[..., 1], axis=1) == 120 + grid.GAP).all()
    assert (np.ptp(boxes[..., 0], axis=1) == 0).all()
    assert (np.ptp(boxes[..., 1], axis=0) == 0).all()


def test_rows_of_images_stand_under_their_title_in_the_order_given(tmp_path):
    both = colours(2, 6)
    grey = torch.full((2, 1, 16, 16), 17 / 255)
    save_rows(tmp_path / "r.png", {"a": both[0], "b": both[1][:3], "c": grey}, title="Rows")
    page = read(tmp_path / "r.png")
    first, second = (np.array([box(page, image) for image in row]) for row in (both[0], both[1][:3]))
    assert (page == 17).all(-1).sum() == 2 * first[0, 2] * first[0, 3]
    assert (first[:3, 1] == second[:, 1]).all()
    assert (second[:, 0] - first[:3, 0] == first[0, 2] + grid.GAP).all()
    with pytest.raises(ValueError, match=r"save_rows: rows must hold images of one size, got "):
        save_rows(tmp_path / "r.png", {"a": both[0], "b": both[1][..., :8, :]}, title="Rows")
    with pytest.raises(ValueError, match=r"save_rows: rows\['a'\] must be \[n, C, H, W\]"):
        save_rows(tmp_path / "r.png", {"a": both}, title="Rows")


def test_reconstructions_stand_under_their_images_and_wrap(tmp_path):
    both = colours(2, 7)
    save_reconstructions(tmp_path / "r.png", both[0], both[1], columns=4)
    page = read(tmp_path / "r.png")
    top, bottom = (np.array([box(page, image) for image in row]) for row in both)
    size = top[0, 2]
    assert (bottom[:, 0] - top[:, 0] == size + grid.GAP).all()
    assert (bottom[:, 1] == top[:, 1]).all()
    assert (top[4:, 1] == top[:3, 1]).all()
    assert (top[4:, 0] - bottom[:3, 0] == size + grid.GAP + grid.BREAK).all()


def test_traversals_from_several_images_stand_side_by_side_behind_them(tmp_path):
    rows, inputs = colours(2, 6).view(2, 2, 3, 3, 16, 16), colours(1, 14)[0, 12:]
    save_traversals(tmp_path / "t.png", rows, ["z0", "z1"], [-1, 0, 1], inputs=inputs)
    page = read(tmp_path / "t.png")
    boxes = np.array([[[box(page, image) for image in part] for part in row] for row in rows])
    step = boxes[0, 0, 1, 1] - boxes[0, 0, 0, 1]
    assert step == boxes[0, 0, 0, 3] + grid.GAP
    assert (np.diff(boxes[..., 1], axis=2) == step).all()
    assert (boxes[:, 1, 0, 1] - boxes[:, 0, 2, 1] == 2 * step + grid.BREAK).all()
    for start, image in enumerate(inputs):  # beside every row, so its pixels are in two places
        colour = (image[:, 0, 0] * 255).round().numpy().astype(np.uint8)
        places = np.argwhere((page == colour).all(-1))
        assert len(places) == 2 * boxes[0, 0, 0, 2] * boxes[0, 0, 0, 3]
        assert places[:, 1].min() == boxes[0, start, 0, 1] - step
    with pytest.raises(ValueError, match="save_traversals: inputs must be 2 images as large as those of rows, got"):
        save_traversals(tmp_path / "t.png", rows, ["z0", "z1"], [-1, 0, 1], inputs=inputs[:1])


def test_samples_fill_rows(tmp_path):
    images = colours(1, 7)[0]
    save_samples(tmp_path / "s.png", images, columns=3)
    boxes = np.array([box(read(tmp_path / "s.png"), image) for image in images])
    assert (boxes[::3, 1] == grid.MARGIN).all()
    assert (boxes[:3, 0] + boxes[0, 2] + grid.GAP == boxes[3:6, 0]).all()
    with pytest.raises(ValueError, match="save_samples: columns must be at least 1, got 0"):
        save_samples(tmp_path / "s.png", images, columns=0)


def test_a_caption_is_wrapped_at_words(tmp_path):
    image = grid.to_bytes(colours(1, 1)[0], "x")
    words = " ".join(f"word{i}" for i in range(60))
    drawn = grid.Grid([image], ["z0"], "T", f"first line\n{words}")
    assert drawn._captions[0] == "first line"
    assert " ".join(drawn._captions[1:]) == words
    assert len(drawn._captions) > 3
    assert max(drawn._width(line, grid.CAPTION) for line in drawn._captions) <= grid.NARROWEST
    assert drawn.render().shape[1] <= grid.NARROWEST + 2 * grid.MARGIN


def test_notes_stand_under_their_images_and_make_room_for_themselves():
    rows = [grid.to_bytes(row, "x") for row in colours(2, 2)]
    plain = grid.Grid(rows, ["a", "b"], "T").render()
    drawn = grid.Grid(rows, ["a", "b"], "T", notes=[["3", "5"], ["", "7"]])
    noted = drawn.render()
    assert noted.shape[0] == plain.shape[0] + 2 * grid.NOTE
    for row, column, is_there in ((0, 0, True), (0, 1, True), (1, 0, False), (1, 1, True)):
        top, left = drawn.tops[row] + drawn.cell[0], drawn.lefts[column]
        under = noted[top : top + grid.NOTE, left : left + drawn.cell[1]]
        assert (under != grid.PAGE).any() == is_there


@pytest.mark.parametrize("size", [28, 32, 64, 100, 256])
def test_every_pixel_of_an_image_is_shown_as_a_square_of_its_own(tmp_path, size):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(256, (1, 1, size, size), generator=generator, dtype=torch.uint8)
    save_reconstructions(tmp_path / "r.png", image, 255 - image, caption="")
    page = read(tmp_path / "r.png")
    zoom = max(1, round(112 / size))
    cell = np.kron(image[0, 0].numpy(), np.ones((zoom, zoom), np.uint8))
    left = page.shape[1] - grid.MARGIN - len(cell)
    bottom = page.shape[0] - grid.MARGIN
    top = bottom - 2 * len(cell) - grid.GAP
    for channel in range(3):
        np.testing.assert_array_equal(page[top : top + len(cell), left : left + len(cell), channel], cell)
        np.testing.assert_array_equal(page[bottom - len(cell) : bottom, left : left + len(cell), channel], 255 - cell)


@pytest.mark.parametrize("label", ["z0", "z128  KL 12.34 nats", "a label much longer than anyone would need it to be"])
@pytest.mark.parametrize("title", ["T", "A title that is by far longer than the pictures under it are wide"])
def test_the_page_grows_with_its_text(tmp_path, label, title):
    save_traversals(tmp_path / "t.png", colours(1, 1), [label], [0.5], title=title)
    page = read(tmp_path / "t.png")
    inside = page[8:-8, 8:-8]
    assert (inside != grid.PAGE).any()
    for edge in (page[:8], page[-8:], page[:, :8], page[:, -8:]):
        assert (edge == grid.PAGE).all()
    top, left, height, width = box(page, colours(1, 1)[0, 0])
    beside = page[top : top + height, :left]
    assert (beside != grid.PAGE).any()
    assert (beside[:, -grid.GAP :] == grid.PAGE).all()
    assert left + width <= page.shape[1] - grid.MARGIN


def test_dollars_are_not_formulas(tmp_path):
    text = r"$\nosuchcommand$"
    save_traversals(tmp_path / "t.png", colours(1, 1), [text], [0], title=text, caption=text)


def test_labels_values_title_and_caption_are_drawn(tmp_path):
    rows = torch.zeros(1, 2, 1, 32, 32)
    options = {"labels": ["z1"], "values": [-1, 1], "title": "A", "caption": "c"}
    save_traversals(tmp_path / "a.png", rows, **options)
    before = read(tmp_path / "a.png")
    for change in ({"labels": ["z7"]}, {"values": [-1, 2]}, {"title": "B"}, {"caption": "d"}):
        save_traversals(tmp_path / "b.png", rows, **options | change)
        after = read(tmp_path / "b.png")
        assert after.shape != before.shape or (after != before).any(), change


def test_the_default_caption_states_the_range(tmp_path, monkeypatch):
    captions = []
    for module in (reconstructions_module, traversals_module):
        monkeypatch.setattr(module, "write_png", lambda path, drawn, **_: captions.append(drawn.caption))
    save_traversals(tmp_path / "t.png", torch.zeros(1, 3, 1, 8, 8), ["z0"], torch.linspace(-2.5, 2.5, 3))
    save_reconstructions(tmp_path / "r.png", torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 8))
    save_reconstructions(tmp_path / "r.png", torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    assert "from \N{MINUS SIGN}2.5 to 2.5" in captions[0]
    assert captions[1:] == ["4 images, each above its reconstruction", "An image above its reconstruction"]


def test_floats_are_clipped_and_every_float_type_is_taken(tmp_path):
    image = torch.tensor([-0.5, 0.0, 0.5, 1.0, 7.0, 0.25]).view(1, 1, 2, 3)
    expected = torch.tensor([0, 0, 128, 255, 255, 64], dtype=torch.uint8).view(1, 1, 2, 3)
    np.testing.assert_array_equal(grid.to_bytes(image, "x")[0, ..., 0], expected[0, 0])
    for same in (image.double(), image.bfloat16(), image.half().requires_grad_(), image.numpy(), expected):
        np.testing.assert_array_equal(grid.to_bytes(same, "x")[0, ..., 2], expected[0, 0])


GREY = torch.zeros(2, 3, 1, 8, 8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: save_traversals(p, GREY[0], ["a"], [0]),
            r"save_traversals: rows must be \[L, steps, C, H, W\]",
        ),
        (lambda p: save_traversals(p, GREY, ["a"], [0, 1, 2]), "labels must name each of the 2 rows, got 1"),
        (
            lambda p: save_traversals(p, GREY, ["a", "b"], [0, 1]),
            "values must be 3 finite numbers, one per column",
        ),
        (lambda p: save_traversals(p, GREY, ["a", "b"], [0, 1, np.nan]), "values must be 3 finite numbers"),
        (lambda p: save_traversals(p, GREY * np.nan, ["a", "b"], [0, 1, 2]), "rows must be numbers, got NaN"),
        (
            lambda p: save_reconstructions(p, GREY[0], GREY[1][:2]),
            r"reconstructions must have the shape of images \[3, 1, 8, 8\], got \[2, 1, 8, 8\]",
        ),
        (
            lambda p: save_reconstructions(p, GREY[0].expand(3, 2, 8, 8), GREY[0]),
            "C = 1 or 3, not empty, got",
        ),
        (lambda p: save_reconstructions(p, GREY[0, :0], GREY[0, :0]), r"not empty, got \[0, 1, 8, 8\]"),
        (lambda p: save_reconstructions(p, GREY[0], GREY[0], columns=0), "columns must be at least 1, got 0"),
        (
            lambda p: save_reconstructions(str(p) + ".jpg", GREY[0], GREY[0]),
            r"path must end in .png, got '.*.jpg'",
        ),
    ],
)
def test_errors_name_the_argument(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_integers_other_than_bytes_are_refused(tmp_path):
    with pytest.raises(TypeError, match="images must be floats in \\[0, 1\\] or uint8, got int64"):
        save_reconstructions(tmp_path / "x.png", GREY[0].long(), GREY[0])


@pytest.mark.forks
def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, disentangle_ext.report; sys.exit('matplotlib' in sys.modules or 'PIL' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = r'save_reconstructions needs matplotlib: pip install "disentangle_ext\[report\]"'
    with pytest.raises(ImportError, match=message):
        save_reconstructions(tmp_path / "r.png", GREY[0], GREY[0])


class Elsewhere(torch.Tensor):
    """A tensor that NumPy cannot read before it is in host memory."""

    def __array__(self, *_):
        raise TypeError("not in host memory")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16])
def test_images_come_from_any_device(dtype):
    image = torch.ones(1, 1, 4, 4, dtype=dtype)
    np.testing.assert_array_equal(grid.to_bytes(image.as_subclass(Elsewhere), "x"), grid.to_bytes(image, "x"))

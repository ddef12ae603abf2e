"""Sweeps are read back: every image in its place; and those of a model start where there is room on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from disentangle_ext.data import load_data
from disentangle_ext.models import build_vae
from disentangle_ext.report import Subject, save_sweeps, sweeps


def tint(red: Tensor) -> Tensor:
    """Images of one colour each [..., 3, 16, 16]: no text has these."""
    return torch.stack([red, 255 - red, red // 2], -1)[..., None, None].expand(*red.shape, 3, 16, 16)


def find_tint(page: np.ndarray, red: int) -> np.ndarray:
    return np.argwhere((page == (red, 255 - red, red // 2)).all(-1))


def places(page: np.ndarray, red: int) -> tuple[int, int]:
    """Where the only square of a tint begins."""
    found = find_tint(page, red)
    (top, left), (bottom, right) = found.min(0), found.max(0) + 1
    assert len(found) == (bottom - top) * (right - left) == 112**2
    return int(top), int(left)


def test_every_image_has_its_rows_one_below_the_other(tmp_path: Path) -> None:
    reds = torch.arange(2 * 2 * 3, dtype=torch.uint8).view(2, 2, 3) * 7 + 20
    rows, inputs = tint(reds), tint(torch.tensor([150, 180], dtype=torch.uint8))
    values = torch.tensor([[-1.0, 0, 1], [2, 3, 4]])
    save_sweeps(tmp_path / "s.png", rows, ["azimuth  z0", "light  z1"], values, inputs=inputs)
    page = np.asarray(Image.open(tmp_path / "s.png").convert("RGB"))
    found = [[[places(page, int(red)) for red in row] for row in reds[:, n]] for n in range(2)]
    tops, lefts = np.array(found)[..., 0], np.array(found)[..., 1]
    assert (np.ptp(tops, axis=2) == 0).all()
    assert (np.diff(tops[..., 0].reshape(-1)) > 112).all(), "image by image, latent by latent"
    assert (np.ptp(lefts.reshape(4, 3), axis=0) == 0).all()
    assert (np.diff(lefts, axis=2) > 0).all()
    for n, red in enumerate((150, 180)):
        mine = find_tint(page, red)
        assert len(mine) == 2 * 112**2
        assert mine[:, 0].min() == tops[n].min()
        assert mine[:, 0].max() == tops[n].max() + 111
        assert mine[:, 1].max() < lefts.min()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": torch.zeros(2, 3, 1, 8, 8)}, r"save_sweeps: rows must be \[L, n, steps, C, H, W\]"),
        ({"labels": ["a"]}, "save_sweeps: labels must name each of the 2 latents, got 1"),
        ({"values": torch.zeros(3)}, r"save_sweeps: values must be finite and \[2, 3\], .* got \[3\]"),
        ({"inputs": torch.zeros(2, 1, 8, 8)}, r"save_sweeps: inputs must be 1 images as large as those of rows"),
    ],
)
def test_errors(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    options = {"rows": torch.zeros(2, 1, 3, 1, 8, 8), "labels": ["a", "b"], "values": torch.zeros(2, 3)}
    options |= {"inputs": torch.zeros(1, 1, 8, 8), **change}
    with pytest.raises(ValueError, match=message):
        save_sweeps(tmp_path / "s.png", **options)


def test_sweeps_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a set without held-out images: the range is that of the codes, the start the middle of what is swept."""
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        sweeps,
        "save_sweeps",
        lambda path, rows, labels, values, **options: drawn.update(rows=rows, labels=labels, values=values, **options),
    )
    data = load_data("dsprites_like", variant="quick")
    torch.manual_seed(0)
    model = build_vae("conv", data.image_shape, 4, base_channels=4).eval()
    subject = Subject(model, data, "a model", use=torch.zeros(4), points=0, own={"position_x": 1, "position_y": 3})
    sweeps.draw_sweeps(subject, tmp_path / "s.png")
    with torch.no_grad():
        codes = model.encode(data.batch(torch.arange(len(data))))[0]
    for values, latent in zip(drawn["values"], (1, 3), strict=True):
        ends = torch.quantile(codes[:, latent], torch.tensor([0.01, 0.99]))
        torch.testing.assert_close(values[[0, -1]], ends)
    assert drawn["labels"] == ["position_x  z1", "position_y  z3"]
    assert "of the training data" in drawn["caption"]
    middle = [find(data.images(data.index([[scale, 8, 8]])), drawn["inputs"]) for scale in range(6)]
    assert sorted(place for place in middle if place is not None) == [0, 1, 2], "three different scales"
    torch.testing.assert_close(drawn["rows"][1], model.traverse(drawn["inputs"], 3, values=drawn["values"][1]))


def find(image: Tensor, among: Tensor) -> int | None:
    same = (image / 255 == among).flatten(1).all(1).nonzero()
    return int(same[0]) if len(same) else None


def test_no_latent_of_its_own(tmp_path: Path) -> None:
    data = load_data("dsprites_like", variant="quick")
    model = build_vae("mlp", data.image_shape, 2, width=4)
    with pytest.raises(ValueError, match="report: sweeps: no latent of this model belongs to a factor"):
        sweeps.draw_sweeps(Subject(model, data, "a model", use=torch.zeros(2), points=0), tmp_path / "s.png")

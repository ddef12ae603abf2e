"""Every picture of a subject shows and states what it claims."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from disentangle_ext.data import ArrayData, load_data
from disentangle_ext.report import PICTURES, animation, draw, reconstructions, samples, traversals
from disentangle_ext.report.pictures import describe, fitting
from disentangle_ext.report.subject import middle_row

STATED = {"traversals": traversals, "animation": animation, "reconstructions": reconstructions, "samples": samples}


def call(monkeypatch, subject, name):
    """The arguments that a picture is drawn with."""
    calls = []
    monkeypatch.setattr(STATED[name], f"save_{name}", lambda *arguments, **options: calls.append((arguments, options)))
    PICTURES[name].draw(subject, None)
    ((arguments, options),) = calls
    return (*arguments[1:], options)


def thirds(images):
    """The latents that Bars has drawn, from [.., C, H, W]."""
    return (images[..., 0, 0, [0, images.shape[-1] // 2, -1]] - 0.5) * 16


@pytest.mark.parametrize("limit", [2.0, 3.5])
def test_traversals_decode_the_stated_value_of_the_stated_latent_and_nothing_else(monkeypatch, make_subject, limit):
    subject = make_subject(limit=limit)
    rows, labels, values, options = call(monkeypatch, subject, "traversals")
    assert labels == ["z2  KL 2.00 nats", "z0  KL 0.50 nats", "z1  KL 0.00 nats"]
    torch.testing.assert_close(values, torch.linspace(-limit, limit, 9))
    means, _ = subject.model.encode(options["inputs"])
    torch.testing.assert_close(options["inputs"][:1], subject.data.batch(middle_row(subject.data)))
    assert rows.shape == (3, 2, 9, 1, 32, 32)
    for row, dim in enumerate((2, 0, 1)):
        want = means[:, None].repeat(1, 9, 1)
        want[..., dim] = values
        torch.testing.assert_close(thirds(rows[row]), want, atol=1e-4, rtol=0)
    stated = f"from \N{MINUS SIGN}{limit:g} to {limit:g}"
    for part in (subject.name, stated, "posterior mean", "rows by the mean KL over 9 images"):
        assert part in options["caption"]


def test_the_animation_decodes_what_it_states(monkeypatch, make_subject):
    subject = make_subject(limit=3)
    rows, labels, values, options = call(monkeypatch, subject, "animation")
    assert labels == subject.labels
    images = subject.data.batch(subject.random_rows(5))
    want = subject.model.encode(images)[0][:, None].repeat(1, len(values), 1)
    want[..., 2] = values
    torch.testing.assert_close(thirds(rows[0]), want, atol=1e-4, rtol=0)
    assert "from \N{MINUS SIGN}3 to 3 and back" in options["caption"]


def test_reconstructions_are_those_of_posterior_means(monkeypatch, make_subject):
    subject = make_subject()
    images, pixels, options = call(monkeypatch, subject, "reconstructions")
    assert len(images) == 10
    torch.testing.assert_close(thirds(pixels), subject.model.encode(images)[0], atol=1e-4, rtol=0)
    assert options["caption"].startswith(subject.name + "\n10 random images")


def test_samples_are_of_the_prior_and_repeat(monkeypatch, make_subject):
    subject = make_subject()
    codes = thirds(call(monkeypatch, subject, "samples")[0])
    assert codes.shape == (40, 3)
    assert abs(float(codes.mean())) < 0.3
    assert 0.8 < float(codes.std()) < 1.2
    torch.testing.assert_close(codes, thirds(call(monkeypatch, subject, "samples")[0]))
    assert not torch.equal(codes, thirds(call(monkeypatch, make_subject(seed=1), "samples")[0]))


def test_codes_without_noise_have_a_variance_and_no_kl(monkeypatch, make_subject):
    _, labels, _, options = call(monkeypatch, make_subject(deterministic=True), "traversals")
    assert labels[0] == "z2  variance 2.00"
    assert "KL" not in options["caption"]
    assert "posterior" not in options["caption"]


def test_unused_latents_keep_their_order(make_subject):
    subject = make_subject(use=torch.tensor([0.0, -1e-9, 0.0]))
    assert subject.order == [0, 2, 1]
    assert subject.labels[2] == "z1  KL 0.00 nats"


NO_FACTORS = ArrayData(np.arange(3 * 3 * 64 * 64, dtype=np.uint8).reshape(3, 3, 64, 64))


@pytest.mark.parametrize(
    "data", [None, load_data("shapes3d_like", variant="quick"), NO_FACTORS], ids=["grey", "colour", "no factors"]
)
def test_all_are_drawn_and_say_what_they_are_of(tmp_path, monkeypatch, make_subject, data):
    own = {} if data is NO_FACTORS else {(data or load_data("dsprites_like", variant="quick")).factor_names[0]: 1}
    subject = make_subject(data, metrics=[{"step": 1, "loss": 2.0}], own=own)
    assert draw(subject, tmp_path) == {}
    names = fitting(subject)
    assert names == [name for name in PICTURES if name not in ("factors", "sweeps") or own]
    assert {path.name for path in tmp_path.iterdir()} == {PICTURES[name].file for name in names}
    for name in names:
        with Image.open(tmp_path / PICTURES[name].file) as image:
            assert 300 < image.width < 2000
            assert 200 < image.height < 2000


def test_one_that_fails_leaves_the_others(tmp_path, make_subject):
    subject = make_subject(NO_FACTORS, metrics=[])
    failed = draw(subject, tmp_path, ["factors", "losses", "samples"])
    assert failed == {
        "factors": "factor_traversals: data must have factors, arrays has none",
        "losses": "save_losses: rows must hold at least one line of metrics, got none",
    }
    assert [path.name for path in tmp_path.iterdir()] == ["samples.png"]


def test_pictures_that_failed_alike_share_a_line():
    assert describe({"a": "x", "b": "y", "c": "x"}) == ["Not drawn: a, c: x", "Not drawn: b: y"]


def test_an_unknown_name(tmp_path, make_subject):
    with pytest.raises(ValueError, match="report: unknown picture 'traversal': did you mean 'traversals'"):
        draw(make_subject(), tmp_path, ["traversal"])

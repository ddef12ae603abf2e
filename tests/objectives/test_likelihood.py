"""Likelihoods against torch.distributions, values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Laplace, Normal

from disentangle_ext.objectives import PlainVAE, bernoulli, gaussian, laplace, negative_log_likelihood

Peer = Callable[[Tensor, Tensor, float], Tensor]

PEERS: dict[str, Peer] = {
    "bernoulli": lambda output, images, scale: Bernoulli(logits=output).log_prob(images),
    "gaussian": lambda output, images, scale: Normal(output, scale).log_prob(images),
    "laplace": lambda output, images, scale: Laplace(output, scale).log_prob(images),
}


@pytest.mark.parametrize(
    ("name", "scale"), [("bernoulli", 1.0), ("gaussian", 1.0), ("gaussian", 0.3), ("laplace", 1.0), ("laplace", 0.3)]
)
def test_against_torch_distributions(name: str, scale: float) -> None:
    torch.manual_seed(0)
    images = (torch.rand(5, 2, 3, 4, dtype=torch.float64) > 0.5).double()
    output = (3 * torch.randn(5, 2, 3, 4, dtype=torch.float64)).requires_grad_()
    ours = negative_log_likelihood(output, images, likelihood=name, scale=scale)
    theirs = -PEERS[name](output, images, scale).sum((1, 2, 3))
    assert ours.shape == (5,)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weight = torch.arange(1.0, 6.0, dtype=torch.float64)
    (a,) = torch.autograd.grad(ours @ weight, output)
    (b,) = torch.autograd.grad(theirs @ weight, output)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_logits_far_out_stay_finite() -> None:
    logits = torch.tensor([[[[-1000.0, 1000.0]]]])
    assert bernoulli(logits, torch.tensor([[[[0.0, 1.0]]]])).tolist() == [0.0]
    assert bernoulli(logits, torch.tensor([[[[1.0, 0.0]]]])).tolist() == [2000.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("function", [bernoulli, gaussian, laplace])
def test_half_outputs_are_summed_in_float32(function: Callable[..., Tensor], dtype: torch.dtype) -> None:
    """A sum of 4096 terms in bfloat16 would be off by percents."""
    output = torch.randn(2, 1, 64, 64).to(dtype)
    images = torch.rand(2, 1, 64, 64)
    ours = function(output, images)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, function(output.double(), images.double()).float(), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", ["gaussian", "laplace"])
def test_a_learned_scale_against_torch_distributions(name: str) -> None:
    torch.manual_seed(0)
    images, output = torch.rand(5, 2, 3, 4, dtype=torch.float64), torch.randn(5, 2, 3, 4, dtype=torch.float64)
    log_scale = torch.tensor(-0.7, dtype=torch.float64).requires_grad_()
    output.requires_grad_()
    ours = negative_log_likelihood(output, images, likelihood=name, scale=log_scale.exp())
    theirs = -PEERS[name](output, images, log_scale.exp()).sum((1, 2, 3))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    leaves = output, log_scale
    for a, b in zip(torch.autograd.grad(ours.sum(), leaves), torch.autograd.grad(theirs.sum(), leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("name", "power"), [("gaussian", 2), ("laplace", 1)])
def test_the_best_scale_is_that_of_the_errors(name: str, power: int) -> None:
    """Rybkin et al.: the gradient is zero where s^2 is the mean squared error; of Laplace's, s the mean absolute."""
    images, output = torch.rand(5, 1, 3, 4, dtype=torch.float64), torch.rand(5, 1, 3, 4, dtype=torch.float64)
    best = (images - output).abs().pow(power).mean().pow(1 / power)
    log_scale = best.log().requires_grad_()
    loss = negative_log_likelihood(output, images, likelihood=name, scale=log_scale.exp()).mean()
    (gradient,) = torch.autograd.grad(loss, log_scale)
    assert abs(gradient) < 1e-12
    for other in (0.9, 1.1):
        assert negative_log_likelihood(output, images, likelihood=name, scale=float(other * best)).mean() > loss


def test_the_scale_of_an_objective() -> None:
    fixed, learned = PlainVAE(likelihood="gaussian", scale=0.3), PlainVAE(likelihood="gaussian", scale="learned")
    assert (fixed.scale, fixed.likelihood_parameters(), fixed.state_dict(), fixed.measure(None)) == (0.3, [], {}, {})
    assert learned.likelihood_parameters() == list(learned.parameters()) == [learned.log_scale]
    assert learned.scale == 1
    with torch.no_grad():
        learned.log_scale.fill_(-2.0)
    assert float(learned.measure(None)["scale"]) == pytest.approx(0.1353, abs=1e-4)
    again = PlainVAE(likelihood="laplace", scale="learned")
    again.load_state_dict(learned.state_dict())
    assert again.scale == learned.scale


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "gausian"}, "PlainVAE: unknown likelihood 'gausian': did you mean 'gaussian'"),
        ({"scale": 2.0}, "PlainVAE: scale must be 1 for likelihood 'bernoulli', got 2.0"),
        ({"scale": "learned"}, "PlainVAE: scale must be 1 for likelihood 'bernoulli', got learned"),
        ({"likelihood": "laplace", "scale": "learnt"}, "scale must be a number or 'learned', got 'learnt'"),
        ({"likelihood": "laplace", "scale": float("inf")}, "scale must be greater than 0 and finite, got inf"),
    ],
)
def test_an_objective_refuses_a_likelihood_at_once(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlainVAE(**options)


def test_errors() -> None:
    a, b = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 5)
    with pytest.raises(ValueError, match=r"bernoulli: .*shape of images \(2, 1, 4, 5\), got \(2, 1, 4, 4\)"):
        bernoulli(a, b)
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scale must be greater than 0"):
            gaussian(a, a, scale=scale)
    with pytest.raises(ValueError, match=r"laplace: scale must be a number or a scalar tensor, got shape \(2,\)"):
        laplace(a, a, scale=torch.ones(2))
    with pytest.raises(ValueError, match=r"scale must be 1 for likelihood 'bernoulli', got Tensor \(\)"):
        negative_log_likelihood(a, a, scale=torch.ones(()))
    with pytest.raises(ValueError, match="scale must be 1 for likelihood 'bernoulli', got float 2"):
        negative_log_likelihood(a, a, scale=2.0)
    with pytest.raises(ValueError, match="unknown likelihood 'bernouli': did you mean 'bernoulli'"):
        negative_log_likelihood(a, a, likelihood="bernouli")


FUNCTIONS = [bernoulli, gaussian, laplace]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bytes_are_images_as_a_model_takes_them(function: Callable[..., Tensor]) -> None:
    output, images = torch.randn(2, 1, 4, 4), torch.randint(256, (2, 1, 4, 4), dtype=torch.uint8)
    assert torch.equal(function(output, images), function(output, images / 255))
    masks = images > 100
    assert torch.equal(function(output, masks), function(output, masks.float()))
    with pytest.raises(TypeError, match=f"{function.__name__}: images must be floating point.*, got torch.int64"):
        function(output, images.long())


@pytest.mark.parametrize("function", FUNCTIONS)
def test_floats_up_to_255_are_refused(function: Callable[..., Tensor]) -> None:
    images = torch.linspace(0, 255, 32).view(2, 1, 4, 4)
    message = rf"{function.__name__}: images must be in \[0, 1\], got values from 0 to 255: pass images / 255$"
    with pytest.raises(ValueError, match=message):
        function(torch.randn(2, 1, 4, 4), images)
    with pytest.raises(ValueError, match=message):
        function(torch.randn(2, 1, 4, 4).half(), images.half())
    assert function(images[:0], images[:0]).shape == (0,)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("pixel", [torch.inf, -torch.inf, torch.nan])
def test_a_pixel_that_is_not_finite_is_left_to_the_loss(function: Callable[..., Tensor], pixel: float) -> None:
    images = torch.full((2, 1, 4, 4), 0.5)
    images[1, 0, 0, 0] = pixel
    assert function(torch.randn(2, 1, 4, 4), images).isfinite().tolist() == [True, False]


def test_what_is_no_image_in_bytes_is_told_as_such() -> None:
    """A Bernoulli has no pixels outside [0, 1]; the other two may be given images of another unit."""
    images = torch.linspace(-1, 2.5, 32).view(2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"bernoulli: images must be in \[0, 1\], got values from -1 to 2.5$"):
        bernoulli(images, images)
    for function in (gaussian, laplace):
        assert function(images, images).isfinite().all()
    assert bernoulli(images, torch.full_like(images, 1 + 1e-6)).isfinite().all()


def test_values_are_not_read_where_that_would_break_a_graph_or_a_transform() -> None:
    images = torch.linspace(0, 255, 32).view(2, 1, 4, 4)
    assert torch.func.vmap(bernoulli)(images[:, None], images[:, None]).shape == (2, 1)
    assert bernoulli(images.to("meta"), images.to("meta")).device.type == "meta"
    compiled = torch.compile(bernoulli, fullgraph=True, backend="eager")
    assert compiled(images, images).shape == (2,)

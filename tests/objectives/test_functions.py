"""What all objectives share: a function and a module with equal defaults, a loop of one's own, every likelihood."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Laplace, Normal

from disentangle_ext import objectives
from disentangle_ext.models import Discriminator, build_vae
from disentangle_ext.objectives import OBJECTIVES

FUNCTIONS = {name: getattr(objectives, "dip_vae" if name.startswith("dip") else name) for name in OBJECTIVES}

OF_THE_FUNCTION = {
    "ada_gvae": {"generator", "key", "process_group"},
    "annealed_vae": {"step", "process_group"},
    "beta_tcvae": {"process_group"},
    "dcign": {"active", "process_group"},
    "dip_vae_i": {"kind", "process_group"},
    "dip_vae_ii": {"kind", "process_group"},
    "factor_vae": {"discriminator"},
    "info_vae": {"generator", "key", "process_group"},
    "ml_vae": {"generator", "key", "process_group"},
    "wae_mmd": {"generator", "key", "process_group"},
}
"""What a call says, or whoever calls the function keeps."""

OF_THE_MODULE = {
    "ada_gvae": {"changes"},
    "dcign": {"latent_dim", "factor_names", "extrinsic"},
    "factor_vae": {
        *("latent_dim", "second_batch", "discriminator_layers", "discriminator_width"),
        *("discriminator_lr", "discriminator_betas"),
    },
    "ml_vae": {"changes"},
    "wae_mmd": {"encoding"},
}
"""What decides on batches, on codes, and on parameters of its own."""

B, D, SHAPE = 6, 3, (1, 4, 5)
KEY = torch.tensor([1, 2])


def keywords(make: Any) -> dict[str, Any]:
    parameters = inspect.signature(make).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_function_and_module_have_equal_defaults(name: str) -> None:
    of_function, of_module = keywords(FUNCTIONS[name]), keywords(OBJECTIVES[name])
    assert of_function.keys() - of_module.keys() == OF_THE_FUNCTION.get(name, set())
    assert of_module.keys() - of_function.keys() == OF_THE_MODULE.get(name, set())
    shared = of_function.keys() & of_module.keys()
    assert {"likelihood", "scale"} <= shared
    assert {each: of_function[each] for each in shared} == {each: of_module[each] for each in shared}


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_all_are_exported_and_documented(name: str) -> None:
    for each in (FUNCTIONS[name], OBJECTIVES[name]):
        assert each.__name__ in objectives.__all__
        doc = inspect.getdoc(each) or ""
        assert [option for option in keywords(each) if f"\n    {option}: " not in doc] == []


def test_the_documented_loop_runs() -> None:
    """The example of the package uses every function."""
    example = {**vars(objectives), "torch": torch, "build_vae": build_vae, "Discriminator": Discriminator}
    (found,) = doctest.DocTestFinder(recurse=False).find(objectives, globs=example)
    assert doctest.DocTestRunner().run(found).failed == 0
    assert [name for name in FUNCTIONS.values() if f"{name.__name__}(" not in found.docstring] == []


def evaluate(name: str, model: Any, images: Tensor, **options: Any) -> tuple[Any, Any]:
    """Output and loss of a function; DC-IGN clamps nothing here."""
    function = FUNCTIONS[name]
    if name in ("ada_gvae", "ml_vae"):
        return function(model, images, key=KEY, **options)
    output = model(images, key=KEY, sample=name not in ("ae", "wae_mmd"))
    own: dict[str, Any] = {
        "annealed_vae": {"step": 3},
        "beta_tcvae": {"dataset_size": 100},
        "dcign": {"active": torch.tensor([True, False, True])},
        "dip_vae_i": {"kind": "i"},
        "dip_vae_ii": {"kind": "ii"},
        "info_vae": {"key": KEY},
        "wae_mmd": {"key": KEY},
    }.get(name, {})
    if name == "factor_vae":
        torch.manual_seed(1)
        own = {"discriminator": Discriminator(D, layers=1, width=4).double()}
    return output, function(output, images, **own, **options)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "laplace"])
@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_every_likelihood_with_its_gradients(name: str, likelihood: str) -> None:
    """The total less its reconstruction is that of any other likelihood; the reconstruction is written out."""
    torch.manual_seed(0)
    model, images = build_vae("mlp", SHAPE, D, width=8).double(), torch.rand(B, *SHAPE, dtype=torch.float64)
    log_scale = torch.tensor(-0.5, dtype=torch.float64).requires_grad_()
    scale = 1.0 if likelihood == "bernoulli" else log_scale.exp()
    output, (total, terms) = evaluate(name, model, images, likelihood=likelihood, scale=scale)
    decoded = output.reconstruction
    peers = {
        "bernoulli": lambda: Bernoulli(logits=decoded, validate_args=False),
        "gaussian": lambda: Normal(decoded, scale),
        "laplace": lambda: Laplace(decoded, scale),
    }
    recon = -peers[likelihood]().log_prob(images).sum() / B
    _, plain = evaluate(name, model, images)
    rest = plain.total - plain.terms["reconstruction"]
    leaves = [*model.parameters(), *([] if likelihood == "bernoulli" else [log_scale])]
    for ours, theirs in ((terms["reconstruction"], recon), (total, recon + rest)):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        gradients = (torch.autograd.grad(each, leaves, retain_graph=True, allow_unused=True) for each in (ours, theirs))
        for a, b in zip(*gradients, strict=True):
            assert (a is None or not a.any()) == (b is None or not b.any())
            if a is not None and b is not None:
                torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_minimising_the_function_reduces_it(name: str) -> None:
    torch.manual_seed(0)
    model, images = build_vae("mlp", SHAPE, D, width=8).double(), torch.rand(B, *SHAPE, dtype=torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    totals = []
    for _ in range(10):
        _, loss = evaluate(name, model, images)
        totals.append(loss.total.item())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert totals[-1] < totals[0]

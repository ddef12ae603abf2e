"""What the raw ops register with the dispatcher: schema, fake, autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.ops.calls import (
    SHAPE,
    STACK,
)
from tests.ops.cases import Shape, key, posterior

pytestmark = pytest.mark.usefixtures("compiled")


def raw_arguments(shape: Shape, device: torch.device, dtype: torch.dtype = torch.float32) -> dict[str, list[tuple]]:
    """Arguments of every raw op: several sets, one for each branch of what may be None."""
    torch.manual_seed(1)
    lead = shape.leading
    z, mu, logvar = (t.to(dtype) for t in posterior(shape, device))
    component_mu, component_logvar = (t.to(dtype) for t in posterior(shape._replace(batch=shape.batch + 3), device)[1:])
    log_weight = component_mu[..., 0].contiguous()
    rows, k = z[..., 0].contiguous(), key(device)
    bandwidth = torch.tensor([0.5, 2.0], dtype=torch.float64, device=device)
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    raw = torch.ops.disentangle_ext
    log_qz, marginals = raw.aggregate_posterior(z, component_mu, component_logvar, log_weight, 0, 0, 0)
    outs = raw.elbo_decomposition(z, mu, logvar, None, None, 2, 1000, 0, 1)
    with_components = raw.elbo_decomposition(z, mu, logvar, component_mu, component_logvar, 1, 1000, 0, 0)
    value, grad_x, grad_y = raw.mmd(z, component_mu, bandwidth, 0, 1.0, False, True)
    batch_less = torch.ones(lead, dtype=wide, device=device)
    return {
        "rsample_kl": [(mu, logvar, k, False), (mu, logvar, k, True)],
        "rsample_kl_backward": [
            (z, rows.to(wide), mu, logvar, k, False),
            (z, None, mu, logvar, k, False),
            (None, z.to(wide), mu, logvar, k, True),
        ],
        "aggregate_posterior": [
            (z, component_mu, component_logvar, None, 0, 0, 0),
            (z, component_mu, component_logvar, log_weight, 0, 0, 0),
            (z, component_mu, component_logvar, None, 2, 1000, 2),
        ],
        "aggregate_posterior_backward": [
            (log_qz, marginals, z, component_mu, component_logvar, log_weight, log_qz, marginals, 0, 0, 0),
            (log_qz, None, z, component_mu, component_logvar, None, log_qz, marginals, 0, 0, 0),
        ],
        "elbo_decomposition": [
            (z, mu, logvar, None, None, 2, 1000, 0, 1),
            (z, mu, logvar, component_mu, component_logvar, 1, 1000, 0, 0),
        ],
        "elbo_decomposition_backward": [
            ([batch_less] * 7, z, mu, logvar, None, None, *outs[7:], 2, 1000, 0, 1),
            (
                [None, rows.to(wide), *[None] * 5],
                *(z, mu, logvar, component_mu, component_logvar),
                *with_components[7:],
                *(1, 1000, 0, 0),
            ),
        ],
        "mmd": [(z, component_mu, bandwidth, 0, 1.0, False, True), (z, component_mu, bandwidth, 3, 1.0, True, False)],
        "mmd_backward": [(value, z, component_mu, grad_x, grad_y)],
        "permute_dims": [(z, k), (z.long(), k)],
        "permute_dims_backward": [(z, k)],
    }


RAW_OPS = sorted(raw_arguments(SHAPE, torch.device("cpu"))) if hasattr(torch.ops.disentangle_ext, "mmd") else []
OPCHECKS = ("test_schema", "test_faketensor", "test_autograd_registration", "test_aot_dispatch_dynamic")


def test_every_raw_op_is_checked():
    names = {
        name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("disentangle_ext::")
    }
    assert names == set(RAW_OPS)


@pytest.mark.parametrize("name", RAW_OPS)
@pytest.mark.parametrize(
    ("shape", "dtype"), [(SHAPE, torch.float64), (SHAPE, torch.float32), (STACK, torch.bfloat16)], ids=str
)
def test_opcheck(name, shape, dtype, device):
    op = getattr(torch.ops.disentangle_ext, name).default
    for arguments in raw_arguments(shape, device, dtype)[name]:
        torch.library.opcheck(op, arguments, test_utils=OPCHECKS)


@pytest.mark.parametrize("name", [name for name in RAW_OPS if not name.endswith("_backward")])
def test_opcheck_with_gradients(name, device):
    op = getattr(torch.ops.disentangle_ext, name).default
    for arguments in raw_arguments(SHAPE, device, torch.float64)[name]:
        if name == "mmd" and not arguments[-1]:
            continue  # told not to prepare a gradient: see test_raw_errors.py
        # The bandwidth, the one floating-point argument without a gradient, is checked by the Python wrapper.
        leaves = [
            a.clone().requires_grad_() if isinstance(a, Tensor) and a.dim() == 2 and a.is_floating_point() else a
            for a in arguments
        ]
        torch.library.opcheck(op, tuple(leaves), test_utils=OPCHECKS)

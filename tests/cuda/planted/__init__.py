"""Mistakes planted into the kernels, to see that the tests of the ops catch them."""

from tests.cuda.planted import aggregate_posterior, mmd, permute_dims, rsample_kl
from tests.cuda.planted.plant import Plant

PLANTS: dict[str, tuple[Plant, ...]] = {
    "aggregate_posterior": aggregate_posterior.PLANTS,
    "mmd": mmd.PLANTS,
    "permute_dims": permute_dims.PLANTS,
    "rsample_kl": rsample_kl.PLANTS,
}

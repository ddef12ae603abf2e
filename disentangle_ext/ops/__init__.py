"""The fused ops: drop them into any PyTorch loss.

All take tensors first and everything else by keyword; leading dimensions are independent problems solved in one call;
float16, bfloat16, float32 and float64 are accepted, half types are computed in float32. All are differentiable once.
With ``process_group=`` an op sees the whole batch of which each rank holds a shard, and its gradient, averaged over
ranks, is that of one process.
"""

from disentangle_ext.ops.aggregate_posterior import aggregate_posterior
from disentangle_ext.ops.elbo_decomposition import ElboDecomposition, elbo_decomposition, total_correlation
from disentangle_ext.ops.mmd import MMDTest, mmd, mmd_test
from disentangle_ext.ops.permute_dims import permute_dims
from disentangle_ext.ops.rsample_kl import rsample_kl

__all__ = [
    "ElboDecomposition",
    "MMDTest",
    "aggregate_posterior",
    "elbo_decomposition",
    "mmd",
    "mmd_test",
    "permute_dims",
    "rsample_kl",
    "total_correlation",
]

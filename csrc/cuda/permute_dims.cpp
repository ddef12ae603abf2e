#include "cuda/permute_dims.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "common/problems_host.h"
#include "cuda/launch_host.h"

namespace disentangle_ext::cuda {
namespace {

using at::Tensor;

Tensor permute(const Tensor& z, const Tensor& key, bool inverse) {
  TORCH_CHECK(z.dim() >= 2, "permute_dims: z must be [.., B, D], got ", z.sizes());
  const Shape shape(z);
  TORCH_CHECK(shape.rows <= INT32_MAX, "permute_dims: at most 2^31 - 1 rows, got ", shape.rows);
  const int64_t columns_per_key = shape.rows ? elements_per_key(z, key, 2, "permute_dims") / shape.rows : 0;
  check_device(key, z, "permute_dims: key");
  const Tensor in = z.contiguous(), keys = key.contiguous();
  const Tensor out = at::empty_like(in);
  const int64_t size = in.element_size();
  TORCH_CHECK(size == 1 || size == 2 || size == 4 || size == 8 || size == 16, "permute_dims: elements of ", size,
              " bytes are not supported");
  if (out.numel() == 0) return out;
  const PermuteDims a{shape.problems,
                      shape.rows,
                      shape.D,
                      columns_per_key,
                      keys.const_data_ptr<int64_t>(),
                      inverse,
                      size,
                      in.const_data_ptr(),
                      out.mutable_data_ptr()};
  const PermutePlan plan = permute_plan(shape.rows);
  TORCH_CHECK(permute_blocks(a, plan) <= INT32_MAX, "permute_dims: too many elements: ", z.numel());
  const Launch launch(z);
  Tensor sorted_keys, sorted_rows;
  PermuteScratch scratch{};
  if (plan.merges()) {
    sorted_keys = at::empty({2, z.numel()}, keys.options());
    sorted_rows = at::empty({2, z.numel()}, keys.options().dtype(at::kInt));
    auto* const k = static_cast<uint64_t*>(sorted_keys.mutable_data_ptr());
    auto* const r = static_cast<uint32_t*>(sorted_rows.mutable_data_ptr());
    scratch = {{k, k + z.numel()}, {r, r + z.numel()}};
  }
  launch_permute_dims(a, plan, scratch, launch.stream);
  return out;
}

Tensor permute_dims_cuda(const Tensor& z, const Tensor& key) { return permute(z, key, false); }
Tensor permute_dims_backward_cuda(const Tensor& grad, const Tensor& key) { return permute(grad, key, true); }

}  // namespace
}  // namespace disentangle_ext::cuda

TORCH_LIBRARY_IMPL(disentangle_ext, CUDA, m) {
  m.impl("permute_dims", &disentangle_ext::cuda::permute_dims_cuda);
  m.impl("permute_dims_backward", &disentangle_ext::cuda::permute_dims_backward_cuda);
}

#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <complex>

#include "common/problems_host.h"
#include "cpu/parallel.h"
#include "cpu/permute_dims_kernels.h"

namespace disentangle_ext::cpu {
namespace {

using at::Tensor;

// Permutations move bits: one instance serves every dtype of a size.
template <typename F>
void dispatch_size(int64_t bytes, const F& f) {
  switch (bytes) {
    case 1: return f(uint8_t{});
    case 2: return f(uint16_t{});
    case 4: return f(uint32_t{});
    case 8: return f(uint64_t{});
    case 16: return f(std::complex<double>{});
    default: TORCH_CHECK(false, "permute_dims: elements of ", bytes, " bytes are not supported");
  }
}

Tensor permute(const Tensor& z, const Tensor& key, bool inverse) {
  TORCH_CHECK(z.dim() >= 2, "permute_dims: z must be [.., B, D], got ", z.sizes());
  const Shape shape(z);
  TORCH_CHECK(shape.rows <= INT32_MAX, "permute_dims: at most 2^31 - 1 rows, got ", shape.rows);
  const int64_t columns_per_key = shape.rows ? elements_per_key(z, key, 2, "permute_dims") / shape.rows : 0;
  const Tensor in = z.contiguous(), keys = key.contiguous();
  Tensor out = at::empty_like(in);
  if (out.numel() == 0) return out;
  dispatch_size(in.element_size(), [&](auto element) {
    using T = decltype(element);
    const T* source = static_cast<const T*>(in.const_data_ptr());
    T* target = static_cast<T*>(out.mutable_data_ptr());
    const int64_t* k = keys.const_data_ptr<int64_t>();
    run_tasks(shape.problems * shape.D, 4.0 * double(shape.rows), [&](int64_t column) {
      const int64_t stream = column / columns_per_key, at = column / shape.D * shape.rows * shape.D + column % shape.D;
      const auto move = inverse ? restore_column<T> : permute_column<T>;
      move({uint64_t(k[2 * stream]), uint64_t(k[2 * stream + 1])}, uint64_t(column % columns_per_key), source + at,
           target + at, shape.rows, shape.D);
    });
  });
  return out;
}

Tensor permute_dims_cpu(const Tensor& z, const Tensor& key) { return permute(z, key, false); }
Tensor permute_dims_backward_cpu(const Tensor& grad, const Tensor& key) { return permute(grad, key, true); }

}  // namespace
}  // namespace disentangle_ext::cpu

TORCH_LIBRARY_IMPL(disentangle_ext, CPU, m) {
  m.impl("permute_dims", &disentangle_ext::cpu::permute_dims_cpu);
  m.impl("permute_dims_backward", &disentangle_ext::cpu::permute_dims_backward_cpu);
}

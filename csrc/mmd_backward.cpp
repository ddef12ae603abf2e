// The backward of mmd, on every device: its gradient came out of the forward sweep.
#include <torch/library.h>

#include <tuple>

#include "common/problems_host.h"

namespace disentangle_ext {
namespace {

using at::Tensor;

// x and y are arguments so that a second derivative, which would need them, raises instead of coming back as zero.
std::tuple<Tensor, Tensor> mmd_backward(const Tensor& grad, const Tensor& x, const Tensor& y, const Tensor& grad_x,
                                        const Tensor& grad_y) {
  check_sizes(grad_x, x.sizes(), "mmd_backward: grad_x");
  check_sizes(grad_y, y.sizes(), "mmd_backward: grad_y");
  check_sizes(grad, x.sizes().slice(0, x.dim() - 2), "mmd_backward: grad");
  const Tensor g = grad.dim() ? grad.unsqueeze(-1).unsqueeze(-1) : grad;
  return {cast(grad_x.mul(g), x.scalar_type()), cast(grad_y.mul(g), y.scalar_type())};
}

}  // namespace
}  // namespace disentangle_ext

TORCH_LIBRARY_IMPL(disentangle_ext, CompositeExplicitAutograd, m) {
  m.impl("mmd_backward", &disentangle_ext::mmd_backward);
}

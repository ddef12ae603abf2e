#include "cuda/mmd.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>

#include "common/mmd_host.h"
#include "cuda/launch_host.h"

namespace disentangle_ext::cuda {
namespace {

using at::Tensor;

template <typename T>
void run(const MmdInputs& in, MmdArguments<T> a, const Tensor& value, const Tensor& grad_x, const Tensor& grad_y,
         bool with_grad) {
  const MmdPlan plan = mmd_plan(a.M, a.N);
  a.x = pointer<T>(in.x), a.y = pointer<T>(in.y), a.bandwidth = pointer<double>(in.bandwidth),
  a.value = value.mutable_data_ptr<T>();
  if (with_grad) a.grad_x = grad_x.mutable_data_ptr<T>(), a.grad_y = grad_y.mutable_data_ptr<T>();
  constexpr int64_t kMostBlocks = std::numeric_limits<int32_t>::max();
  TORCH_CHECK(a.problems <= kMostBlocks / std::max<int64_t>(plan.items(), 1) && mmd_merge_blocks(a) <= kMostBlocks,
              "mmd: too many problems: ", a.problems, " of ", in.x.sizes(), " and ", in.y.sizes());
  const Tensor sums = at::empty({a.problems * plan.items()}, in.x.options().dtype(at::kDouble));
  const Tensor pulls = at::empty({with_grad ? a.problems * plan.tiles() * (a.M + a.N) * a.D : 0}, in.x.options());
  a.sums = sums.mutable_data_ptr<double>();
  a.pulls = with_grad ? pulls.mutable_data_ptr<T>() : nullptr;
  const Launch launch(in.x);
  launch_mmd(a, plan, launch.stream);
}

std::tuple<Tensor, Tensor, Tensor> mmd_cuda(const Tensor& x, const Tensor& y, const Tensor& bandwidth, int64_t function,
                                            double exponent, bool biased, bool with_grad) {
  const MmdInputs in(x, y, bandwidth, function);
  TORCH_CHECK(in.K <= kMostMmdScales, "mmd: on CUDA at most ", kMostMmdScales, " bandwidths, got ", in.K);
  const Tensor value = at::empty(x.sizes().slice(0, x.dim() - 2), in.x.options());
  const Tensor grad_x = at::empty(with_grad ? x.sizes() : at::IntArrayRef{0}, in.x.options());
  const Tensor grad_y = at::empty(with_grad ? y.sizes() : at::IntArrayRef{0}, in.x.options());
  if (in.xs.problems == 0) return {value, grad_x, grad_y};
  AT_DISPATCH_FLOATING_TYPES(in.type, "mmd", [&] {
    MmdArguments<scalar_t> a{};
    a.problems = in.xs.problems, a.M = in.xs.rows, a.N = in.ys.rows, a.D = in.xs.D;
    a.K = in.K, a.problems_each = in.problems_each, a.function = MmdFunction(function), a.exponent = exponent,
    a.biased = biased;
    run(in, a, value, grad_x, grad_y, with_grad);
  });
  return {value, grad_x, grad_y};
}

}  // namespace
}  // namespace disentangle_ext::cuda

TORCH_LIBRARY_IMPL(disentangle_ext, CUDA, m) { m.impl("mmd", &disentangle_ext::cuda::mmd_cuda); }

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <array>

#include "common/mmd_host.h"
#include "cpu/mmd_kernels.h"
#include "cpu/parallel.h"

namespace disentangle_ext::cpu {
namespace {

using at::Tensor;

template <typename F>
void dispatch_function(MmdFunction function, const F& f) {
  switch (function) {
    case MmdFunction::rbf: return f(std::integral_constant<MmdFunction, MmdFunction::rbf>{});
    case MmdFunction::rq: return f(std::integral_constant<MmdFunction, MmdFunction::rq>{});
    case MmdFunction::imq: return f(std::integral_constant<MmdFunction, MmdFunction::imq>{});
    case MmdFunction::laplacian: return f(std::integral_constant<MmdFunction, MmdFunction::laplacian>{});
    case MmdFunction::energy: return f(std::integral_constant<MmdFunction, MmdFunction::energy>{});
  }
}

// One problem. Column blocks are dealt round-robin to a fixed number of tasks, each with gradient buffers of its own.
template <typename T, MmdFunction function>
double mmd_problem(const Rows<T>& x, const Rows<T>& y, int64_t D, const std::vector<MmdScale<T>>& scales, bool biased,
                   T* grad_x, T* grad_y) {
  constexpr int64_t kMostTasks = 8;
  const double at_zero = function == MmdFunction::energy ? 0.0 : double(scales.size());
  const MmdWeights c = MmdWeights::make(double(x.count), double(y.count), biased, at_zero);
  const int64_t x_blocks = (x.count + kMmdBlock - 1) / kMmdBlock, y_blocks = (y.count + kMmdBlock - 1) / kMmdBlock;
  const int64_t tasks = std::clamp<int64_t>(std::max(x_blocks, y_blocks), 1, kMostTasks);
  const int64_t nx = x.count * D, ny = y.count * D;
  std::vector<double> sums(tasks, 0.0);
  std::vector<T> shares(grad_x ? tasks * (nx + ny) : 0, T(0));
  const double nanoseconds =
      0.15 * double(D + 8) * double(x.count + y.count) * double(x.count + y.count) / double(2 * tasks);
  run_tasks(tasks, nanoseconds, [&](int64_t task) {
    ColumnBlock<T> block(D);
    T *dx = grad_x ? shares.data() + task * (nx + ny) : nullptr, *dy = grad_x ? dx + nx : nullptr;
    for (int64_t b = task; b < x_blocks; b += tasks) {
      block.load(x, b * kMmdBlock);
      sums[task] += c.xx * sum_pairs<T, function>(block, x, true, scales, c.xx, dx, dx);
    }
    for (int64_t b = task; b < y_blocks; b += tasks) {
      block.load(y, b * kMmdBlock);
      sums[task] += c.yy * sum_pairs<T, function>(block, y, true, scales, c.yy, dy, dy);
      block.load(y, b * kMmdBlock);
      sums[task] += c.xy * sum_pairs<T, function>(block, x, false, scales, c.xy, dx, dy);
    }
  });
  double total = c.diagonal;
  for (double s : sums) total += s;
  for (int64_t task = 0; task < tasks && grad_x; ++task) {
    const T* share = shares.data() + task * (nx + ny);
    for (int64_t e = 0; e < nx; ++e) grad_x[e] += share[e];
    for (int64_t e = 0; e < ny; ++e) grad_y[e] += share[nx + e];
  }
  return total;
}

std::tuple<Tensor, Tensor, Tensor> mmd_cpu(const Tensor& x_, const Tensor& y_, const Tensor& bandwidth_,
                                           int64_t function, double exponent, bool biased, bool with_grad) {
  const MmdInputs in(x_, y_, bandwidth_, function);
  const Shape &xs = in.xs, &ys = in.ys;
  const Tensor value = at::empty(x_.sizes().slice(0, x_.dim() - 2), in.x.options());
  const Tensor grad_x = with_grad ? at::zeros(x_.sizes(), in.x.options()) : at::empty({0}, in.x.options());
  const Tensor grad_y = with_grad ? at::zeros(y_.sizes(), in.x.options()) : at::empty({0}, in.x.options());
  AT_DISPATCH_FLOATING_TYPES(in.type, "mmd", [&] {
    for (int64_t p = 0; p < xs.problems; ++p) {
      std::vector<MmdScale<scalar_t>> scales;
      for (int64_t k = 0; k < in.K; ++k)
        scales.push_back(MmdScale<scalar_t>::make(
            MmdFunction(function), pointer<double>(in.bandwidth)[p / in.problems_each * in.K + k], exponent));
      const Rows<scalar_t> rx{pointer<scalar_t>(in.x) + p * xs.rows * xs.D, xs.rows},
          ry{pointer<scalar_t>(in.y) + p * ys.rows * ys.D, ys.rows};
      scalar_t* dx = with_grad ? grad_x.mutable_data_ptr<scalar_t>() + p * xs.rows * xs.D : nullptr;
      scalar_t* dy = with_grad ? grad_y.mutable_data_ptr<scalar_t>() + p * ys.rows * ys.D : nullptr;
      dispatch_function(MmdFunction(function), [&](auto k) {
        value.mutable_data_ptr<scalar_t>()[p] =
            scalar_t(mmd_problem<scalar_t, decltype(k)::value>(rx, ry, xs.D, scales, biased, dx, dy));
      });
    }
  });
  return {value, grad_x, grad_y};
}

}  // namespace
}  // namespace disentangle_ext::cpu

TORCH_LIBRARY_IMPL(disentangle_ext, CPU, m) { m.impl("mmd", &disentangle_ext::cpu::mmd_cpu); }

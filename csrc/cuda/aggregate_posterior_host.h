// Torch's side of the aggregate posterior on a GPU: scratch memory, and the calls that aggregate_posterior and
// elbo_decomposition share.
#pragma once

#include <ATen/ops/empty.h>

#include "common/problems_host.h"
#include "cuda/aggregate_posterior.h"
#include "cuda/launch_host.h"

namespace disentangle_ext::cuda {

// Kernels count dimensions, and three sums for each, in 32 bits.
inline int dimensions(int64_t D) {
  TORCH_CHECK(D <= INT32_MAX / 4, "aggregate posterior: at most ", INT32_MAX / 4, " dimensions, got ", D);
  return int(D);
}

// Whether the largest grid of a launch fits. No kernel has more blocks than one to every eight queries (kFinishRows) or
// to every share of the gradients, in every run of dimensions.
template <typename T>
void check_blocks(const AggregatePosterior<T>& s, int64_t shares) {
  const int64_t runs = std::max<int64_t>(ceil_div(s.D, kDimRun), 1);
  TORCH_CHECK(shares <= INT32_MAX / runs / std::max<int64_t>(s.problems, 1),
              "aggregate posterior: too large for the grid of a kernel: ", s.problems, " problems of ", s.queries,
              " queries, ", s.components, " components and ", s.D, " dimensions");
}

// Logarithms of the densities of s, [rows] and [rows, D], and the fields of `elbo`, which may be empty.
template <typename T>
void run_forward(const AggregatePosterior<T>& s, const at::Tensor& log_qz, const at::Tensor& marginals,
                 ElboOutput<T> elbo) {
  const Launch launch(log_qz);
  const SweepPlan plan = sweep_plan(s.problems, s.queries, s.components);
  check_blocks(s, plan.splits * ceil_div(s.queries, 8));
  const at::Tensor scratch = at::empty({plan.splits * s.rows() * (s.D + 2)}, log_qz.options());
  T* memory = scratch.mutable_data_ptr<T>();
  const SweepSums<T> sums{memory, memory + plan.splits * s.rows() * s.D};
  const bool reduced = elbo.mu && elbo.reduction != Reduction::none;
  const at::Tensor partial =
      at::empty({reduced ? s.problems * partial_sums(s.queries) * kFields : 0}, log_qz.options().dtype(at::kDouble));
  elbo.partial = partial.mutable_data_ptr<double>();
  aggregate_posterior_forward(s, plan, sums,
                              DensityOutput<T>{log_qz.mutable_data_ptr<T>(), marginals.mutable_data_ptr<T>(), elbo},
                              launch.stream);
}

template <typename T>
void run_backward(const AggregatePosterior<T>& s, const IncomingGradients<T>& in, const OutgoingGradients<T>& out,
                  const at::Tensor& like) {
  const Launch launch(like);
  const GradientLayout<T> layout =
      gradient_layout<T>(s.problems, s.queries, s.components, s.D, out.log_weight != nullptr);
  check_blocks(s, std::max(layout.marginal.component_ranges * layout.marginal.query_ranges,
                           layout.joint.component_ranges * layout.joint.query_ranges));
  const int64_t query = layout.query_elements(s.rows(), s.D),
                component = layout.component_elements(s.problems * s.components, s.D);
  const at::Tensor scratch = at::empty({query + component + layout.left_elements(s.problems, s.D)}, like.options());
  T* memory = scratch.mutable_data_ptr<T>();
  aggregate_posterior_backward(s, layout, in, GradientSlices<T>{memory, memory + query, memory + query + component},
                               out, launch.stream);
}

}  // namespace disentangle_ext::cuda

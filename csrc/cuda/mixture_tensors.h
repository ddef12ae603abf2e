// Torch's side of the aggregate posterior on a GPU: scratch memory, and the calls that aggregate_posterior and
// elbo_decomposition share.
#pragma once

#include <ATen/ops/empty.h>

#include <array>

#include "common/problems.h"
#include "cuda/aggregate_posterior.h"
#include "cuda/launch.h"

namespace disentangle_ext::cuda {

// Logarithms of the densities of s, [rows] and [rows, D], and the fields of `elbo`, which may be empty.
template <typename T>
void run_forward(const MixtureStack<T>& s, const at::Tensor& log_qz, const at::Tensor& marginals, ElboOutput<T> elbo) {
  const Launch launch(log_qz);
  const SweepPlan plan = sweep_plan(s.problems, s.queries, s.components);
  const at::Tensor scratch = at::empty({plan.splits * s.rows() * (s.D + 2)}, log_qz.options());
  T* memory = scratch.mutable_data_ptr<T>();
  const SweepSums<T> sums{memory, memory + plan.splits * s.rows() * s.D};
  const bool reduced = elbo.mu && elbo.reduction != Reduction::none;
  const at::Tensor partial = at::empty({reduced ? s.problems * partial_sums(s.queries) * kFields : 0}, log_qz.options().dtype(at::kDouble));
  elbo.partial = partial.mutable_data_ptr<double>();
  mixture_forward(s, plan, sums, DensityOutput<T>{log_qz.mutable_data_ptr<T>(), marginals.mutable_data_ptr<T>(), elbo}, launch.stream);
}

template <typename T>
void run_backward(const MixtureStack<T>& s, const IncomingGradients<T>& in, const OutgoingGradients<T>& out, const at::Tensor& like) {
  const Launch launch(like);
  const GradientLayout<T> layout = gradient_layout<T>(s.problems, s.queries, s.components, s.D, out.log_weight != nullptr);
  const int64_t query = layout.query_elements(s.rows(), s.D), component = layout.component_elements(s.problems * s.components, s.D);
  const at::Tensor scratch = at::empty({query + component + layout.left_elements(s.problems, s.D)}, like.options());
  T* memory = scratch.mutable_data_ptr<T>();
  mixture_backward(s, layout, in, GradientSlices<T>{memory, memory + query, memory + query + component}, out, launch.stream);
}

}  // namespace disentangle_ext::cuda

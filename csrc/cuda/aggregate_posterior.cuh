// The launchers of the aggregate posterior: which kernels a problem takes.
#pragma once

#include "cuda/aggregate_posterior_backward.cuh"
#include "cuda/aggregate_posterior_forward.cuh"
#include "cuda/aggregate_posterior_joint.cuh"

namespace disentangle_ext::cuda {

// Calls f with the number of dimensions that a kernel is compiled for, at least D.
template <typename F>
void dispatch_dims(int D, const F& f) {
  if (D <= 4) return f(std::integral_constant<int, 4>{});
  if (D <= 8) return f(std::integral_constant<int, 8>{});
  if (D <= 10) return f(std::integral_constant<int, 10>{});
  f(std::integral_constant<int, kMostStaticDims>{});
}

template <typename T>
void mixture_forward(const MixtureStack<T>& s, const SweepPlan& plan, const SweepSums<T>& sums, T* log_qz, T* marginals, const ElboOutput<T>* elbo,
                     cudaStream_t stream) {
  bool swept = false;
  if constexpr (sizeof(T) == sizeof(float)) {
    if ((swept = in_registers<T>(s.D))) dispatch_dims(s.D, [&](auto D) { launch_sweep<T, decltype(D)::value, true>(s, plan, sums, stream); });
  }
  if (!swept) {
    launch_sweep<T, kDimRun, false>(s, plan, sums, stream);
    launch_joint_sweep(s, plan, sums.joint, stream);
  }
  if (elbo) {
    launch_finish<T, true>(s, plan, sums, log_qz, marginals, *elbo, stream);
  } else {
    launch_finish<T, false>(s, plan, sums, log_qz, marginals, ElboOutput<T>{}, stream);
  }
}

template <typename T>
GradientLayout<T> gradient_layout(int64_t problems, int64_t queries, int64_t components, int D) {
  GradientLayout<T> layout{};
  int per_warp = kWarp * kLaneComponents<T, kDimRun>;
  if constexpr (sizeof(T) == sizeof(float)) {
    if (in_registers<T>(D)) dispatch_dims(D, [&](auto dims) { per_warp = kWarp * kLaneComponents<T, decltype(dims)::value>; });
  }
  layout.marginal = gradient_plan(problems, queries, components, per_warp, in_registers<T>(D) ? 1 : ceil_div(D, kDimRun));
  layout.query_slices = layout.marginal.component_ranges, layout.component_slices = layout.marginal.component_slices();
  if (in_registers<T>(D)) return layout;
  layout.joint = gradient_plan(problems, queries, components, kPairComponents);
  layout.joint.component_warps = 8;  // one group: the whole block shares the queries
  layout.query_slices += layout.joint.component_ranges, layout.component_slices += layout.joint.component_slices();
  return layout;
}

template <typename T>
void mixture_backward(const MixtureStack<T>& s, const GradientLayout<T>& layout, const IncomingGradients<T>& in, const GradientSlices<T>& slices,
                      const OutgoingGradients<T>& out, cudaStream_t stream) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (in_registers<T>(s.D)) {
      dispatch_dims(s.D, [&](auto D) { launch_gradient<T, decltype(D)::value, true>(s, layout.marginal, in, slices, stream); });
      return launch_gather(s, layout, in, slices, out, stream);
    }
  }
  launch_gradient<T, kDimRun, false>(s, layout.marginal, in, slices, stream);
  const int64_t width = 3 * s.D + 1;
  const GradientSlices<T> joint{slices.query + layout.marginal.component_ranges * s.rows() * s.D,
                                slices.component + layout.marginal.component_slices() * s.problems * s.components * width};
  launch_joint_gradient(s, layout.joint, in, joint, stream);
  launch_gather(s, layout, in, slices, out, stream);
}

}  // namespace disentangle_ext::cuda

// The launchers of the aggregate posterior: which kernels a problem takes.
#pragma once

#include "cuda/aggregate_posterior_backward.cuh"
#include "cuda/aggregate_posterior_far.cuh"
#include "cuda/aggregate_posterior_finish.cuh"
#include "cuda/aggregate_posterior_forward.cuh"
#include "cuda/aggregate_posterior_gather.cuh"
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
void aggregate_posterior_forward(const AggregatePosterior<T>& s, const SweepPlan& plan, const SweepSums<T>& sums,
                                 const DensityOutput<T>& out, cudaStream_t stream) {
  const bool single = in_registers<T>(s.D) && plan.splits == 1;
  const DensityOutput<T> finished = single ? out : DensityOutput<T>{};
  if (!in_registers<T>(s.D)) {
    launch_sweep<T, kDimRun, false>(s, plan, sums, finished, stream);
    launch_joint_sweep(s, plan, sums.joint, stream);
  } else if constexpr (sizeof(T) == sizeof(float)) {
    dispatch_dims(s.D, [&](auto D) { launch_sweep<T, decltype(D)::value, true>(s, plan, sums, finished, stream); });
  }
  if (!single) launch_finish(s, plan, sums, out, stream);
  if (out.elbo.mu && out.elbo.reduction != Reduction::none)
    launch_reduce(s, out, ceil_div(s.queries, single ? plan.queries_per_block() : kFinishRows), stream);
}

template <typename T>
GradientLayout<T> gradient_layout(int64_t problems, int64_t queries, int64_t components, int D, bool learned) {
  GradientLayout<T> layout{{}, {}, in_registers<T>(D) && !learned, learned, kWarp * kLaneComponents<T, kDimRun>, 0, 0};
  if constexpr (sizeof(T) == sizeof(float)) {
    if (layout.in_registers)
      dispatch_dims(D, [&](auto dims) { layout.per_warp = kWarp * kLaneComponents<T, decltype(dims)::value>; });
  }
  layout.marginal = gradient_plan(problems, queries, components, layout.per_warp, layout.width(D),
                                  layout.in_registers ? 1 : ceil_div(D, kDimRun));
  layout.query_slices = layout.marginal.component_ranges, layout.component_slices = layout.marginal.query_ranges;
  if (layout.in_registers) return layout;
  layout.joint = gradient_plan(problems, queries, components, kPairComponents / kGradientWarps, layout.width(D));
  layout.query_slices += layout.joint.component_ranges, layout.component_slices += layout.joint.query_ranges;
  return layout;
}

// The kernels beyond registers: the marginals, then the joint density, each with slices of its own.
template <typename T, bool kLearned>
void launch_gradients(const AggregatePosterior<T>& s, const GradientLayout<T>& layout, const IncomingGradients<T>& in,
                      const GradientSlices<T>& slices, cudaStream_t stream) {
  const int dim_runs = int(ceil_div(s.D, kDimRun));
  launch_gradient<T, kDimRun, false, kLearned>(s, layout, in, slices, stream);
  launch_far(s, layout, layout.marginal, dim_runs, kDimRun, false, layout.marginal.component_warps() * layout.per_warp,
             in, slices, stream);
  const GradientSlices<T> joint{
      slices.query + layout.marginal.component_ranges * s.rows() * s.D,
      slices.component + layout.marginal.query_ranges * s.problems * s.components * layout.width(s.D), slices.left};
  launch_joint_gradient(s, layout, in, joint, stream);
  launch_far(s, layout, layout.joint, 1, 0, true, layout.joint.component_range, in, joint, stream);
}

template <typename T>
void aggregate_posterior_backward(const AggregatePosterior<T>& s, const GradientLayout<T>& layout,
                                  const IncomingGradients<T>& in, const GradientSlices<T>& slices,
                                  const OutgoingGradients<T>& out, cudaStream_t stream) {
  if (layout.learned) {
    launch_gradients<T, true>(s, layout, in, slices, stream);
  } else if (!layout.in_registers) {
    launch_gradients<T, false>(s, layout, in, slices, stream);
  } else if constexpr (sizeof(T) == sizeof(float)) {
    dispatch_dims(s.D,
                  [&](auto D) { launch_gradient<T, decltype(D)::value, true, false>(s, layout, in, slices, stream); });
    launch_far(s, layout, layout.marginal, 1, s.D, true, layout.marginal.component_warps() * layout.per_warp, in,
               slices, stream);
  }
  launch_gather(s, layout, in, slices, out, stream);
}

}  // namespace disentangle_ext::cuda

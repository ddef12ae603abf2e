// What the sweeps leave to float64: queries whose exponents, or numbers, float32 does not resolve. They are few, or all
// of a block's where its numbers are absurd. A block of a sweep says for each chunk of components whether it left
// anything, and the rule it went by; here the block of the same index adds it to the same slices.
#pragma once

#include "cuda/aggregate_posterior_query_tile.cuh"

namespace disentangle_ext::cuda {
namespace {

// One query's term in one density, joint (d < 0) or marginal: in bits, the ordinary weight left out.
template <typename T>
DX_INLINE double wide_bits(const AggregatePosterior<T>& s, const Weights<T>& weights, int64_t problem, int64_t i,
                           int64_t j, int d) {
  const int64_t component = problem * s.components + j, row = problem * s.queries + i;
  double x = s.log_weight ? kLog2e * double(s.log_weight[component]) : weights.any(j, 1) ? double(weights(i, j)) : 0.0;
  for (int k = d < 0 ? 0 : d; k < (d < 0 ? s.D : d + 1); ++k)
    x += log2_density<double>(s.z[row * s.D + k], s.mu[component * s.D + k], s.logvar[component * s.D + k]);
  return x;
}

// The gradients of one query and one component in one dimension, but for their constant factors: by mu, which is minus
// that by z, and by logvar.
template <typename T>
DX_INLINE void wide_gradients(const AggregatePosterior<T>& s, int64_t component, int64_t row, int d, double a,
                              double& mu, double& logvar) {
  const double scale = scale_of(double(s.logvar[component * s.D + d]));
  const double t = (double(s.z[row * s.D + d]) - double(s.mu[component * s.D + d])) * scale;
  mu = logvar = 0;
  add_gradient<false>(a, t, mu, logvar);
  mu *= finite_factor(scale);
}

// log2 of that density, by the block.
template <typename T>
__device__ __forceinline__ double wide_density(const AggregatePosterior<T>& s, const Weights<T>& weights,
                                               int64_t problem, int64_t i, int d, double* shared) {
  OnlineSum<double> total;
  for (int64_t j = threadIdx.x; j < s.components; j += blockDim.x) total.push(wide_bits(s, weights, problem, i, j, d));
  total = warp_sum(total);
  __syncthreads();
  if (threadIdx.x % kWarp == 0)
    shared[threadIdx.x / kWarp * 2] = total.sum, shared[threadIdx.x / kWarp * 2 + 1] = total.max;
  __syncthreads();
  OnlineSum<double> all;
  for (int w = 0; w < int(blockDim.x) / kWarp; ++w) {
    OnlineSum<double> part;
    part.sum = shared[2 * w], part.max = shared[2 * w + 1];
    all.merge(part);
  }
  return all.value();
}

// The work of a block: components first .. last, in dimensions first_dim .. last_dim and, with
// `joint`, the joint density.
template <typename T>
struct FarWork {
  const AggregatePosterior<T>& s;
  const IncomingGradients<T>& in;
  const GradientBlock& block;
  int64_t first, last;
  int first_dim, last_dim, width;
  T *component_slice, *query_slice;
};

// Adds the gradient of one density of one query to the slices of the block: a thread a component, then a warp a
// dimension for what is summed over components.
template <typename T>
__device__ __forceinline__ void add_wide(const FarWork<T>& work, int64_t i, int d, double gradient, double* shared) {
  const AggregatePosterior<T>& s = work.s;
  const Weights<T> weights(s.weights, s.log_weight != nullptr, i, i);
  const int64_t problem = work.block.problem, row = problem * s.queries + i;
  const int begin = d < 0 ? 0 : d, end = d < 0 ? s.D : d + 1, lane = threadIdx.x % kWarp;
  const double total = wide_density(s, weights, problem, i, d, shared);
  for (int64_t j = work.first + threadIdx.x; j < work.last; j += blockDim.x) {
    const int64_t component = problem * s.components + j;
    const double a = gradient * exp2(wide_bits(s, weights, problem, i, j, d) - total);
    T* out = work.component_slice + component * work.width;
    for (int k = begin; k < end; ++k) {
      double mu, logvar;
      wide_gradients(s, component, row, k, a, mu, logvar);
      out[k] += T(mu), out[s.D + k] += T(logvar);
    }
    if (work.width > 2 * s.D) out[d < 0 ? 3 * s.D : 2 * s.D + d] += T(a);
  }
  for (int k = begin + threadIdx.x / kWarp; k < end; k += blockDim.x / kWarp) {
    double sum = 0;
    for (int64_t j = work.first + lane; j < work.last; j += kWarp) {
      const int64_t component = problem * s.components + j;
      const double a = gradient * exp2(wide_bits(s, weights, problem, i, j, d) - total);
      double mu, logvar;
      wide_gradients(s, component, row, k, a, mu, logvar);
      sum += mu;
    }
    sum = warp_sum(sum);
    if (lane == 0) work.query_slice[row * s.D + k] += T(sum);
  }
  __syncthreads();
}

// The queries of a block that the rule left, one after the other; d < 0 is the joint density.
template <typename T>
__device__ __forceinline__ void add_far_queries(const FarWork<T>& work, const FarRule<T>& rule, bool joint,
                                                double* shared) {
  const int64_t problem = work.block.problem;
  const T ordinary = work.s.weights.ordinary;
  for (int64_t i = work.block.first_query; i < work.block.last_query; ++i) {
    const int64_t row = problem * work.s.queries + i;
    for (int d = joint ? -1 : work.first_dim; d < work.last_dim; d = d < 0 ? work.first_dim : d + 1) {
      const bool far = d < 0 ? rule.joint(shift_of(ordinary, work.in.log_qz[row]))
                             : rule.marginal(shift_of(ordinary, work.in.marginals[row * work.s.D + d]));
      if (!far) continue;
      const T gradient = d < 0 ? work.in.joint(problem, row) : work.in.marginal(problem, row, d, work.s.D);
      add_wide(work, i, d, double(gradient), shared);
    }
  }
}

// The grid is that of the sweep whose dimensions and plan these are.
template <typename T>
__global__ void __launch_bounds__(kGradientThreads, 1)
    far_queries(AggregatePosterior<T> s, GradientPlan plan, int dim_runs, int run_size, bool joint, int64_t chunk,
                int width, IncomingGradients<T> in, GradientSlices<T> out) {
  __shared__ double shared[2 * kGradientWarps];
  __shared__ GradientBlock block;
  find_work(block, s, plan, dim_runs);
  const int chunks = int(ceil_div(plan.component_range, chunk)), first_dim = int(block.dim_run) * run_size;
  for (int k = 0; block.first_component + k * chunk < block.last_component;
       ++k) {  // the last range may have fewer chunks
    FarRule<T> rule;
    if (!out.get_left(blockIdx.x, k, chunks, rule.reference)) continue;
    const int64_t first = block.first_component + k * chunk, last = min(first + chunk, block.last_component);
    const FarWork<T> work{s,
                          in,
                          block,
                          first,
                          last,
                          first_dim,
                          min(first_dim + run_size, s.D),
                          width,
                          out.component + block.query_range * s.problems * s.components * width,
                          out.query + block.component_range * s.rows() * s.D};
    add_far_queries(work, rule, joint, shared);
  }
}

// After the sweep of the marginals (`joint` where it did the joint density too), or after that of the joint density
// alone, which has no dimensions of its own: run_size = 0.
template <typename T>
void launch_far(const AggregatePosterior<T>& s, const GradientLayout<T>& layout, const GradientPlan& plan, int dim_runs,
                int run_size, bool joint, int64_t chunk, const IncomingGradients<T>& in,
                const GradientSlices<T>& slices, cudaStream_t stream) {
  if constexpr (kFolded<T>) {
    const int64_t blocks = s.problems * plan.component_ranges * plan.query_ranges * dim_runs;
    DX_LAUNCH((far_queries<T>), unsigned(blocks), kGradientThreads, 0, stream, s, plan, dim_runs, run_size, joint,
              chunk, layout.width(s.D), in, slices);
  }
}

}  // namespace
}  // namespace disentangle_ext::cuda

// Queries of backward in shared memory, which of them float32 does not resolve, and which part of the work a block has.
#pragma once

#include "cuda/aggregate_posterior_common.cuh"

namespace disentangle_ext::cuda {
namespace {

constexpr int kQueryTile = 32;
constexpr int kGradientThreads = kGradientWarps * kWarp;
constexpr int kGradientWarpBits = 2;
static_assert(1 << kGradientWarpBits == kGradientWarps);

// Minus a saved logarithm, in bits, relative to the ordinary weight. Where the density is zero it has no gradient, and
// its exponentials shall be zero too.
template <typename T>
DX_INLINE T shift_of(T ordinary, T log_density) {
  return log_density == -kInfinity<T> ? -kInfinity<T> : rounded_product(T(kLog2e), ordinary - log_density);
}

// The factor 2^shift of a marginal is taken into its gradient, in float32, as long as neither it nor what it
// multiplies can leave the range.
template <typename T>
constexpr bool kFolded = sizeof(T) == sizeof(float);
template <typename T>
constexpr T kFarMarginal = sizeof(T) == sizeof(float) ? T(60) : kInfinity<T>;

template <typename T>
DX_INLINE bool far_marginal(T shift, T reference) {
  return shift + reference > kFarMarginal<T>;
}

// Squared distances must not overflow, since a responsibility of zero times infinity is not zero. In float32 larger
// numbers than these are left to float64.
template <typename T>
constexpr T kLargestPlace = sizeof(T) == sizeof(float) ? T(1e10) : kInfinity<T>;
template <typename T>
constexpr T kLargestPrecision = sizeof(T) == sizeof(float) ? T(1e17) : kInfinity<T>;

template <typename T>
DX_INLINE bool too_large(T place) {
  return !(place <= kLargestPlace<T> && place >= -kLargestPlace<T>);
}

// What decides whether a query's density is left to float64: the highest peak of the block's components, or infinity
// where a number of the block is too large.
template <typename T>
struct FarRule {
  T reference;

  DX_INLINE bool all() const { return reference == kInfinity<T>; }
  DX_INLINE bool marginal(T shift) const {
    return kFolded<T> && shift != -kInfinity<T> && far_marginal(shift, reference);
  }
  DX_INLINE bool joint(T shift) const { return kFolded<T> && shift != -kInfinity<T> && (all() || unresolved(shift)); }
};

// A query in shared memory: z, gradient and, in float64, shift of D dimensions; shift and
// gradient of the joint density.
template <typename T, int D>
struct QueryTile {
  static constexpr int kShift = 2 * D, kJoint = kFolded<T> ? 2 * D : 3 * D;
  static constexpr int kRow = (kJoint + 2 + 3) / 4 * 4;
  static constexpr int kSize = kQueryTile * (kRow + 2 + 2 * int(sizeof(int64_t) / sizeof(T)));

  T *rows, *bits;      // [kQueryTile, kRow], [kQueryTile, 2]: weights of the exceptional components, in bits
  int64_t* exception;  // [kQueryTile, 2]: which these are

  __device__ __forceinline__ explicit QueryTile(T* memory)
      : rows(memory), bits(rows + kQueryTile * kRow), exception(reinterpret_cast<int64_t*>(bits + 2 * kQueryTile)) {}
};

// One dimension of a query; returns whether it is left to float64. Where it is, it may be infinite: it is moved to
// zero, so that zero times its distance is zero. The loads do not wait for each other.
template <typename T, int D>
__device__ __forceinline__ bool load_dim(T* row, const AggregatePosterior<T>& s, const IncomingGradients<T>& in,
                                         int64_t problem, int64_t at_row, int d, int k, const FarRule<T>& rule) {
  const bool used = d < s.D;
  const int64_t at = at_row * s.D + (used ? d : 0);
  const T z = s.z[at], log_density = in.marginals[at], h = in.marginal(problem, at_row, used ? d : 0, s.D);
  T shift = used ? shift_of(s.weights.ordinary, log_density) : -kInfinity<T>;
  const bool far = rule.marginal(shift);
  if (far) shift = -kInfinity<T>;
  const bool none = shift == -kInfinity<T>;
  row[k] = used && !too_large(z) ? z : T(0);
  row[D + k] = none ? T(0) : kFolded<T> ? h * exp2(shift + rule.reference) : h;
  if (!kFolded<T>) row[QueryTile<T, D>::kShift + k] = shift;
  return far;
}

template <typename T, int D>
__device__ __forceinline__ bool load_joint(T* row, const AggregatePosterior<T>& s, const IncomingGradients<T>& in,
                                           int64_t problem, int64_t at_row, const FarRule<T>& rule) {
  const T log_density = in.log_qz[at_row], g = in.joint(problem, at_row);
  T shift = shift_of(s.weights.ordinary, log_density);
  const bool far = rule.joint(shift);
  if (far) shift = -kInfinity<T>;
  row[QueryTile<T, D>::kJoint] = shift;
  row[QueryTile<T, D>::kJoint + 1] = shift == -kInfinity<T> ? T(0) : g;
  return far;
}

// Queries first .. first + count of a problem. Returns whether something of them is left to float64.
template <typename T, int D, bool kJoint>
__device__ __forceinline__ bool load_queries(const QueryTile<T, D>& tile, const AggregatePosterior<T>& s,
                                             const IncomingGradients<T>& in, int64_t problem, int64_t first, int count,
                                             int first_dim, const FarRule<T>& rule, int thread, int threads) {
  bool far = false;
  const int64_t first_row = problem * s.queries + first;
  DX_UNROLL_NOT
  for (int e = thread; e < count * D; e += threads) {
    const int q = e / D, k = e % D;
    far |= load_dim<T, D>(tile.rows + q * QueryTile<T, D>::kRow, s, in, problem, first_row + q, first_dim + k, k, rule);
  }
  DX_UNROLL_NOT
  for (int q = thread; q < count; q += threads) {
    T* row = tile.rows + q * QueryTile<T, D>::kRow;
    if (kJoint) far |= load_joint<T, D>(row, s, in, problem, first_row + q, rule);
    for (int k = QueryTile<T, D>::kJoint + (kJoint ? 2 : 0); k < QueryTile<T, D>::kRow; ++k) row[k] = 0;
    if (s.log_weight || !s.weights.stratified()) continue;
    int64_t at[2];
    T weight[2];
    s.weights.exceptions(first + q, at, weight);
    for (int e = 0; e < 2; ++e)
      tile.exception[2 * q + e] = at[e], tile.bits[2 * q + e] = T(kLog2e) * (weight[e] - s.weights.ordinary);
  }
  return far;
}

// Which part of the work a block has. It lies in shared memory, since registers are short.
struct GradientBlock {
  int64_t problem, component_range, query_range, first_component, last_component, first_query, last_query, dim_run;
};

template <typename T>
__device__ __forceinline__ void find_work(GradientBlock& block, const AggregatePosterior<T>& s,
                                          const GradientPlan& plan, int dim_runs) {
  if (threadIdx.x == 0) {
    const unsigned query_ranges = unsigned(plan.query_ranges), component_ranges = unsigned(plan.component_ranges);
    unsigned b = blockIdx.x;
    block.dim_run = b % dim_runs, b /= dim_runs;
    block.query_range = b % query_ranges, b /= query_ranges;
    block.component_range = b % component_ranges, block.problem = b / component_ranges;
    block.first_component = block.component_range * plan.component_range;
    block.last_component = min(block.first_component + plan.component_range, s.components);
    block.first_query = block.query_range * plan.query_range;
    block.last_query = min(block.first_query + plan.query_range, s.queries);
  }
  __syncthreads();
}

}  // namespace
}  // namespace disentangle_ext::cuda

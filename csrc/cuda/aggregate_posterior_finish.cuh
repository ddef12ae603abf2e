// What forward makes of its sums: the logarithms of the densities and, for elbo_decomposition, its fields.
#pragma once

#include "cuda/aggregate_posterior_common.cuh"

namespace disentangle_ext::cuda {
namespace {

constexpr int kFinishRows = kThreads / kWarp;

// log2 of a marginal density around its maximum, for a query far from every component: `members` threads together, each
// with every members-th component.
template <typename T>
__device__ __forceinline__ OnlineSum<T> marginal_online(const AggregatePosterior<T>& s, int64_t problem, int64_t i,
                                                        int d, int member, int members) {
  const Weights<T> weights(s.weights, s.log_weight != nullptr, i, i);
  const T z = s.z[(problem * s.queries + i) * s.D + d];
  OnlineSum<T> total;
  for (int64_t j = member; j < s.components; j += members) {
    const int64_t component = problem * s.components + j;
    T x = log2_density(z, s.mu[component * s.D + d], s.logvar[component * s.D + d]);
    if (s.log_weight) x += T(kLog2e) * s.log_weight[component];
    if (weights.any(j, 1)) x += weights(i, j);
    total.push(x);
  }
  return total;
}

// Whether a sum of densities is too near an end of the range to be trusted.
template <typename T>
DX_INLINE bool out_of_range(const AggregatePosterior<T>& s, T sum) {
  constexpr bool kSingle = sizeof(T) == sizeof(float);
  const T least = T(s.components) * (kSingle ? T(0x1p-100) : T(0x1p-960)), most = kSingle ? T(0x1p+120) : T(0x1p+1000);
  return !(sum >= least && sum <= most);
}

template <typename T>
DX_INLINE double joint_density(const AggregatePosterior<T>& s, const OnlineSum<T>& total) {
  return double(s.weights.ordinary) + kLn2 * double(total.value());
}

// Adds the terms of log q(z|x) and log p(z) of one dimension.
template <typename T>
DX_INLINE void add_own(const AggregatePosterior<T>& s, const ElboOutput<T>& elbo, int64_t at, double& qzx, double& pz) {
  T qzx_term, pz_term;
  density_terms(s.z[at], elbo.mu[at], elbo.logvar[at], qzx_term, pz_term);
  qzx += double(qzx_term), pz += double(pz_term);
}

// Stores a value of field f. The loop is for its constant index: an argument's array has no address.
template <typename T>
__device__ __forceinline__ void store_field(const ElboOutput<T>& elbo, int f, int64_t at, double value) {
  DX_UNROLL
  for (int k = 0; k < kFields; ++k)
    if (k == f) elbo.fields[k][at] = T(value);
}

// A problem's field from the sum over its rows.
template <typename T>
__device__ __forceinline__ void store_reduced(const ElboOutput<T>& elbo, int f, int64_t problem, int64_t queries,
                                              double sum) {
  store_field(elbo, f, problem, elbo.reduction == Reduction::mean ? sum / double(queries) : sum);
}

// The D marginals of a row from the sums of the splits, by a warp; returns their sum.
template <typename T>
__device__ __forceinline__ double finish_marginals(const AggregatePosterior<T>& s, int64_t splits, const T* sums,
                                                   int64_t problem, int64_t i, T* out) {
  const int64_t row = problem * s.queries + i, stride = s.rows() * s.D;
  const int lane = threadIdx.x % kWarp;
  double product = 0;
  for (int first = 0; first < s.D; first += kWarp) {
    const int d = first + lane;
    T sum = 1;
    if (d < s.D) sum = strided_sum(sums + row * s.D + d, splits, stride);
    T bits = T(kLog2e) * log(sum);
    for (unsigned left = __ballot_sync(kAllLanes, d < s.D && out_of_range(s, sum)); left; left &= left - 1) {
      const int source = __ffs(int(left)) - 1;
      const T again = warp_sum(marginal_online(s, problem, i, first + source, lane, kWarp)).value();
      if (lane == source) bits = again;
    }
    const T log_density = s.weights.ordinary + T(kLn2) * bits;
    if (d < s.D) out[row * s.D + d] = log_density, product += double(log_density);
  }
  return product;
}

template <typename T>
__device__ __forceinline__ OnlineSum<T> finish_joint(const AggregatePosterior<T>& s, int64_t splits, const T* sums,
                                                     int64_t row) {
  OnlineSum<T> total;
  for (int64_t k = threadIdx.x % kWarp; k < splits; k += kWarp) {
    OnlineSum<T> part;
    part.sum = sums[2 * (k * s.rows() + row)], part.max = sums[2 * (k * s.rows() + row) + 1];
    total.merge(part);
  }
  return warp_sum(total);
}

// Where several blocks share a query: a warp finishes a row, a block kFinishRows of them.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    finish(AggregatePosterior<T> s, int64_t splits, SweepSums<T> sums, DensityOutput<T> out) {
  __shared__ double fields[kFinishRows * kFields];
  const int64_t blocks = ceil_div(s.queries, kFinishRows), problem = blockIdx.x / blocks,
                first = blockIdx.x % blocks * kFinishRows;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t i = first + warp, row = problem * s.queries + i;
  if (i < s.queries) {
    double product = finish_marginals(s, splits, sums.marginal, problem, i, out.marginals);
    const double joint = joint_density(s, finish_joint(s, splits, sums.joint, row));
    if (lane == 0) out.log_qz[row] = T(joint);
    if (out.elbo.mu) {
      double qzx = 0, pz = 0;
      for (int d = lane; d < s.D; d += kWarp) add_own(s, out.elbo, row * s.D + d, qzx, pz);
      product = warp_sum(product), qzx = warp_sum(qzx), pz = warp_sum(pz);
      const RowDensities densities{log_density(qzx, s.D), joint, product, log_density(pz, s.D)};
      if (lane < kFields) fields[warp * kFields + lane] = densities.field(lane);
    }
  }
  if (!out.elbo.mu) return;
  __syncthreads();
  const int count = int(min(int64_t(kFinishRows), s.queries - first));
  if (out.elbo.reduction == Reduction::none) {
    for (int e = threadIdx.x; e < count * kFields; e += kThreads)
      store_field(out.elbo, e % kFields, problem * s.queries + first + e / kFields, fields[e]);
  } else if (threadIdx.x < kFields) {
    double sum = 0;
    for (int r = 0; r < count; ++r) sum += fields[r * kFields + threadIdx.x];
    out.elbo.partial[blockIdx.x * int64_t(kFields) + threadIdx.x] = sum;
  }
}

// Adds up the sums of a problem's blocks: a warp a field, in an order that only the number of blocks decides.
template <typename T>
__global__ void reduce_fields(ElboOutput<T> elbo, int64_t blocks, int64_t queries) {
  const int64_t problem = blockIdx.x;
  const int lane = threadIdx.x % kWarp, f = threadIdx.x / kWarp;
  double sum = 0;
  for (int64_t b = lane; b < blocks; b += kWarp) sum += elbo.partial[(problem * blocks + b) * kFields + f];
  sum = warp_sum(sum);
  if (lane == 0) store_reduced(elbo, f, problem, queries, sum);
}

// Launching -----------------------------------------------------------------------------------------------------------

template <typename T>
void launch_finish(const AggregatePosterior<T>& s, const SweepPlan& plan, const SweepSums<T>& sums,
                   const DensityOutput<T>& out, cudaStream_t stream) {
  const int64_t blocks = s.problems * ceil_div(s.queries, kFinishRows);
  DX_LAUNCH((finish<T>), unsigned(blocks), kThreads, 0, stream, s, plan.splits, sums, out);
}

template <typename T>
void launch_reduce(const AggregatePosterior<T>& s, const DensityOutput<T>& out, int64_t blocks, cudaStream_t stream) {
  DX_LAUNCH((reduce_fields<T>), unsigned(s.problems), kWarp * kFields, 0, stream, out.elbo, blocks, s.queries);
}

}  // namespace
}  // namespace disentangle_ext::cuda

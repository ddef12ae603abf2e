// The joint density in any number of dimensions, where registers cannot hold a component: pairs of a tile of queries
// and a tile of components gather their distance from runs of dimensions in shared memory.
#pragma once

#include "cuda/aggregate_posterior_query_tile.cuh"

namespace disentangle_ext::cuda {
namespace {

constexpr int kPairQueries = 32, kPairComponents = 64, kPairDims = 16;
constexpr int kPairs = 8;  // of a thread: 2 queries and 4 components

template <typename T>
struct PairTile {
  T *z, *mu, *scale, *peak;  // [kPairDims, kPairQueries], [kPairDims, kPairComponents]

  static constexpr int kSize = kPairDims * (kPairQueries + 3 * kPairComponents);

  __device__ __forceinline__ explicit PairTile(T* memory)
      : z(memory), mu(z + kPairDims * kPairQueries), scale(mu + kPairDims * kPairComponents),
        peak(scale + kPairDims * kPairComponents) {}

  // Dimensions first_dim .. of `queries` and `components` of a problem, transposed; places past the last hold zeros,
  // and a scale of one, for queries at infinity.
  __device__ __forceinline__ void load(const AggregatePosterior<T>& s, int64_t first_row, int queries,
                                       int64_t first_component, int components, int first_dim) const {
    __syncthreads();
    for (int e = threadIdx.x; e < kPairDims * kPairQueries; e += kThreads) {
      const int q = e / kPairDims, k = e % kPairDims, d = first_dim + k;
      const int64_t at = (first_row + q) * s.D + d;
      T v = 0;
      if (q < queries && d < s.D) v = s.z[at];
      z[k * kPairQueries + q] = v;
    }
    for (int e = threadIdx.x; e < kPairDims * kPairComponents; e += kThreads) {
      const int j = e / kPairDims, k = e % kPairDims, d = first_dim + k, to = k * kPairComponents + j;
      const bool used = j < components && d < s.D;
      const int64_t at = (first_component + j) * s.D + d;
      const T logvar = used ? s.logvar[at] : T(0);
      mu[to] = used ? s.mu[at] : T(0), scale[to] = used ? scale_of(logvar) : T(1);
      peak[to] = used ? peak_of(logvar) : T(0);
    }
    __syncthreads();
  }
};

// A thread's pairs: queries 2 y, 2 y + 1 and components x, x + 16, x + 32, x + 48, with x the
// low four bits of its index.
template <typename T>
struct Pairs {
  T bits[2][4];

  static __device__ __forceinline__ int query(int q) { return int(threadIdx.x) / 16 * 2 + q; }
  static __device__ __forceinline__ int component(int c) { return int(threadIdx.x) % 16 + 16 * c; }

  // log2 of the weighted joint densities, the ordinary weight left out.
  __device__ __forceinline__ void measure(const PairTile<T>& tile, const AggregatePosterior<T>& s, int64_t problem,
                                          int64_t first_query, int queries, int64_t first_component, int components) {
    const Weights<T> weights(s.weights, s.log_weight != nullptr, first_query, first_query + queries - 1);
    const bool uneven = weights.any(first_component, components);
    const int64_t base = problem * s.components + first_component;
    for (int q = 0; q < 2; ++q)
      for (int c = 0; c < 4; ++c) {
        const int j = component(c);
        bits[q][c] = j >= components ? -kInfinity<T> : s.log_weight ? T(kLog2e) * s.log_weight[base + j] : T(0);
        if (uneven && j < components) bits[q][c] += weights(first_query + query(q), first_component + j);
      }
    for (int first_dim = 0; first_dim < s.D; first_dim += kPairDims) {
      tile.load(s, problem * s.queries + first_query, queries, base, components, first_dim);
      for (int k = 0; k < kPairDims; ++k) add_dim(tile, k);
    }
  }

  __device__ __forceinline__ void add_dim(const PairTile<T>& tile, int k) {
    const T z[2] = {tile.z[k * kPairQueries + query(0)], tile.z[k * kPairQueries + query(1)]};
    DX_UNROLL
    for (int c = 0; c < 4; ++c) {
      const int at = k * kPairComponents + component(c);
      const T mu = tile.mu[at], scale = tile.scale[at], peak = tile.peak[at];
      DX_UNROLL
      for (int q = 0; q < 2; ++q) {
        const T t = (z[q] - mu) * scale;
        bits[q][c] += peak - t * t;
      }
    }
  }
};

// Forward: blocks of kPairQueries queries and a split of the components.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    joint_sweep(AggregatePosterior<T> s, int64_t splits, int64_t split_size, T* out) {
  DX_DYNAMIC_SHARED(T, shared);
  const PairTile<T> tile(shared);
  const int64_t query_blocks = ceil_div(s.queries, kPairQueries), split = blockIdx.x / query_blocks % splits;
  const int64_t problem = blockIdx.x / query_blocks / splits, first_query = blockIdx.x % query_blocks * kPairQueries;
  const int64_t begin = split * split_size, end = min(begin + split_size, s.components);
  const int queries = int(min(int64_t(kPairQueries), s.queries - first_query));
  OnlineSum<T> total[2];
  for (int64_t first = begin; first < end; first += kPairComponents) {
    Pairs<T> pairs;
    pairs.measure(tile, s, problem, first_query, queries, first, int(min(int64_t(kPairComponents), end - first)));
    for (int q = 0; q < 2; ++q)
      for (int c = 0; c < 4; ++c) total[q].push(pairs.bits[q][c]);
  }
  for (int q = 0; q < 2; ++q) {
    DX_UNROLL
    for (int mask = 8; mask; mask >>= 1) {
      OnlineSum<T> other;
      other.sum = __shfl_xor_sync(kAllLanes, total[q].sum, mask),
      other.max = __shfl_xor_sync(kAllLanes, total[q].max, mask);
      total[q].merge(other);
    }
    if (threadIdx.x % 16 || Pairs<T>::query(q) >= queries) continue;
    const int64_t at = 2 * (split * s.rows() + problem * s.queries + first_query + Pairs<T>::query(q));
    out[at] = total[q].sum, out[at + 1] = total[q].max;
  }
}

// Backward -----------------------------------------------------------------------------------------------------------

// g_i p_ij of a tile, [kPairQueries, kPairComponents + 1] against bank conflicts.
constexpr int kPairRow = kPairComponents + 1;

// Sums over the components of a tile: two dimensions of one query a thread.
template <typename T>
__device__ __forceinline__ void add_query_sums(const PairTile<T>& tile, const T* gp, const AggregatePosterior<T>& s,
                                               int64_t first_row, int queries, int first_dim, bool start, T* slice) {
  const int q = threadIdx.x % kPairQueries;
  for (int k = threadIdx.x / kPairQueries; k < kPairDims; k += kThreads / kPairQueries) {
    if (q >= queries || first_dim + k >= s.D) continue;
    T sum = 0;
    for (int j = 0; j < kPairComponents; ++j) {
      const T scale = tile.scale[k * kPairComponents + j];
      const T t = (tile.z[k * kPairQueries + q] - tile.mu[k * kPairComponents + j]) * scale;
      sum += gp[q * kPairRow + j] * finite_distance(t) * finite_factor(scale);
    }
    T* out = slice + (first_row + q) * s.D + first_dim + k;
    *out = start ? sum : *out + sum;
  }
}

// Sums over the queries of a tile: four dimensions of one component a thread.
template <typename T>
__device__ __forceinline__ void add_component_sums(const PairTile<T>& tile, const T* gp, const AggregatePosterior<T>& s,
                                                   int64_t first_component, int components, int first_dim, int width,
                                                   bool start, T* slice) {
  const int j = threadIdx.x % kPairComponents;
  for (int k = threadIdx.x / kPairComponents; k < kPairDims; k += kThreads / kPairComponents) {
    if (j >= components || first_dim + k >= s.D) continue;
    const T scale = tile.scale[k * kPairComponents + j];
    T mu_sum = 0, logvar_sum = 0;
    for (int q = 0; q < kPairQueries; ++q) {
      const T t = (tile.z[k * kPairQueries + q] - tile.mu[k * kPairComponents + j]) * scale;
      add_gradient<false>(gp[q * kPairRow + j], t, mu_sum, logvar_sum);
    }
    mu_sum *= finite_factor(scale);
    T* out = slice + (first_component + j) * width + first_dim + k;
    out[0] = start ? mu_sum : out[0] + mu_sum, out[s.D] = start ? logvar_sum : out[s.D] + logvar_sum;
    if (start && width > 2 * s.D) out[2 * s.D] = 0;
  }
}

template <typename T>
__device__ __forceinline__ void add_joint_sums(const T* gp, const AggregatePosterior<T>& s, int64_t first_component,
                                               int components, int width, bool start, T* slice) {
  const int j = threadIdx.x;
  if (j >= components || width == 2 * s.D) return;
  T sum = 0;
  for (int q = 0; q < kPairQueries; ++q) sum += gp[q * kPairRow + j];
  T* out = slice + (first_component + j) * width + 3 * s.D;
  *out = start ? sum : *out + sum;
}

// g_i p_ij of a tile into shared memory; true if one of its queries is left to float64.
template <typename T>
__device__ __forceinline__ bool load_responsibilities(const PairTile<T>& tile, T* gp, const AggregatePosterior<T>& s,
                                                      const IncomingGradients<T>& in, int64_t problem,
                                                      int64_t first_query, int queries, int64_t first_component,
                                                      int components) {
  Pairs<T> pairs;
  pairs.measure(tile, s, problem, first_query, queries, first_component, components);
  bool far = false;
  for (int q = 0; q < 2; ++q) {
    const int i = Pairs<T>::query(q);
    T shift = -kInfinity<T>, g = 0;
    if (i < queries) {
      const int64_t row = problem * s.queries + first_query + i;
      if (in.log_qz[row] != -kInfinity<T>)
        shift = shift_of(s.weights.ordinary, in.log_qz[row]), g = in.joint(problem, row);
      if (kFolded<T> && shift != -kInfinity<T> && unresolved(shift)) far = true, shift = -kInfinity<T>;
    }
    for (int c = 0; c < 4; ++c)
      gp[i * kPairRow + Pairs<T>::component(c)] =
          shift == -kInfinity<T> ? T(0) : g * exp2(log2_share(pairs.bits[q][c] + shift));
  }
  return far;
}

template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    joint_gradient_sweep(AggregatePosterior<T> s, GradientPlan plan, int width, IncomingGradients<T> in,
                         GradientSlices<T> out) {
  DX_DYNAMIC_SHARED(T, shared);
  const PairTile<T> tile(shared);
  T* gp = shared + PairTile<T>::kSize;
  __shared__ GradientBlock block;
  find_work(block, s, plan, 1);
  T* query_slice = out.query + block.component_range * s.rows() * s.D;
  T* component_slice = out.component + block.query_range * s.problems * s.components * width;
  bool far = false;
  for (int64_t first = block.first_component; first < block.last_component; first += kPairComponents) {
    const int components = int(min(int64_t(kPairComponents), block.last_component - first));
    const int64_t base = block.problem * s.components + first;
    for (int64_t query = block.first_query; query < block.last_query; query += kPairQueries) {
      const int queries = int(min(int64_t(kPairQueries), block.last_query - query));
      const int64_t row = block.problem * s.queries + query;
      far |= load_responsibilities(tile, gp, s, in, block.problem, query, queries, first, components);
      for (int first_dim = 0; first_dim < s.D; first_dim += kPairDims) {
        tile.load(s, row, queries, base, components, first_dim);
        add_query_sums(tile, gp, s, row, queries, first_dim, first == block.first_component, query_slice);
        add_component_sums(tile, gp, s, base, components, first_dim, width, query == block.first_query,
                           component_slice);
      }
      add_joint_sums(gp, s, base, components, width, query == block.first_query, component_slice);
    }
  }
  const bool left = __syncthreads_or(far) != 0;
  if (kFolded<T> && threadIdx.x == 0) out.put_left(blockIdx.x, 0, 1, left, T(0));
}

template <typename T>
void launch_joint_sweep(const AggregatePosterior<T>& s, const SweepPlan& plan, T* out, cudaStream_t stream) {
  const int64_t blocks = s.problems * plan.splits * ceil_div(s.queries, kPairQueries);
  DX_LAUNCH((joint_sweep<T>), unsigned(blocks), kThreads, PairTile<T>::kSize * sizeof(T), stream, s, plan.splits,
            plan.split_size, out);
}

template <typename T>
void launch_joint_gradient(const AggregatePosterior<T>& s, const GradientLayout<T>& layout,
                           const IncomingGradients<T>& in, const GradientSlices<T>& slices, cudaStream_t stream) {
  const size_t shared = PairTile<T>::kSize + kPairQueries * kPairRow;
  const int64_t blocks = s.problems * layout.joint.component_ranges * layout.joint.query_ranges;
  DX_LAUNCH((joint_gradient_sweep<T>), unsigned(blocks), kThreads, shared * sizeof(T), stream, s, layout.joint,
            layout.width(s.D), in, slices);
}

}  // namespace
}  // namespace disentangle_ext::cuda

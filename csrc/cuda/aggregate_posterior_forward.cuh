// Forward: D + 1 sums of densities per query. A sweep leaves one set of sums per split of the components; `finish` adds
// the splits in order, takes the logarithms and, for elbo_decomposition, forms its fields.
#pragma once

#include "cuda/aggregate_posterior_finish.cuh"

namespace disentangle_ext::cuda {
namespace {

constexpr int kSweepQueries = 2;  // of a thread, to share the loads of a component
constexpr int kQuad = 4;          // components whose joint densities are added around one maximum
constexpr int kTile = kSweepTile;

// A component in shared memory: mu, scale and peak of D dimensions, two dimensions at a time so that they are at hand
// when they are needed and no earlier, and the peak of the joint density.
template <int D>
constexpr int kComponentRow = (3 * D + 1 + 3) / 4 * 4;

enum Parameter { kMu, kScale, kPeak };

DX_INLINE constexpr int place_of(Parameter parameter, int d) { return d / 2 * 6 + 2 * parameter + d % 2; }

// Components `first` .. of a problem. Places past `count` and dimensions past the last hold densities of zero: of scale
// one where the query may be infinite.
template <typename T, int D>
__device__ __forceinline__ void load_components(T* tile, const AggregatePosterior<T>& s, int64_t problem, int64_t first,
                                                int count, int first_dim) {
  const int64_t base = problem * s.components + first;
  const int dims = min(D, s.D - first_dim);
  DX_UNROLL_NOT
  for (int e = threadIdx.x; e < kTile * D; e += blockDim.x) {
    const int j = e / D, d = e % D;
    T mu = 0, scale = d < dims ? T(1) : T(0), peak = -kInfinity<T>;
    if (j < count && d < dims) {
      const int64_t at = (base + j) * s.D + first_dim + d;
      const T logvar = s.logvar[at];
      mu = s.mu[at], scale = scale_of(logvar), peak = peak_of(logvar);
      if (s.log_weight) peak += T(kLog2e) * s.log_weight[base + j];
    }
    T* row = tile + j * kComponentRow<D>;
    row[place_of(kMu, d)] = mu, row[place_of(kScale, d)] = scale, row[place_of(kPeak, d)] = peak;
  }
}

template <typename T, int D>
__device__ __forceinline__ void load_joint_peaks(T* tile, const AggregatePosterior<T>& s, int64_t problem,
                                                 int64_t first, int count) {
  const int64_t base = problem * s.components + first;
  for (int j = threadIdx.x; j < kTile; j += blockDim.x) {
    T peak = j < count ? T(0) : -kInfinity<T>;
    if (j < count) {
      DX_UNROLL
      for (int d = 0; d < D; ++d)
        if (d < s.D) peak += peak_of(s.logvar[(base + j) * s.D + d]);
      if (s.log_weight) peak += T(kLog2e) * s.log_weight[base + j];
    }
    tile[j * kComponentRow<D> + 3 * D] = peak;
  }
}

// The exceptional components of a query, by their places in a tile, and their weights in bits.
template <typename T>
struct TileExceptions {
  int own, next;
  T own_bits, next_bits;

  DX_INLINE TileExceptions() {}

  DX_INLINE TileExceptions(const LogWeights<T>& weights, int64_t query, int64_t first) {
    int64_t at[2];
    T weight[2];
    weights.exceptions(query, at, weight);
    own = place(at[0] - first), next = place(at[1] - first);
    own_bits = T(kLog2e) * (weight[0] - weights.ordinary), next_bits = T(kLog2e) * (weight[1] - weights.ordinary);
  }

  static DX_INLINE int place(int64_t j) { return j >= 0 && j < kTile ? int(j) : -1; }

  DX_INLINE T operator()(int j) const { return j == own ? own_bits : j == next ? next_bits : T(0); }
};

// The queries of a thread and their sums.
template <typename T, int D, bool kJoint>
struct Queries {
  T z[kSweepQueries][D], sum[kSweepQueries][D];
  OnlineSum<T> joint[kSweepQueries];

  // Adds the quad of components from j on.
  template <bool kUneven>
  __device__ __forceinline__ void add(const T* tile, int j, const TileExceptions<T> (&exceptions)[kSweepQueries]) {
    T g[kSweepQueries][kQuad];
    DX_UNROLL
    for (int c = 0; c < kQuad; ++c) {
      T row[kComponentRow<D>];
      load_row(row, tile + (j + c) * kComponentRow<D>);
      T bits[kSweepQueries];
      DX_UNROLL
      for (int q = 0; q < kSweepQueries; ++q) {
        bits[q] = kUneven ? exceptions[q](j + c) : T(0);
        g[q][c] = kUneven ? row[3 * D] + bits[q] : row[3 * D];
      }
      DX_UNROLL
      for (int d = 0; d < D; ++d) {
        const T mu = row[place_of(kMu, d)], scale = row[place_of(kScale, d)], peak = row[place_of(kPeak, d)];
        DX_UNROLL
        for (int q = 0; q < kSweepQueries; ++q) {
          const T t = (z[q][d] - mu) * scale;
          if (kJoint) g[q][c] = multiply_add(-t, t, g[q][c]);
          sum[q][d] += exp2_of_any(multiply_add(-t, t, kUneven ? peak + bits[q] : peak));
        }
      }
    }
    if constexpr (kJoint) {
      DX_UNROLL
      for (int q = 0; q < kSweepQueries; ++q) {
        const T top = max(max(g[q][0], g[q][1]), max(g[q][2], g[q][3]));
        joint[q].raise(max(joint[q].max, top));
        joint[q].sum += (exp2(g[q][0] - joint[q].max) + exp2(g[q][1] - joint[q].max)) +
                        (exp2(g[q][2] - joint[q].max) + exp2(g[q][3] - joint[q].max));
      }
    }
  }
};

// Which part of the work a block has. It lies in shared memory, since registers are short.
struct SweepBlock {
  int64_t problem, split, first_query, last_query, first_component, last_component;
  int first_dim;
};

template <typename T>
__device__ __forceinline__ void find_work(SweepBlock& block, const AggregatePosterior<T>& s, const SweepPlan& plan,
                                          int dim_runs, int run_size) {
  if (threadIdx.x == 0) {
    const unsigned query_blocks = unsigned(ceil_div(s.queries, plan.queries_per_block())),
                   splits = unsigned(plan.splits);
    unsigned b = blockIdx.x;
    block.first_dim = int(b % dim_runs) * run_size, b /= dim_runs;
    block.first_query = b % query_blocks * plan.queries_per_block(), b /= query_blocks;
    block.last_query = min(block.first_query + plan.queries_per_block(), s.queries);
    block.split = b % splits, block.problem = b / splits;
    block.first_component = block.split * plan.split_size;
    block.last_component = min(block.first_component + plan.split_size, s.components);
  }
  __syncthreads();
}

// The quads of a tile that are the group's.
template <bool kUneven, typename T, int D, bool kJoint>
__device__ __forceinline__ void add_tile(Queries<T, D, kJoint>& mine, const T* tile, const AggregatePosterior<T>& s,
                                         const SweepPlan& plan, const SweepBlock& block, int64_t first, int count) {
  const int lane = threadIdx.x & (plan.lanes() - 1), group = threadIdx.x >> plan.lane_bits;
  TileExceptions<T> exceptions[kSweepQueries];
  for (int q = 0; kUneven && q < kSweepQueries; ++q)
    exceptions[q] = {s.weights, block.first_query + q * plan.lanes() + lane, first};
  DX_UNROLL_NOT
  for (int j = group * kQuad; j < count; j += plan.groups * kQuad) mine.template add<kUneven>(tile, j, exceptions);
}

// The groups' sums of a block in shared memory: [groups, queries, D + 2], the joint density's last.
template <typename T, int D>
struct GroupSums {
  static constexpr int kWidth = D + 2;
  T* memory;
  int groups, queries;

  template <bool kJoint>
  __device__ __forceinline__ void put(const Queries<T, D, kJoint>& mine, const SweepPlan& plan) {
    const int lanes = plan.lanes(), lane = threadIdx.x & (lanes - 1), group = threadIdx.x >> plan.lane_bits;
    DX_UNROLL
    for (int q = 0; q < kSweepQueries; ++q) {
      T* row = memory + (group * queries + q * lanes + lane) * kWidth;
      DX_UNROLL
      for (int d = 0; d < D; ++d) row[d] = mine.sum[q][d];
      if (kJoint) row[D] = mine.joint[q].sum, row[D + 1] = mine.joint[q].max;
    }
  }

  __device__ __forceinline__ T marginal(int i, int d) const {
    T sum = 0;
    for (int g = 0; g < groups; ++g) sum += memory[(g * queries + i) * kWidth + d];
    return sum;
  }

  __device__ __forceinline__ OnlineSum<T> joint(int i) const {
    OnlineSum<T> total;
    for (int g = 0; g < groups; ++g) {
      const T* row = memory + (g * queries + i) * kWidth;
      OnlineSum<T> part;
      part.sum = row[D], part.max = row[D + 1];
      total.merge(part);
    }
    return total;
  }
};

// Leaves the sums of a block to `finish`.
template <typename T, int D, bool kJoint>
__device__ __forceinline__ void store_sums(const GroupSums<T, D>& sums, const AggregatePosterior<T>& s,
                                           const SweepBlock& block, const SweepSums<T>& out) {
  const int dims = min(D, s.D - block.first_dim), count = int(block.last_query - block.first_query);
  const int64_t row = block.split * s.rows() + block.problem * s.queries + block.first_query;
  for (int e = threadIdx.x; e < count * dims; e += blockDim.x) {
    const int i = e / dims, d = e % dims;
    out.marginal[(row + i) * s.D + block.first_dim + d] = sums.marginal(i, d);
  }
  if constexpr (kJoint) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      const OnlineSum<T> total = sums.joint(i);
      out.joint[2 * (row + i)] = total.sum, out.joint[2 * (row + i) + 1] = total.max;
    }
  }
}

// What a block that saw all components makes of its sums: densities and, for
// elbo_decomposition, the fields of its rows.
template <typename T, int D>
__device__ __forceinline__ void finish_block(const GroupSums<T, D>& sums, const AggregatePosterior<T>& s,
                                             const SweepBlock& block, const DensityOutput<T>& out) {
  const int count = int(block.last_query - block.first_query);
  const int64_t row = block.problem * s.queries + block.first_query;
  for (int e = threadIdx.x; e < count * s.D; e += blockDim.x) {
    const int i = e / s.D, d = e % s.D;
    const T sum = sums.marginal(i, d);
    T bits = T(kLog2e) * log(sum);
    if (out_of_range(s, sum)) bits = marginal_online(s, block.problem, block.first_query + i, d, 0, 1).value();
    out.marginals[(row + i) * s.D + d] = s.weights.ordinary + T(kLn2) * bits;
  }
  double* const fields = reinterpret_cast<double*>(sums.memory + sums.groups * sums.queries *
                                                                     GroupSums<T, D>::kWidth);  // [queries, kFields]
  __syncthreads();
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const double joint = joint_density(s, sums.joint(i));
    out.log_qz[row + i] = T(joint);
    if (!out.elbo.mu) continue;
    double product = 0, qzx = 0, pz = 0;
    for (int d = 0; d < s.D; ++d) {
      product += double(out.marginals[(row + i) * s.D + d]);
      add_own(s, out.elbo, (row + i) * s.D + d, qzx, pz);
    }
    const RowDensities densities{log_density(qzx, s.D), joint, product, log_density(pz, s.D)};
    for (int f = 0; f < kFields; ++f) fields[i * kFields + f] = densities.field(f);
  }
  if (!out.elbo.mu) return;
  __syncthreads();
  if (out.elbo.reduction == Reduction::none) {
    for (int e = threadIdx.x; e < count * kFields; e += blockDim.x)
      store_field(out.elbo, e % kFields, row + e / kFields, fields[e]);
  } else if (threadIdx.x < kFields) {
    double sum = 0;
    for (int i = 0; i < count; ++i) sum += fields[i * kFields + threadIdx.x];
    out.elbo.partial[(block.problem * ceil_div(s.queries, sums.queries) + block.first_query / sums.queries) * kFields +
                     threadIdx.x] = sum;
  }
}

// Sums of D marginal densities and, with kJoint, where these are all dimensions, of the joint density.
template <typename T, int D, bool kJoint>
__global__ void __launch_bounds__(kThreads, D > 10 ? 1 : 2)
    sweep(AggregatePosterior<T> s, SweepPlan plan, int dim_runs, SweepSums<T> out, DensityOutput<T> finished) {
  DX_DYNAMIC_SHARED(T, shared);
  __shared__ SweepBlock block;
  find_work(block, s, plan, dim_runs, D);
  const int lane = threadIdx.x & (plan.lanes() - 1);
  Queries<T, D, kJoint> mine;
  DX_UNROLL
  for (int q = 0; q < kSweepQueries; ++q) {
    const int64_t i = min(block.first_query + q * plan.lanes() + lane, block.last_query - 1);
    const T* z = s.z + (block.problem * s.queries + i) * s.D + block.first_dim;
    DX_UNROLL
    for (int d = 0; d < D; ++d) mine.z[q][d] = block.first_dim + d < s.D ? z[d] : T(0), mine.sum[q][d] = 0;
  }
  for (int k = 0; block.first_component + int64_t(k) * kTile < block.last_component; ++k) {
    const int64_t first = block.first_component + int64_t(k) * kTile;
    const int count = int(min(int64_t(kTile), block.last_component - first));
    __syncthreads();
    load_components<T, D>(shared, s, block.problem, first, count, block.first_dim);
    if (kJoint) load_joint_peaks<T, D>(shared, s, block.problem, first, count);
    __syncthreads();
    if (Weights<T>(s.weights, s.log_weight != nullptr, block.first_query, block.last_query - 1).any(first, count)) {
      add_tile<true>(mine, shared, s, plan, block, first, count);
    } else {
      add_tile<false>(mine, shared, s, plan, block, first, count);
    }
  }
  GroupSums<T, D> sums{shared, plan.groups, kSweepQueries * plan.lanes()};
  __syncthreads();
  sums.put(mine, plan);
  __syncthreads();
  if constexpr (kJoint)
    if (finished.log_qz) return finish_block(sums, s, block, finished);
  store_sums<T, D, kJoint>(sums, s, block, out);
}

// Launching ---------------------------------------------------------------------------------------------------------

// With `finished`, the only split is the last word and no sums are left behind.
template <typename T, int D, bool kJoint>
void launch_sweep(const AggregatePosterior<T>& s, const SweepPlan& plan, const SweepSums<T>& sums,
                  const DensityOutput<T>& finished, cudaStream_t stream) {
  const int dim_runs = kJoint ? 1 : int(ceil_div(s.D, D));
  if (dim_runs == 0) return;  // no dimensions, no marginals
  const int64_t blocks = s.problems * plan.splits * ceil_div(s.queries, plan.queries_per_block()) * dim_runs;
  const int threads = plan.lanes() * plan.groups;
  const size_t tile = kTile * kComponentRow<D> * sizeof(T),
               merge = size_t(threads) * kSweepQueries * (D + 2) * sizeof(T);
  const size_t fields = finished.elbo.mu ? plan.queries_per_block() * kFields * sizeof(double) : 0;
  DX_LAUNCH((sweep<T, D, kJoint>), unsigned(blocks), threads, std::max(tile, merge + fields), stream, s, plan, dim_runs,
            sums, finished);
}

}  // namespace
}  // namespace disentangle_ext::cuda

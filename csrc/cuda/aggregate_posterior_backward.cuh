// Backward: the densities come back from the saved logarithms as responsibilities p_ij = exp(w_ij + sum_d l_ijd -
// log q(z_i)) and r_ijd likewise, once for each pair. With a = g_i p_ij + h_id r_ijd,
//     dz_id -= a (z - mu) / var,   dmu_jd += a (z - mu) / var,   dlogvar_jd += a / 2 ((z - mu)^2 / var - 1).
// In bits, with w = (z - mu) log2(e) / (2 var) and x = (z - mu) w - 1 / (2 ln 2), these are 2 ln(2) a w and ln(2) a x,
// and a density is exp2(peak - 1 / (2 ln 2) - x): ten instructions an exponential.
//
// The lanes of a warp hold components in registers, with all that is summed over queries; queries come through shared
// memory. What is summed over components is scattered over the lanes by halving. Sums never meet in memory: a block
// writes slices of its own, and `gather` adds them in order.
#pragma once

#include "cuda/aggregate_posterior_query_tile.cuh"

namespace disentangle_ext::cuda {
namespace {

// Components of a lane: as many as registers hold, to share the cost of the sums over lanes.
template <typename T, int D>
constexpr int kLaneComponents = sizeof(T) == sizeof(double) || D > 10 ? 1
                                : D > 4                               ? 2
                                                                      : 4;

// Blocks that share the registers of a multiprocessor. Before sm_90 the compiler does not fit ten
// dimensions into a third.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
template <typename T, int D>
constexpr int kGradientBlocks = sizeof(T) == sizeof(float) ? (D == 10 ? 2 : 3) : 1;
#else
template <typename T, int D>
constexpr int kGradientBlocks = sizeof(T) == sizeof(float) ? 3 : 1;
#endif

// Sums over the 32 lanes of N values a lane: half of the values go to the other half of the lanes, and so on. Lane l is
// left with the sum of value scatter_slot<N>(l), if that is not negative.
template <int mask, int N, typename T>
__device__ __forceinline__ T scatter_sum(const T (&v)[N], int lane) {
  if constexpr (mask == 0) {
    return v[0];
  } else if constexpr (N == 1) {
    const T w[1] = {v[0] + __shfl_xor_sync(kAllLanes, v[0], mask)};
    return scatter_sum<mask / 2>(w, lane);
  } else {
    constexpr int half = (N + 1) / 2;
    const bool upper = lane & mask;
    T w[half];
    DX_UNROLL
    for (int i = 0; i < half; ++i) {
      const T low = v[i], high = i + half < N ? v[i + half < N ? i + half : 0] : T(0);
      w[i] = (upper ? high : low) + __shfl_xor_sync(kAllLanes, upper ? low : high, mask);
    }
    return scatter_sum<mask / 2>(w, lane);
  }
}

template <int N>
__device__ __forceinline__ int scatter_slot(int lane) {
  int slot = 0, size = N, valid = N;  // the lower half is the larger one, so that the upper may end in padding
  for (int mask = 16; mask; mask /= 2) {
    const int half = (size + 1) / 2;
    const bool upper = lane & mask;
    if (size == 1 && upper) return -1;
    if (size > 1) slot += upper ? half : 0, valid = upper ? valid - half : min(valid, half);
    size = half;
  }
  return valid > 0 ? slot : -1;
}

// Components of a lane, and what is summed over the queries for them.
template <typename T, int D, bool kJoint, bool kLearned>
struct Components {
  static constexpr int C = kLaneComponents<T, D>, kLearnedDims = kLearned ? D : 0;
  // A distance times `scale` is w, and in float64, where a precision may overflow, t.
  T mu[C][D], scale[C][D], peak[C][D], joint_peak[C];
  T mu_sum[C][D], logvar_sum[C][D], weight_sum[C][kLearned ? D : 1];

  static constexpr int kSums = (kLearned ? 3 : 2) * D;  // of a component

  // Component c of lane l is 32 c + l of the warp's. They come through shared memory, [32 C, 2 D] for mu and
  // logvar, where neighbouring threads read neighbouring words. Finds the highest peak, and whether a number
  // is too large for float32.
  static __device__ __forceinline__ void stage(T* staged, const AggregatePosterior<T>& s, int64_t problem,
                                               int64_t first, int lane, int first_dim, T& top, bool& large) {
    const int count = used(s, first), dims = min(D, s.D - first_dim);
    const int64_t base = problem * s.components + first;
    DX_UNROLL_NOT
    for (int e = lane; e < count * dims; e += kWarp) {
      const int j = e / dims, d = e % dims;
      const int64_t at = (base + j) * s.D + first_dim + d;
      const T mu = s.mu[at], logvar = s.logvar[at], weight = s.log_weight ? T(kLog2e) * s.log_weight[base + j] : T(0);
      staged[j * 2 * D + d] = mu, staged[j * 2 * D + D + d] = logvar;
      top = max(top, peak_of(logvar) + weight);
      large |= too_large(mu) || !(precision_of(logvar) <= kLargestPrecision<T>);
    }
  }

  static __device__ __forceinline__ int used(const AggregatePosterior<T>& s, int64_t first) {
    return int(max(int64_t(0), min(int64_t(C * kWarp), s.components - first)));
  }

  // From shared memory to registers. Places past the last, and dimensions, hold densities of zero, of scale one where
  // the query may be infinite; so does everything where the rule leaves it to float64.
  __device__ __forceinline__ void fill(const T* staged, const AggregatePosterior<T>& s, int64_t problem, int64_t first,
                                       int lane, int first_dim, const FarRule<T>& rule) {
    const int count = rule.all() ? 0 : used(s, first), dims = min(D, s.D - first_dim);
    DX_UNROLL
    for (int c = 0; c < C; ++c) {
      const int j = c * kWarp + lane;
      const T weight = j < count && s.log_weight ? T(kLog2e) * s.log_weight[problem * s.components + first + j] : T(0);
      joint_peak[c] = j < count ? weight - T(D * kHalfNat) : -kInfinity<T>;
      DX_UNROLL
      for (int d = 0; d < D; ++d) {
        const bool filled = j < count && d < dims;
        const T logvar = filled ? staged[j * 2 * D + D + d] : T(0), own = peak_of(logvar);
        const T own_scale = kFolded<T> ? precision_of(logvar) : scale_of(logvar);
        mu[c][d] = filled ? staged[j * 2 * D + d] : T(0), scale[c][d] = filled ? own_scale : T(1);
        peak[c][d] = filled ? own + weight - T(kHalfNat) - rule.reference : -kInfinity<T>;
        if (kJoint && filled) joint_peak[c] += own;
      }
    }
  }

  __device__ __forceinline__ void clear() {
    DX_UNROLL
    for (int c = 0; c < C; ++c) {
      DX_UNROLL
      for (int d = 0; d < D; ++d) mu_sum[c][d] = 0, logvar_sum[c][d] = 0, weight_sum[c][d < kLearnedDims ? d : 0] = 0;
    }
  }

  // Component c against one query; adds its share of dz / (-2 ln 2) to `dz`.
  template <bool kUneven>
  __device__ __forceinline__ void add(const T (&z)[D], const T* row, int c, T bits, T (&dz)[D]) {
    using Tile = QueryTile<T, D>;
    T w[D], x[D], exponent = kUneven ? joint_peak[c] + bits : joint_peak[c];
    DX_UNROLL
    for (int d = 0; d < D; ++d) {
      const T u = z[d] - mu[c][d];
      w[d] = u * scale[c][d];
      x[d] = multiply_add(kFolded<T> ? u : w[d], w[d], T(-kHalfNat));
      if (kJoint) exponent -= x[d];
    }
    const T gp = kJoint ? row[Tile::kJoint + 1] * exp2(log2_share(exponent + row[Tile::kJoint])) : T(0);
    DX_UNROLL
    for (int d = 0; d < D; ++d) {
      T top = kUneven ? peak[c][d] + bits : peak[c][d];
      if (!kFolded<T>) top += row[Tile::kShift + d];
      const T e = exp2(log2_share(top - x[d])), a = multiply_add(row[D + d], e, gp);
      if (kLearned) weight_sum[c][d < kLearnedDims ? d : 0] += row[D + d] * e;
      if constexpr (kFolded<T>) {
        logvar_sum[c][d] = multiply_add(a, x[d], logvar_sum[c][d]);
        mu_sum[c][d] = multiply_add(a, w[d], mu_sum[c][d]);
        dz[d] = multiply_add(a, w[d], dz[d]);
      } else {
        dz[d] += add_gradient<false>(a, w[d], mu_sum[c][d], logvar_sum[c][d]) * finite_factor(scale[c][d]);
      }
    }
  }

  // Puts the sums where store_components finds them: [32 C, kSums], a word apart from each other's banks.
  __device__ __forceinline__ void put(T* sums, int lane) const {
    DX_UNROLL
    for (int c = 0; c < C; ++c) {
      T* row = sums + (c * kWarp + lane) * (kSums + 1);
      DX_UNROLL
      for (int d = 0; d < D; ++d) {
        row[d] = kFolded<T> ? mu_sum[c][d] : mu_sum[c][d] * finite_factor(scale[c][d]);
        row[D + d] = logvar_sum[c][d];
        if (kLearned) row[2 * D + d] = weight_sum[c][d < kLearnedDims ? d : 0];
      }
    }
  }
};

// Largest value of the block, the same in every thread.
template <typename T>
__device__ __forceinline__ T block_max(T v, T* shared) {
  DX_UNROLL
  for (int mask = 16; mask; mask >>= 1) v = max(v, __shfl_xor_sync(kAllLanes, v, mask));
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = v;
  __syncthreads();
  T top = shared[0];
  for (int w = 1; w < kGradientWarps; ++w) top = max(top, shared[w]);
  return top;
}

// The sweep -----------------------------------------------------------------------------------------------------------

// Adds what the groups of a block have for its components, in order, and stores it. No gradient here has its last
// factors yet, which are those of `gather`.
template <typename T, int D, bool kLearned, int kPerWarp>
__device__ __forceinline__ void store_components(const T* sums, T* slice, int width, const AggregatePosterior<T>& s,
                                                 int64_t problem, int64_t first, int groups, int members,
                                                 int first_dim) {
  constexpr int kSums = (kLearned ? 3 : 2) * D, kRow = kSums + 1;
  const int count = int(min(int64_t(members) * kPerWarp, s.components - first)), dims = min(D, s.D - first_dim);
  DX_UNROLL_NOT
  for (int e = threadIdx.x; e < count * kSums; e += kGradientThreads) {
    const int j = e / kSums, kind = e % kSums / D, d = e % D;
    if (d >= dims) continue;
    T sum = 0;
    for (int g = 0; g < groups; ++g) sum += sums[(g * members * kPerWarp + j) * kRow + kind * D + d];
    slice[(problem * s.components + first + j) * width + kind * s.D + first_dim + d] = sum;
  }
  if (!kLearned || first_dim > 0) return;
  for (int j = threadIdx.x; j < count; j += kGradientThreads)
    slice[(problem * s.components + first + j) * width + 3 * s.D] =
        0;  // the joint density's share comes from its own kernel
}

// Adds the shares of a group's warps to the query slice; the first components of a block's range start it.
template <typename T, int D>
__device__ __forceinline__ void flush_queries(T* slice, const T* shares, const AggregatePosterior<T>& s,
                                              int64_t first_row, int count, int first_dim, int warps, bool start,
                                              int thread) {
  DX_UNROLL_NOT
  for (int e = thread; e < count * D; e += warps * kWarp) {
    const int d = first_dim + e % D;
    if (d >= s.D) continue;
    T sum = 0;
    for (int w = 0; w < warps; ++w) sum += shares[w * kQueryTile * D + e];
    T* out = slice + (first_row + e / D) * s.D + d;
    *out = start ? sum : *out + sum;
  }
}

// All queries of a group against the components that its warps hold.
template <bool kUneven, typename T, int D, bool kJoint, bool kLearned>
__device__ __forceinline__ void tile_step(Components<T, D, kJoint, kLearned>& mine, const QueryTile<T, D>& tile,
                                          int count, int64_t first_component, T* shares) {
  constexpr int C = Components<T, D, kJoint, kLearned>::C;
  const int lane = threadIdx.x % kWarp, slot = scatter_slot<D>(lane);
  DX_UNROLL_NOT
  for (int q = 0; q < count; ++q) {
    T bits[C] = {};
    if constexpr (kUneven) {
      const int64_t own = tile.exception[2 * q] - first_component, next = tile.exception[2 * q + 1] - first_component;
      DX_UNROLL
      for (int c = 0; c < C; ++c)
        bits[c] = own == c * kWarp + lane ? tile.bits[2 * q] : next == c * kWarp + lane ? tile.bits[2 * q + 1] : T(0);
    }
    const T* row = tile.rows + q * QueryTile<T, D>::kRow;
    T z[D], dz[D] = {};
    DX_UNROLL
    for (int d = 0; d < D; ++d) z[d] = row[d];
    DX_UNROLL
    for (int c = 0; c < C; ++c) {
      mine.template add<kUneven>(z, row, c, bits[c], dz);  // each reads the gradients when it needs them
      __syncwarp();  // keeps the compiler from interleaving the components, for which registers do not suffice
    }
    const T sum = scatter_sum<16>(dz, lane);
    if (slot >= 0) shares[q * D + slot] = sum;
  }
}

// Whether a query of the block is too large for float32; called by its groups, each for its own.
template <typename T>
__device__ __forceinline__ bool any_too_large(const AggregatePosterior<T>& s, const GradientBlock& block) {
  bool large = false;
  const int64_t first = (block.problem * s.queries + block.first_query) * s.D,
                last = (block.problem * s.queries + block.last_query) * s.D;
  for (int64_t e = first + threadIdx.x; e < last; e += kGradientThreads) large |= too_large(s.z[e]);
  return large;
}

template <typename T, int D, bool kJoint, bool kLearned>
__global__ void __launch_bounds__(kGradientThreads, kGradientBlocks<T, D>)
    gradient_sweep(AggregatePosterior<T> s, GradientPlan plan, int dim_runs, int width, IncomingGradients<T> in,
                   GradientSlices<T> out) {
  DX_DYNAMIC_SHARED(T, shared);
  __shared__ GradientBlock block;
  find_work(block, s, plan, dim_runs);
  using Mine = Components<T, D, kJoint, kLearned>;
  constexpr int kPerWarp = Mine::C * kWarp;
  const int first_dim = int(block.dim_run) * D, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int members = plan.component_warps(), group = warp >> plan.warp_bits, member = warp & (members - 1),
            thread = threadIdx.x & (members * kWarp - 1);
  const QueryTile<T, D> tile(shared + group * QueryTile<T, D>::kSize);
  T* shares = shared + plan.query_groups() * QueryTile<T, D>::kSize + group * members * kQueryTile * D;

  const int per_group = (int(plan.query_range) + plan.query_groups() - 1) >> (kGradientWarpBits - plan.warp_bits);
  __shared__ FarRule<T> rule;
  __shared__ bool left_any;  // read and written by one thread: a register less for the others
  __shared__ T highest[kGradientWarps];
  for (int k = 0; block.first_component + int64_t(k) * members * kPerWarp < block.last_component; ++k) {
    const int64_t first = block.first_component + int64_t(k) * members * kPerWarp,
                  own = first + int64_t(member) * kPerWarp;
    Mine mine;
    T* staged = shared + warp * kPerWarp * 2 * D;
    T top = kLowest<T>;
    bool large = false;
    Mine::stage(staged, s, block.problem, own, lane, first_dim, top, large);
    if constexpr (kFolded<T>) {
      const bool all = __syncthreads_or(large || any_too_large(s, block)) != 0;
      top = block_max(top, highest);
      if (threadIdx.x == 0) rule = {all ? kInfinity<T> : top - T(kHalfNat)};
    } else {
      if (threadIdx.x == 0) rule = {T(0)};
    }
    __syncthreads();
    mine.fill(staged, s, block.problem, own, lane, first_dim, rule);
    mine.clear();
    if (threadIdx.x == 0) left_any = false;
    for (int step = 0; step < per_group; step += kQueryTile) {
      const int64_t query = min(block.first_query + group * per_group + step, block.last_query);
      const int count = min(min(kQueryTile, per_group - step), int(block.last_query - query));
      __syncthreads();
      const bool left = load_queries<T, D, kJoint>(tile, s, in, block.problem, query, count, first_dim, rule, thread,
                                                   members * kWarp);
      if (__syncthreads_or(left) && threadIdx.x == 0) left_any = true;
      if (Weights<T>(s.weights, s.log_weight != nullptr, query, query + count - 1).any(own, kPerWarp)) {
        tile_step<true>(mine, tile, count, own, shares + member * kQueryTile * D);
      } else {
        tile_step<false>(mine, tile, count, own, shares + member * kQueryTile * D);
      }
      __syncthreads();
      T* query_slice = out.query + block.component_range * s.rows() * s.D;
      flush_queries<T, D>(query_slice, shares, s, block.problem * s.queries + query, count, first_dim, members, k == 0,
                          thread);
    }
    __syncthreads();
    mine.put(shared + warp * kPerWarp * (Mine::kSums + 1), lane);
    __syncthreads();
    T* component_slice = out.component + block.query_range * s.problems * s.components * width;
    store_components<T, D, kLearned, kPerWarp>(shared, component_slice, width, s, block.problem, first,
                                               plan.query_groups(), members, first_dim);
    __syncthreads();
    if (kFolded<T> && threadIdx.x == 0) out.put_left(blockIdx.x, k, plan.chunks(kPerWarp), left_any, rule.reference);
  }
}

// Launching -----------------------------------------------------------------------------------------------------------

template <typename T, int D, bool kJoint, bool kLearned>
void launch_gradient(const AggregatePosterior<T>& s, const GradientLayout<T>& layout, const IncomingGradients<T>& in,
                     const GradientSlices<T>& slices, cudaStream_t stream) {
  const GradientPlan& plan = layout.marginal;
  const int dim_runs = kJoint ? 1 : int(ceil_div(s.D, D));
  const int64_t blocks = s.problems * plan.component_ranges * plan.query_ranges * dim_runs;
  constexpr int kPerWarp = kLaneComponents<T, D> * kWarp;
  const size_t tiles = size_t(plan.query_groups()) * QueryTile<T, D>::kSize + size_t(kGradientWarps) * kQueryTile * D;
  const size_t sums = size_t(kGradientWarps) * kPerWarp * ((kLearned ? 3 : 2) * D + 1);
  DX_LAUNCH((gradient_sweep<T, D, kJoint, kLearned>), unsigned(blocks), kGradientThreads,
            std::max(tiles, sums) * sizeof(T), stream, s, plan, dim_runs, layout.width(s.D), in, slices);
}

}  // namespace
}  // namespace disentangle_ext::cuda

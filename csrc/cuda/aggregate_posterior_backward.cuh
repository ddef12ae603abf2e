// Backward: the densities come back from the saved logarithms as responsibilities p_ij = exp(w_ij + sum_d l_ijd - log q(z_i))
// and r_ijd likewise, once for each pair. With a = g_i p_ij + h_id r_ijd,
//     dz_id -= a (z - mu) / var,   dmu_jd += a (z - mu) / var,   dlogvar_jd += a / 2 ((z - mu)^2 / var - 1),
// where (z - mu) / var = 2 ln(2) t s and (z - mu)^2 / var = 2 ln(2) t^2.
//
// The lanes of a warp hold components in registers, with all that is summed over queries; queries come through shared
// memory. What is summed over components is scattered over the lanes by halving. Sums never meet in memory: a block
// writes slices of its own, and `gather` adds them in order.
#pragma once

#include "cuda/mixture.cuh"

namespace disentangle_ext::cuda {
namespace {

constexpr int kQueryTile = 16;
constexpr int kWarps = kThreads / kWarp;

// Components of a lane: as many as registers hold, to share the cost of the sums over lanes.
template <typename T, int D>
constexpr int kLaneComponents = sizeof(T) == sizeof(float) && D <= 10 ? 2 : 1;

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

// Gradients of log q(z_i) and of the marginals of row i; those of elbo_decomposition are linear in its fields'.
template <typename T>
DX_INLINE T field_gradient(const IncomingGradients<T>& in, int f, int64_t row, int64_t queries) {
  return in.fields[f] ? in.scale * in.fields[f][in.reduced ? row / queries : row] : T(0);
}

template <typename T>
DX_INLINE T joint_gradient(const IncomingGradients<T>& in, int64_t row, int64_t queries) {
  if (!in.elbo) return in.g ? in.g[row] : T(0);
  return field_gradient(in, 1, row, queries) - field_gradient(in, 0, row, queries) + field_gradient(in, 4, row, queries);
}

template <typename T>
DX_INLINE T marginal_gradient(const IncomingGradients<T>& in, int64_t row, int d, int D, int64_t queries) {
  if (!in.elbo) return in.h ? in.h[row * D + d] : T(0);
  return field_gradient(in, 2, row, queries) - field_gradient(in, 1, row, queries) + field_gradient(in, 5, row, queries);
}

// Minus a saved logarithm, in bits, relative to the ordinary weight. Where the density is zero it has no gradient.
template <typename T>
DX_INLINE T shift_of(T ordinary, T log_density) {
  return T(kLog2e) * (ordinary - log_density);
}

// In float32 the exponential of a shift of b bits is off by 2^-25 b: beyond kFarJoint, the query is left to float64. The
// factor 2^shift of a marginal is taken into its gradient, in float32, as long as neither it nor what it multiplies can
// leave the range.
template <typename T>
constexpr bool kFolded = sizeof(T) == sizeof(float);
template <typename T>
constexpr T kFarJoint = sizeof(T) == sizeof(float) ? T(256) : kInfinity<T>;
template <typename T>
constexpr T kFarMarginal = sizeof(T) == sizeof(float) ? T(60) : kInfinity<T>;

template <typename T>
DX_INLINE bool far_joint(T shift) {
  return (shift > kFarJoint<T> || shift < -kFarJoint<T>) && shift != kInfinity<T>;
}

template <typename T>
DX_INLINE bool far_marginal(T shift, T reference) {
  return shift + reference > kFarMarginal<T> && shift != kInfinity<T>;
}

// [rows of D]: the query, its shift (float64 only) and its gradient; [rows]: shift and gradient of the joint density;
// [rows of 2]: exceptional components and their weights in bits.
template <typename T, int D>
struct QueryTile {
  static constexpr int kSize = kQueryTile * (3 * D + 4 + 2 * int(sizeof(int64_t) / sizeof(T)));

  T *z, *shift, *h, *joint_shift, *g, *bits;
  int64_t* exception;

  __device__ __forceinline__ explicit QueryTile(T* memory)
      : z(memory), shift(z + kQueryTile * D), h(shift + kQueryTile * D), joint_shift(h + kQueryTile * D), g(joint_shift + kQueryTile), bits(g + kQueryTile),
        exception(reinterpret_cast<int64_t*>(bits + 2 * kQueryTile)) {}
};

// Queries first .. first + count of a problem. Returns whether one of them is left to float64. A query whose density is
// zero may be infinite: it is moved to zero, so that zero times its distance is zero.
template <typename T, int D>
__device__ __forceinline__ bool load_queries(const QueryTile<T, D>& tile, const MixtureStack<T>& s, const IncomingGradients<T>& in, int64_t first_row,
                                             int count, int first_dim, T reference, int thread, int threads) {
  bool far = false;
  for (int e = thread; e < count * D; e += threads) {
    const int64_t row = first_row + e / D;
    const int d = first_dim + e % D;
    T z = 0, shift = -kInfinity<T>, h = 0;
    if (d < s.D) {
      const T log_density = in.marginals[row * s.D + d];
      if (log_density != -kInfinity<T>) {
        z = s.z[row * s.D + d], shift = shift_of(s.weights.ordinary, log_density);
        h = marginal_gradient(in, row, d, s.D, s.queries);
        if (far_marginal(shift, reference)) far = true, h = 0, shift = -kInfinity<T>;
      }
    }
    tile.z[e] = z, tile.h[e] = kFolded<T> ? h * exp2(shift + reference) : h;
    if (!kFolded<T>) tile.shift[e] = shift;
  }
  for (int q = thread; q < count; q += threads) {
    const int64_t row = first_row + q;
    const T log_density = in.log_qz[row];
    T shift = -kInfinity<T>, g = 0;
    if (log_density != -kInfinity<T>) {
      shift = shift_of(s.weights.ordinary, log_density), g = joint_gradient(in, row, s.queries);
      if (far_joint(shift)) far = true, g = 0, shift = -kInfinity<T>;
    }
    tile.joint_shift[q] = shift, tile.g[q] = g;
    if (s.log_weight || !s.weights.stratified()) continue;
    int64_t at[2];
    T weight[2];
    s.weights.exceptions(row % s.queries, at, weight);
    for (int e = 0; e < 2; ++e) tile.exception[2 * q + e] = at[e], tile.bits[2 * q + e] = T(kLog2e) * (weight[e] - s.weights.ordinary);
  }
  return far;
}

// Components of a lane, and what is summed over the queries for them.
template <typename T, int D, bool kJoint>
struct Components {
  static constexpr int C = kLaneComponents<T, D>;
  T mu[C][D], scale[C][D], peak[C][D], joint_peak[C];
  T mu_sum[C][D] = {}, logvar_sum[C][D] = {}, weight_sum[C][D] = {}, joint_sum[C] = {};

  // Component c of the lane is first + 32 c + lane. Places past the last hold densities of zero.
  __device__ __forceinline__ void load(const MixtureStack<T>& s, int64_t problem, int64_t first, int lane, int first_dim) {
    DX_UNROLL
    for (int c = 0; c < C; ++c) {
      const int64_t j = first + c * kWarp + lane, at = problem * s.components + j;
      const bool used = j < s.components;
      const T weight = used && s.log_weight ? T(kLog2e) * s.log_weight[at] : T(0);
      joint_peak[c] = used ? weight : -kInfinity<T>;
      DX_UNROLL
      for (int d = 0; d < D; ++d) {
        mu[c][d] = 0, scale[c][d] = 0, peak[c][d] = -kInfinity<T>;
        if (!used || first_dim + d >= s.D) continue;
        const T logvar = s.logvar[at * s.D + first_dim + d], own = peak_of(logvar);
        mu[c][d] = s.mu[at * s.D + first_dim + d], scale[c][d] = scale_of(logvar), peak[c][d] = own + weight;
        if (kJoint) joint_peak[c] += own;
      }
    }
  }

  __device__ __forceinline__ T highest_peak() const {
    T top = -kInfinity<T>;
    DX_UNROLL
    for (int c = 0; c < C; ++c)
      DX_UNROLL
      for (int d = 0; d < D; ++d) top = max(top, peak[c][d]);
    return top;
  }

  __device__ __forceinline__ void lower_peaks(T reference) {
    DX_UNROLL
    for (int c = 0; c < C; ++c)
      DX_UNROLL
      for (int d = 0; d < D; ++d) peak[c][d] -= reference;
  }

  // One query against the components of the lane; leaves its share of dz / (-2 ln 2) in `dz`.
  template <bool kUneven>
  __device__ __forceinline__ void add(const QueryTile<T, D>& tile, int q, const T (&bits)[C], T (&dz)[D]) {
    T t[C][D], gp[C];
    DX_UNROLL
    for (int c = 0; c < C; ++c) {
      T exponent = joint_peak[c];
      DX_UNROLL
      for (int d = 0; d < D; ++d) {
        t[c][d] = (tile.z[q * D + d] - mu[c][d]) * scale[c][d];
        if (kJoint) exponent -= t[c][d] * t[c][d];
      }
      gp[c] = 0;
      if (!kJoint) continue;
      gp[c] = tile.g[q] * exp2((kUneven ? exponent + bits[c] : exponent) + tile.joint_shift[q]);
      joint_sum[c] += gp[c];
    }
    DX_UNROLL
    for (int d = 0; d < D; ++d) {
      const T h = tile.h[q * D + d];
      dz[d] = 0;
      DX_UNROLL
      for (int c = 0; c < C; ++c) {
        T top = kUneven ? peak[c][d] + bits[c] : peak[c][d];
        if (!kFolded<T>) top += tile.shift[q * D + d];
        const T e = exp2(top - t[c][d] * t[c][d]), at = (h * e + gp[c]) * t[c][d];
        weight_sum[c][d] += h * e;
        mu_sum[c][d] += at;
        logvar_sum[c][d] += at * t[c][d];
        dz[d] += at * scale[c][d];
      }
    }
  }

  // [3 D + 1] a component. No gradient here has its last factors yet, which are those of `gather`.
  __device__ __forceinline__ void store(T* slice, const MixtureStack<T>& s, int64_t problem, int64_t first, int lane, int first_dim) const {
    DX_UNROLL
    for (int c = 0; c < C; ++c) {
      const int64_t j = first + c * kWarp + lane;
      if (j >= s.components) continue;
      T* out = slice + (problem * s.components + j) * (3 * s.D + 1) + first_dim;
      DX_UNROLL
      for (int d = 0; d < D; ++d) {
        if (first_dim + d >= s.D) continue;
        out[d] = mu_sum[c][d], out[s.D + d] = logvar_sum[c][d], out[2 * s.D + d] = weight_sum[c][d];
      }
      if (first_dim == 0) out[3 * s.D] = joint_sum[c];
    }
  }
};

// Which part of the work a block has. It lies in shared memory, since registers are short.
struct GradientBlock {
  int64_t problem, component_range, query_range, first_component, last_component, first_query, last_query, dim_run;
};

template <typename T>
__device__ __forceinline__ void find_work(GradientBlock& block, const MixtureStack<T>& s, const GradientPlan& plan, int dim_runs) {
  if (threadIdx.x == 0) {
    int64_t b = blockIdx.x;
    block.dim_run = b % dim_runs, b /= dim_runs;
    block.query_range = b % plan.query_ranges, b /= plan.query_ranges;
    block.component_range = b % plan.component_ranges, block.problem = b / plan.component_ranges;
    block.first_component = block.component_range * plan.component_range;
    block.last_component = min(block.first_component + plan.component_range, s.components);
    block.first_query = block.query_range * plan.query_range;
    block.last_query = min(block.first_query + plan.query_range, s.queries);
  }
  __syncthreads();
}

// Largest value of the block, the same in every thread.
template <typename T>
__device__ __forceinline__ T block_max(T v, T* shared) {
  DX_UNROLL
  for (int mask = 16; mask; mask >>= 1) v = max(v, __shfl_xor_sync(kAllLanes, v, mask));
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = v;
  __syncthreads();
  T top = shared[0];
  for (int w = 1; w < kWarps; ++w) top = max(top, shared[w]);
  return top;
}

// Float64 for the few ------------------------------------------------------------------------------------------------

template <typename T>
DX_INLINE double wide_distance(const MixtureStack<T>& s, int64_t component, int64_t row, int d) {
  return (double(s.z[row * s.D + d]) - double(s.mu[component * s.D + d])) * scale_of(double(s.logvar[component * s.D + d]));
}

// One query's term in one density, joint (d < 0) or marginal: in bits, the ordinary weight left out.
template <typename T>
DX_INLINE double wide_bits(const MixtureStack<T>& s, const Weights<T>& weights, int64_t problem, int64_t i, int64_t j, int d) {
  const int64_t component = problem * s.components + j, row = problem * s.queries + i;
  double x = s.log_weight ? kLog2e * double(s.log_weight[component]) : weights.any(j, 1) ? double(weights(i, j)) : 0.0;
  for (int k = d < 0 ? 0 : d; k < (d < 0 ? s.D : d + 1); ++k) {
    const double t = wide_distance(s, component, row, k);
    x += peak_of(double(s.logvar[component * s.D + k])) - t * t;
  }
  return x;
}

// log2 of that density, by the block.
template <typename T>
__device__ __forceinline__ double wide_density(const MixtureStack<T>& s, const Weights<T>& weights, int64_t problem, int64_t i, int d, double* shared) {
  OnlineSum<double> total;
  for (int64_t j = threadIdx.x; j < s.components; j += kThreads) total.add(wide_bits(s, weights, problem, i, j, d));
  total = warp_sum(total);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp * 2] = total.sum, shared[threadIdx.x / kWarp * 2 + 1] = total.max;
  __syncthreads();
  OnlineSum<double> all;
  for (int w = 0; w < kWarps; ++w) {
    OnlineSum<double> part;
    part.sum = shared[2 * w], part.max = shared[2 * w + 1];
    all.add(part);
  }
  return all.log2();
}

// What load_queries left out, of dimensions [first_dim, last_dim) and, with `joint`, of the joint density. The work order
// lies in shared memory: as arguments, its structs would be copied to every thread's stack.
template <typename T>
struct FarWork {
  MixtureStack<T> s;
  IncomingGradients<T> in;
  GradientBlock block;
  int64_t first, last;  // components
  int first_dim, last_dim;
  bool joint;
  T reference;
  T *component_slice, *query_slice;
};

// Adds the gradient of one density of one query to the slices of the block: a thread a component, then a warp a dimension
// for what is summed over components.
template <typename T>
__device__ __forceinline__ void add_wide(const FarWork<T>& work, int64_t i, int d, double gradient, double* shared) {
  const MixtureStack<T>& s = work.s;
  const Weights<T> weights(s.weights, s.log_weight != nullptr, i, i);
  const int64_t problem = work.block.problem, row = problem * s.queries + i;
  const int begin = d < 0 ? 0 : d, end = d < 0 ? s.D : d + 1, lane = threadIdx.x % kWarp;
  const double total = wide_density(s, weights, problem, i, d, shared);
  for (int64_t j = work.first + threadIdx.x; j < work.last; j += kThreads) {
    const int64_t component = problem * s.components + j;
    const double a = gradient * exp2(wide_bits(s, weights, problem, i, j, d) - total);
    T* out = work.component_slice + component * (3 * s.D + 1);
    for (int k = begin; k < end; ++k) {
      const double t = wide_distance(s, component, row, k);
      out[k] += T(a * t), out[s.D + k] += T(a * t * t);
    }
    out[d < 0 ? 3 * s.D : 2 * s.D + d] += T(a);
  }
  for (int k = begin + threadIdx.x / kWarp; k < end; k += kWarps) {
    double sum = 0;
    for (int64_t j = work.first + lane; j < work.last; j += kWarp) {
      const int64_t component = problem * s.components + j;
      const double a = gradient * exp2(wide_bits(s, weights, problem, i, j, d) - total);
      sum += a * wide_distance(s, component, row, k) * scale_of(double(s.logvar[component * s.D + k]));
    }
    sum = warp_sum(sum);
    if (lane == 0) work.query_slice[row * s.D + k] += T(sum);
  }
}

template <typename T>
__device__ DX_NOINLINE void add_far_queries(const FarWork<T>& work, double* shared) {
  for (int64_t i = work.block.first_query; i < work.block.last_query; ++i) {
    const int64_t row = work.block.problem * work.s.queries + i;
    if (work.joint && far_joint(shift_of(work.s.weights.ordinary, work.in.log_qz[row])))
      add_wide(work, i, -1, double(joint_gradient(work.in, row, work.s.queries)), shared);
    for (int d = work.first_dim; d < work.last_dim; ++d)
      if (far_marginal(shift_of(work.s.weights.ordinary, work.in.marginals[row * work.s.D + d]), work.reference))
        add_wide(work, i, d, double(marginal_gradient(work.in, row, d, work.s.D, work.s.queries)), shared);
  }
}

// Called by the whole block, whose shared memory is free by then.
template <typename T>
__device__ __forceinline__ void finish_far_queries(unsigned char* shared, const FarWork<T>& work) {
  auto* order = reinterpret_cast<FarWork<T>*>(shared + 2 * kWarps * sizeof(double));
  if (threadIdx.x == 0) *order = work;
  __syncthreads();
  add_far_queries(*order, reinterpret_cast<double*>(shared));
  __syncthreads();
}

// The sweep -----------------------------------------------------------------------------------------------------------

// Adds the shares of a group's warps to the query slice; the first components of a block's range start it.
template <typename T, int D>
__device__ __forceinline__ void flush_queries(T* slice, const T* shares, const MixtureStack<T>& s, int64_t first_row, int count, int first_dim, int warps,
                                              bool start, int thread) {
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
template <typename T, int D, bool kJoint>
__device__ __forceinline__ void tile_step(Components<T, D, kJoint>& mine, const QueryTile<T, D>& tile, bool uneven, int count, int64_t first_component,
                                          T* shares) {
  constexpr int C = Components<T, D, kJoint>::C;
  const int lane = threadIdx.x % kWarp, slot = scatter_slot<D>(lane);
  DX_UNROLL_NOT
  for (int q = 0; q < count; ++q) {
    T bits[C], dz[D];
    if (uneven) {
      const int64_t own = tile.exception[2 * q] - first_component, next = tile.exception[2 * q + 1] - first_component;
      DX_UNROLL
      for (int c = 0; c < C; ++c) {
        const int j = c * kWarp + lane;
        bits[c] = j == own ? tile.bits[2 * q] : j == next ? tile.bits[2 * q + 1] : T(0);
      }
      mine.template add<true>(tile, q, bits, dz);
    } else {
      mine.template add<false>(tile, q, bits, dz);
    }
    const T sum = scatter_sum<16>(dz, lane);
    if (slot >= 0) shares[q * D + slot] = sum;
  }
}

template <typename T, int D, bool kJoint>
__global__ void __launch_bounds__(kThreads, 1)
    gradient_sweep(MixtureStack<T> s, GradientPlan plan, int dim_runs, IncomingGradients<T> in, GradientSlices<T> out) {
  DX_DYNAMIC_SHARED(T, shared);
  constexpr int C = Components<T, D, kJoint>::C;
  __shared__ GradientBlock block;
  find_work(block, s, plan, dim_runs);
  const int first_dim = int(block.dim_run) * D, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int members = plan.component_warps, group = warp / members, member = warp % members, thread = threadIdx.x % (members * kWarp);
  const QueryTile<T, D> tile(shared + group * QueryTile<T, D>::kSize);
  T* shares = shared + plan.query_groups() * QueryTile<T, D>::kSize + group * members * kQueryTile * D;

  const int64_t per_group = ceil_div(plan.query_range, plan.query_groups());
  const int64_t begin = min(block.first_query + group * per_group, block.last_query), end = min(begin + per_group, block.last_query);
  T* query_slice = out.query + block.component_range * s.rows() * s.D;
  const int64_t slice_size = s.problems * s.components * (3 * s.D + 1);
  T* component_slice = out.component + block.query_range * plan.query_groups() * slice_size;

  const int64_t chunk = int64_t(members) * C * kWarp;
  for (int64_t first = block.first_component; first < block.last_component; first += chunk) {
    const int64_t own = first + int64_t(member) * C * kWarp;
    Components<T, D, kJoint> mine;
    mine.load(s, block.problem, own, lane, first_dim);
    const T reference = kFolded<T> ? max(block_max(mine.highest_peak(), shared), kLowest<T>) : T(0);
    mine.lower_peaks(reference);
    bool far = false;
    for (int64_t step = 0; step < per_group; step += kQueryTile) {
      const int64_t query = min(begin + step, end), row = block.problem * s.queries + query;
      const int count = int(min(int64_t(kQueryTile), end - query));
      __syncthreads();
      far |= load_queries<T, D>(tile, s, in, row, count, first_dim, reference, thread, members * kWarp);
      __syncthreads();
      const bool uneven = Weights<T>(s.weights, s.log_weight != nullptr, query, query + count - 1).any(own, C * kWarp);
      tile_step(mine, tile, uneven, count, own, shares + member * kQueryTile * D);
      __syncthreads();
      flush_queries<T, D>(query_slice, shares, s, row, count, first_dim, members, first == block.first_component, thread);
    }
    mine.store(component_slice + group * slice_size, s, block.problem, own, lane, first_dim);
    if constexpr (kFolded<T>)
      if (__syncthreads_or(far))
        finish_far_queries(reinterpret_cast<unsigned char*>(shared),
                           FarWork<T>{s, in, block, first, min(first + chunk, block.last_component), first_dim, min(first_dim + D, s.D), kJoint, reference,
                                      component_slice, query_slice});
  }
}

// Gathering -----------------------------------------------------------------------------------------------------------

template <typename T>
__device__ __forceinline__ T slice_sum(const T* at, int64_t slices, int64_t stride) {
  T sum = 0;
  for (int64_t k = 0; k < slices; ++k) sum += at[k * stride];
  return sum;
}

// Gradients of log q(z|x), weighted by `own`, and of log p(z), weighted by `prior`.
template <typename T>
struct OwnGradient {
  T z = 0, mu = 0, logvar = 0;

  DX_INLINE OwnGradient(const MixtureStack<T>& s, const IncomingGradients<T>& in, const OutgoingGradients<T>& out, int64_t at) {
    const int64_t row = at / s.D;
    const T own = field_gradient(in, 0, row, s.queries) + field_gradient(in, 3, row, s.queries);
    const T prior = field_gradient(in, 6, row, s.queries) - field_gradient(in, 2, row, s.queries);
    if (own == T(0) && prior == T(0)) return;  // as where only the total correlation is trained
    const T inverse = exp(T(-0.5) * out.posterior_logvar[at]), t = (s.z[at] - out.posterior_mu[at]) * inverse;
    mu = own * t * inverse, z = -mu - prior * s.z[at], logvar = T(0.5) * own * (t * t - T(1));
  }
};

template <typename T>
__device__ __forceinline__ void gather_query(const MixtureStack<T>& s, int64_t slices, const IncomingGradients<T>& in, const T* query,
                                             const OutgoingGradients<T>& out, int64_t at) {
  T dz = T(-2 * kLn2) * slice_sum(query + at, slices, s.rows() * s.D);
  if (out.posterior_mu) {
    const OwnGradient<T> own(s, in, out, at);
    dz += own.z;
    if (out.own_mu) out.own_mu[at] = own.mu, out.own_logvar[at] = own.logvar;
  }
  out.z[at] = dz;
}

template <typename T>
__device__ __forceinline__ void gather_component(const MixtureStack<T>& s, int64_t slices, const IncomingGradients<T>& in, const T* component,
                                                 const OutgoingGradients<T>& out, int64_t at) {
  const int width = 3 * s.D + 1, d = int(at % s.D);
  const int64_t j = at / s.D, stride = s.problems * s.components * width;
  const T* sums = component + j * width;
  const T joint = slice_sum(sums + 3 * s.D, slices, stride), weight = slice_sum(sums + 2 * s.D + d, slices, stride);
  T dmu = T(2 * kLn2) * scale_of(s.logvar[at]) * slice_sum(sums + d, slices, stride);
  T dlogvar = T(kLn2) * slice_sum(sums + s.D + d, slices, stride) - T(0.5) * (weight + joint);
  if (out.posterior_mu && !out.own_mu) {
    const OwnGradient<T> own(s, in, out, at);
    dmu += own.mu, dlogvar += own.logvar;
  }
  out.mu[at] = dmu, out.logvar[at] = dlogvar;
  if (!out.log_weight || d > 0) return;
  T total = joint + weight;
  for (int k = 1; k < s.D; ++k) total += slice_sum(sums + 2 * s.D + k, slices, stride);
  out.log_weight[j] = total;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    gather(MixtureStack<T> s, int64_t query_slices, int64_t component_slices, IncomingGradients<T> in, GradientSlices<T> slices, OutgoingGradients<T> out) {
  const int64_t queries = s.rows() * s.D, all = queries + s.problems * s.components * s.D;
  for (int64_t e = blockIdx.x * int64_t(kThreads) + threadIdx.x; e < all; e += gridDim.x * int64_t(kThreads)) {
    if (e < queries) {
      gather_query(s, query_slices, in, slices.query, out, e);
    } else {
      gather_component(s, component_slices, in, slices.component, out, e - queries);
    }
  }
}

// Launching -----------------------------------------------------------------------------------------------------------

template <typename T, int D, bool kJoint>
void launch_gradient(const MixtureStack<T>& s, const GradientPlan& plan, const IncomingGradients<T>& in, const GradientSlices<T>& slices,
                     cudaStream_t stream) {
  const int dim_runs = kJoint ? 1 : int(ceil_div(s.D, D));
  const int64_t blocks = s.problems * plan.component_ranges * plan.query_ranges * dim_runs;
  const size_t shared = size_t(plan.query_groups()) * QueryTile<T, D>::kSize + size_t(kWarps) * kQueryTile * D;
  DX_LAUNCH((gradient_sweep<T, D, kJoint>), unsigned(blocks), kThreads, shared * sizeof(T), stream, s, plan, dim_runs, in, slices);
}

template <typename T>
void launch_gather(const MixtureStack<T>& s, const GradientLayout<T>& layout, const IncomingGradients<T>& in, const GradientSlices<T>& slices,
                   const OutgoingGradients<T>& out, cudaStream_t stream) {
  const int64_t elements = (s.rows() + s.problems * s.components) * s.D;
  const int64_t blocks = std::clamp<int64_t>(ceil_div(elements, kThreads), 1, 1 << 16);
  DX_LAUNCH((gather<T>), unsigned(blocks), kThreads, 0, stream, s, layout.query_slices, layout.component_slices, in, slices, out);
}

}  // namespace
}  // namespace disentangle_ext::cuda

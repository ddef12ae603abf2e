// z = mu + exp(logvar / 2) eps and the KL divergence from N(0, I), bound by memory: a block loads a tile, computes,
// stores z, and sums the KL of its rows through shared memory. Backward makes the noise again.
#pragma once

#include <cmath>

#include "cuda/execution.cuh"
#include "cuda/rsample_kl.h"
#include "math/approximate.h"
#include "math/gaussian.h"
#include "math/philox.h"
#include "math/rsample_kl.h"

namespace disentangle_ext::cuda {
namespace {

// Noise and scale -----------------------------------------------------------------------------------------------------

// -2 log((x + 1/2) / 2^32). Near 1 the argument is 1 - f with f from the complement of x, exact there, and the series
// is minimax in the relative error (4e-8), where the instruction leaves an absolute one.
DX_INLINE float minus_two_log_uniform(uint32_t x) {
  const bool near_one = x >= 0xC0000000u;
  const float u = fmaf(float(near_one ? ~x : x), 0x1p-32f, 0x1p-33f);
  const float c[] = {1.9999999256658114f, 1.0000210044205513f, 0.665713306234582f,
                     0.5155988699578928f, 0.2878300484819709f, 0.6795952078931399f};
  const float near = u * polynomial(u, c), far = float(-2 * kLn2) * log2_approximate(u);
  return near_one ? near : far;
}

DX_INLINE void normal_pair(uint32_t radius, uint32_t angle, float& first, float& second) {
  const float square = minus_two_log_uniform(radius), r = square * rsqrt_approximate(square);  // never zero
  float c, s;
  cos_sin_turn(angle, c, s);
  first = r * c, second = r * s;
}

DX_INLINE void normal_pair(uint32_t radius, uint32_t angle, double& first, double& second) {
  box_muller(radius, angle, first, second);
}

// e^(x / 2). The rounding of the exponent, tens of ulp at the ends of the range, is made up for in the first order.
DX_INLINE float exp_half(float x) {
  constexpr float high = float(kLog2e / 2), low = float(kLog2e / 2 - double(high));
  const float exponent = x * high, value = exp2_approximate(exponent);
  const float rest = fmaf(x, low, fmaf(x, high, -exponent));
  return value * (fabsf(exponent) < 256.0f ? fmaf(rest, float(kLn2), 1.0f) : 1.0f);
}

DX_INLINE double exp_half(double x) { return exp(0.5 * x); }

template <typename T, int N>
DX_INLINE void fill_normals(PhiloxKey key, uint64_t counter, T (&eps)[N]) {
  DX_UNROLL
  for (int e = 0; e < N; e += 4, ++counter) {
    uint32_t x0, x1, x2, x3;
    philox(key, counter, x0, x1, x2, x3);
    normal_pair(x0, x1, eps[e], eps[e + 1]);
    normal_pair(x2, x3, eps[e + 2], eps[e + 3]);
  }
}

template <typename T, int N>
DX_INLINE void sample_group(PhiloxKey key, uint64_t counter, const T (&mu)[N], const T (&logvar)[N], T (&z)[N],
                            T (&kl)[N]) {
  T eps[N];
  fill_normals(key, counter, eps);
  DX_UNROLL
  for (int e = 0; e < N; ++e) {
    sample(mu[e], logvar[e], exp_half(logvar[e]), eps[e], z[e], kl[e]);
  }
}

template <typename T, int N>
DX_INLINE void sample_group_backward(PhiloxKey key, uint64_t counter, const T (&mu)[N], const T (&logvar)[N],
                                     const T (&grad_z)[N], const T (&grad_kl)[N], T (&grad_mu)[N],
                                     T (&grad_logvar)[N]) {
  T eps[N];
  fill_normals(key, counter, eps);
  DX_UNROLL
  for (int e = 0; e < N; ++e) {
    sample_gradient(mu[e], logvar[e], exp_half(logvar[e]), eps[e], grad_z[e], grad_kl[e], grad_mu[e], grad_logvar[e]);
  }
}

// Tiles and groups ---------------------------------------------------------------------------------------------------

// `count` elements of a problem, from element start + head on. Groups are counted from `start`,
// the multiple of their size.
struct Tile {
  int64_t problem, row, start;
  int rows, count, head;

  DX_INLINE static Tile of(int64_t problem, int64_t row, int rows, uint64_t begin, int64_t count, uint32_t group) {
    const uint32_t head = uint32_t(begin) % group;
    return {problem, row, int64_t(begin - head), rows, int(count), int(head)};
  }

  template <typename A>
  DX_INLINE static Tile at(uint32_t block, const A& a, const RsamplePlan& plan, int group) {
    const uint32_t tiles = uint32_t(plan.tiles), problem = block / tiles, tile = block - problem * tiles;
    if (plan.chunk) return chunk(problem, tile / uint32_t(plan.chunks), tile % uint32_t(plan.chunks), a.D, plan, group);
    const int64_t row = int64_t(tile) * plan.rows, rest = a.rows - row;
    const int rows = rest < plan.rows ? int(rest) : plan.rows;
    return of(problem, row, rows, uint64_t(row) * uint64_t(a.D), rows * a.D, group);
  }

  DX_INLINE static Tile chunk(int64_t problem, int64_t row, int64_t index, int64_t D, const RsamplePlan& plan,
                              int group) {
    const int64_t first = index * plan.chunk, rest = D - first;
    return of(problem, row, 1, uint64_t(row * D + first), rest < plan.chunk ? rest : plan.chunk, group);
  }
};

// N elements, of which the tile has [low, high). Whole and aligned is the fast way.
template <int N>
struct Group {
  int at;  // from the tile's start, where pointers are
  int low, high;
  bool fast;

  DX_INLINE Group(const Tile& tile, int index, bool aligned) : at(index * N) {
    const int before = tile.head - at, after = before + tile.count;
    low = before > 0 ? before : 0;
    high = after < N ? after : N;
    fast = aligned && before <= 0 && after >= N;
  }

  DX_INLINE bool any() const { return low < high; }
  DX_INLINE uint64_t counter(const Tile& tile) const { return uint64_t(tile.start) / 4 + uint32_t(at) / 4; }

  template <typename S>
  DX_INLINE void load(const S* from, Compute<S> (&x)[N]) const {
    if (fast)
      load_vector(from + at, x);
    else
      load_some(from + at, low, high, x);
  }

  template <typename S>
  DX_INLINE void store(S* to, const Compute<S> (&x)[N]) const {
    if (fast)
      store_vector(to + at, x);
    else
      store_some(to + at, low, high, x);
  }
};

DX_INLINE PhiloxKey key_of(const int64_t* keys, int64_t problem) {
  return {uint64_t(keys[2 * problem]), uint64_t(keys[2 * problem + 1])};
}

// a with its pointers at the start of the tile, and kl at its row where it is a sum.
template <typename S>
DX_INLINE RsampleKl<S> at_tile(RsampleKl<S> a, const Tile& tile, bool per_dimension) {
  const int64_t row = tile.problem * a.rows, first = row * a.D + tile.start;
  a.mu += first, a.logvar += first, a.z += first;
  a.kl += per_dimension ? first : row + tile.row;
  return a;
}

template <typename S>
DX_INLINE RsampleKlBackward<S> at_tile(RsampleKlBackward<S> a, const Tile& tile, bool per_dimension) {
  const int64_t row = tile.problem * a.rows, first = row * a.D + tile.start;
  a.mu += first, a.logvar += first, a.grad_mu += first, a.grad_logvar += first;
  if (a.grad_z) a.grad_z += first;
  if (a.grad_kl) a.grad_kl += per_dimension ? first : row + tile.row;
  return a;
}

// Calls f(first) with the index of the first of the groups that a thread works on together, until the tile is done.
template <int N, typename F>
__device__ __forceinline__ void for_groups(const Tile& tile, const F& f) {
  const int groups = (tile.head + tile.count + N - 1) / N;
  DX_UNROLL_NOT
  for (int first = int(threadIdx.x); first < groups; first += kRsampleGroups * int(blockDim.x)) f(first);
}

// `take(group, kl)` is given the KL of every group.
template <typename S, typename F>
__device__ __forceinline__ void sample_tile(const RsampleKl<S>& a, PhiloxKey key, const Tile& tile, bool aligned,
                                            const F& take) {
  using T = Compute<S>;
  constexpr int N = kRsampleGroup<S>;
  for_groups<N>(tile, [&](int first) {
    T mu[kRsampleGroups][N], logvar[kRsampleGroups][N];
    DX_UNROLL
    for (int i = 0; i < kRsampleGroups; ++i) {
      const Group<N> group(tile, first + i * int(blockDim.x), aligned);
      group.load(a.mu, mu[i]);
      group.load(a.logvar, logvar[i]);
    }
    DX_UNROLL
    for (int i = 0; i < kRsampleGroups; ++i) {
      const Group<N> group(tile, first + i * int(blockDim.x), aligned);
      if (!group.any()) continue;
      T z[N], kl[N];
      sample_group(key, group.counter(tile), mu[i], logvar[i], z, kl);
      group.store(a.z, z);
      take(group, kl);
    }
  });
}

// Sums, in an order that depends on D alone ---------------------------------------------------------------------------

template <typename T>
__device__ __forceinline__ T sum_lanes(T x, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, offset);
  return x;
}

// out[r] = the sum of row r of terms[rows, D], 2^lane_bits threads a row.
template <typename T>
__device__ __forceinline__ void sum_rows(const T* terms, int rows, int D, int lane_bits, T* out) {
  const int lanes = 1 << lane_bits, lane = int(threadIdx.x) & (lanes - 1);
  const int slot = int(threadIdx.x) >> lane_bits, slots = int(blockDim.x) >> lane_bits;
  for (int first = 0; first < rows; first += slots) {  // all threads go round together: they shuffle
    const int row = first + slot, end = row < rows ? D : 0;
    T sum = 0;
    for (int d = lane; d < end; d += lanes) sum += terms[row * D + d];
    sum = sum_lanes(sum, lanes);
    if (row < rows && lane == 0) out[row] = sum;
  }
}

template <typename T>
__device__ __forceinline__ T sum_block(T x) {
  __shared__ T warps[kRsampleThreads / 32];
  x = sum_lanes(x, 32);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
  __syncthreads();
  T sum = 0;
  if (threadIdx.x == 0)
    for (int w = 0; w < int(blockDim.x) / 32; ++w) sum += warps[w];
  return sum;
}

// Kernels -------------------------------------------------------------------------------------------------------------

template <typename S>
__global__ void __launch_bounds__(kRsampleThreads) sample_and_sum(const RsampleKl<S> arguments, RsamplePlan plan) {
  using T = Compute<S>;
  constexpr int N = kRsampleGroup<S>;
  __shared__ __align__(16) T terms[kRsampleTile];
  const Tile tile = Tile::at(blockIdx.x, arguments, plan, N);
  const RsampleKl<S> a = at_tile(arguments, tile, false);
  sample_tile(a, key_of(a.key, tile.problem), tile, aligned(a.mu, a.logvar, a.z),
              [&](const Group<N>& group, const T(&kl)[N]) { store_vector(terms + group.at, kl); });
  __syncthreads();
  sum_rows(terms + tile.head, tile.rows, int(a.D), plan.lane_bits, a.kl);
}

// A block for a row that is larger than a tile.
template <typename S>
__global__ void __launch_bounds__(kRsampleThreads)
    sample_and_sum_long_rows(const RsampleKl<S> arguments, RsamplePlan plan) {
  using T = Compute<S>;
  constexpr int N = kRsampleGroup<S>;
  const uint32_t rows = uint32_t(arguments.rows), problem = blockIdx.x / rows, row = blockIdx.x - problem * rows;
  const PhiloxKey key = key_of(arguments.key, problem);
  T sum = 0;
  for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) {
    const Tile tile = Tile::chunk(problem, row, chunk, arguments.D, plan, N);
    const RsampleKl<S> a = at_tile(arguments, tile, false);
    sample_tile(a, key, tile, aligned(a.mu, a.logvar, a.z), [&](const Group<N>& group, const T(&kl)[N]) {
      T part = 0;
      DX_UNROLL
      for (int e = 0; e < N; ++e) part += group.low <= e && e < group.high ? kl[e] : T(0);
      sum += part;
    });
  }
  sum = sum_block(sum);
  if (threadIdx.x == 0) arguments.kl[int64_t(blockIdx.x)] = sum;
}

template <typename S>
__global__ void __launch_bounds__(kRsampleThreads)
    sample_per_dimension(const RsampleKl<S> arguments, RsamplePlan plan) {
  constexpr int N = kRsampleGroup<S>;
  const Tile tile = Tile::at(blockIdx.x, arguments, plan, N);
  const RsampleKl<S> a = at_tile(arguments, tile, true);
  sample_tile(a, key_of(a.key, tile.problem), tile, aligned(a.mu, a.logvar, a.z, a.kl),
              [&](const Group<N>& group, const Compute<S>(&kl)[N]) { group.store(a.kl, kl); });
}

// The gradient of each element's row.
template <typename T, int N>
__device__ __forceinline__ void load_of_rows(const T* grad_kl, const Tile& tile, const Group<N>& group, uint32_t D,
                                             T (&x)[N]) {
  const uint32_t first =
      uint32_t(group.at + group.low - tile.head);  // counted in the tile, which begins with a row or lies in one
  uint32_t row = first / D, column = first % D;
  DX_UNROLL
  for (int e = 0; e < N; ++e) {
    const bool inside = group.low <= e && e < group.high;
    x[e] = inside ? grad_kl[row] : T(0);
    if (inside && ++column == D) ++row, column = 0;
  }
}

template <typename S>
__global__ void __launch_bounds__(kRsampleThreads)
    sample_backward(const RsampleKlBackward<S> arguments, RsamplePlan plan, bool per_dimension) {
  using T = Compute<S>;
  constexpr int N = kRsampleGroup<S>;
  const Tile tile = Tile::at(blockIdx.x, arguments, plan, N);
  const RsampleKlBackward<S> a = at_tile(arguments, tile, per_dimension);
  const PhiloxKey key = key_of(a.key, tile.problem);
  const bool fast =
      aligned(a.mu, a.logvar, a.grad_z, a.grad_mu, a.grad_logvar) && (!per_dimension || aligned(a.grad_kl));
  for_groups<N>(tile, [&](int first) {
    DX_UNROLL
    for (int i = 0; i < kRsampleGroups; ++i) {
      const Group<N> group(tile, first + i * int(blockDim.x), fast);
      if (!group.any()) continue;
      T mu[N], logvar[N], grad_z[N] = {}, grad_kl[N] = {}, grad_mu[N], grad_logvar[N];
      group.load(a.mu, mu);
      group.load(a.logvar, logvar);
      if (a.grad_z) group.load(a.grad_z, grad_z);
      if (a.grad_kl && per_dimension) group.load(a.grad_kl, grad_kl);
      if (a.grad_kl && !per_dimension) load_of_rows(a.grad_kl, tile, group, uint32_t(a.D), grad_kl);
      sample_group_backward(key, group.counter(tile), mu, logvar, grad_z, grad_kl, grad_mu, grad_logvar);
      group.store(a.grad_mu, grad_mu);
      group.store(a.grad_logvar, grad_logvar);
    }
  });
}

}  // namespace

template <typename S>
void launch_rsample_kl(const RsampleKl<S>& a, const RsamplePlan& plan, bool per_dimension, cudaStream_t stream) {
  const auto blocks = unsigned(a.problems * plan.tiles);
  if (per_dimension)
    DX_LAUNCH(sample_per_dimension<S>, blocks, plan.threads, 0, stream, a, plan);
  else if (plan.chunk)
    DX_LAUNCH(sample_and_sum_long_rows<S>, unsigned(a.problems * a.rows), plan.threads, 0, stream, a, plan);
  else
    DX_LAUNCH(sample_and_sum<S>, blocks, plan.threads, 0, stream, a, plan);
}

template <typename S>
void launch_rsample_kl_backward(const RsampleKlBackward<S>& a, const RsamplePlan& plan, bool per_dimension,
                                cudaStream_t stream) {
  DX_LAUNCH(sample_backward<S>, unsigned(a.problems * plan.tiles), plan.threads, 0, stream, a, plan, per_dimension);
}

}  // namespace disentangle_ext::cuda

// What the kernels of the aggregate posterior share. The bits of a density are far from the ends of a float's range
// unless a posterior is extremely narrow or a query far away, so sums of densities need no common reference: they are
// taken as they are, which lets tiles, splits and blocks merge by plain addition, and the rare sum that leaves the
// range is taken again around its maximum.
#pragma once

#include "cuda/aggregate_posterior.h"
#include "cuda/execution.cuh"
#include "math/density.h"
#include "math/online_sum.h"

namespace disentangle_ext::cuda {
namespace {

constexpr int kThreads = 256, kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

// N consecutive values from shared memory, 16 bytes at a time.
template <int N>
__device__ __forceinline__ void load_row(float (&out)[N], const float* row) {
  static_assert(N % 4 == 0);
  DX_UNROLL
  for (int i = 0; i < N; i += 4) {
    const float4 v = *reinterpret_cast<const float4*>(row + i);
    out[i] = v.x, out[i + 1] = v.y, out[i + 2] = v.z, out[i + 3] = v.w;
  }
}

template <int N>
__device__ __forceinline__ void load_row(double (&out)[N], const double* row) {
  DX_UNROLL
  for (int i = 0; i < N; ++i) out[i] = row[i];
}

// The sum of values that lie `stride` apart in memory, eight loads under way at a time.
template <typename T>
__device__ __forceinline__ T strided_sum(const T* at, int64_t count, int64_t stride) {
  T sum = 0;
  int64_t k = 0;
  for (; k + 8 <= count; k += 8) {
    T v[8];
    DX_UNROLL
    for (int i = 0; i < 8; ++i) v[i] = at[(k + i) * stride];
    DX_UNROLL
    for (int i = 0; i < 8; ++i) sum += v[i];
  }
  for (; k < count; ++k) sum += at[k * stride];
  return sum;
}

// Log-weights in bits, relative to the ordinary one; a weight given for the component is no exception.
template <typename T>
struct Weights {
  LogWeights<T> log;
  int64_t low, high;  // components that are exceptional for some of the queries first .. last
  bool wraps;

  DX_INLINE Weights(const LogWeights<T>& w, bool given, int64_t first, int64_t last)
      : log(w), low(1), high(0), wraps(false) {
    if (given || !w.stratified()) return;
    const bool legacy = w.estimator == Estimator::mss_legacy;
    low = legacy ? 0 : w.offset + first;
    high = legacy ? 1 : w.offset + last + 1;
    wraps = high >= w.components;
  }

  // Whether one of the components j .. j + count - 1 is exceptional.
  DX_INLINE bool any(int64_t j, int count) const {
    return low <= high && ((j <= high && j + count > low) || (wraps && j == 0));
  }

  DX_INLINE T operator()(int64_t i, int64_t j) const {
    int64_t at[2];
    T weight[2];
    log.exceptions(i, at, weight);
    const T w = j == at[0] ? weight[0] : j == at[1] ? weight[1] : log.ordinary;
    return T(kLog2e) * (w - log.ordinary);
  }
};

// 2^x for any x, and where it does not fit more than out_of_range lets pass: float64's exp2 wraps around there, while
// the instruction for float32 ends at infinity.
template <typename T>
DX_INLINE T exp2_of_any(T x) {
  constexpr T most = FloatFormat<T>::max_exponent;
  return exp2(sizeof(T) == sizeof(double) && x > most ? most : x);  // a NaN stays one
}

template <typename T>
__device__ __forceinline__ OnlineSum<T> warp_sum(OnlineSum<T> a) {
  DX_UNROLL
  for (int mask = 16; mask; mask >>= 1) {
    OnlineSum<T> b;
    b.sum = __shfl_xor_sync(kAllLanes, a.sum, mask);
    b.max = __shfl_xor_sync(kAllLanes, a.max, mask);
    a.merge(b);
  }
  return a;
}

template <typename T>
__device__ __forceinline__ T warp_sum(T v) {
  DX_UNROLL
  for (int mask = 16; mask; mask >>= 1) v += __shfl_xor_sync(kAllLanes, v, mask);
  return v;
}

}  // namespace
}  // namespace disentangle_ext::cuda

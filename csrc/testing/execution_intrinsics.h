// The built-in variables and functions of CUDA C++ that kernels use, for execution_model.h.
#pragma once

#include <math.h>

#include <bit>
#include <cstring>
#include <type_traits>

#include "testing/checker.h"

#define threadIdx (::disentangle_ext::testing::here.thread)
#define blockIdx (::disentangle_ext::testing::here.block)
#define blockDim (::disentangle_ext::testing::here.block_size)
#define gridDim (::disentangle_ext::testing::here.grid_size)
inline constexpr int warpSize = 32;

#define DX_PLACE const ::disentangle_ext::testing::Place& place = ::disentangle_ext::testing::Place::current()

// ---- barriers and votes ----

inline void __syncthreads(DX_PLACE) { disentangle_ext::testing::block_barrier(false, place); }
inline int __syncthreads_count(int p, DX_PLACE) { return disentangle_ext::testing::block_barrier(p, place); }
inline int __syncthreads_or(int p, DX_PLACE) { return disentangle_ext::testing::block_barrier(p, place) != 0; }
inline int __syncthreads_and(int p, DX_PLACE) { return disentangle_ext::testing::block_barrier(!p, place) == 0; }

inline void __syncwarp(unsigned mask = ~0u, DX_PLACE) { disentangle_ext::testing::warp_barrier(mask, place); }
inline unsigned __ballot_sync(unsigned mask, int p, DX_PLACE) {
  return disentangle_ext::testing::warp_vote(mask, p, place).ballot;
}
inline int __any_sync(unsigned mask, int p, DX_PLACE) {
  return disentangle_ext::testing::warp_vote(mask, p, place).ballot != 0;
}
inline int __all_sync(unsigned mask, int p, DX_PLACE) {
  const auto vote = disentangle_ext::testing::warp_vote(mask, p, place);
  return vote.ballot == vote.lanes;
}

// ---- shuffles ----

namespace disentangle_ext::testing {

inline int lane() { return static_cast<int>(here.linear & 31); }
inline int segment(int width) { return lane() & ~(width - 1); }

template <class T>
T shuffle(unsigned mask, T value, int source_lane, const Place& place) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(value));
  bits = warp_shuffle(mask, bits, source_lane, place);
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace disentangle_ext::testing

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, DX_PLACE) {
  using namespace disentangle_ext::testing;
  return shuffle(mask, value, segment(width) | (source & (width - 1)), place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance, int width = 32, DX_PLACE) {
  using namespace disentangle_ext::testing;
  const int source = lane() ^ distance;
  return shuffle(mask, value, source < segment(width) + width ? source : lane(), place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32, DX_PLACE) {
  using namespace disentangle_ext::testing;
  const int source = lane() + static_cast<int>(distance);
  return shuffle(mask, value, source < segment(width) + width ? source : lane(), place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32, DX_PLACE) {
  using namespace disentangle_ext::testing;
  const int source = lane() - static_cast<int>(distance);
  return shuffle(mask, value, source >= segment(width) ? source : lane(), place);
}

// ---- fences and atomics: fibers never interrupt each other, so plain updates are atomic ----

inline void __threadfence() { disentangle_ext::testing::checker_fence(); }
inline void __threadfence_block() {}

// Not inlined, so that the return address is a line of the kernel; not instrumented, as the checker is told of them.
#define DX_ATOMIC(name, updated)                                                                       \
  template <class T>                                                                                   \
  __attribute__((noinline, no_sanitize("thread"))) T name(T* address, std::type_identity_t<T> value) { \
    disentangle_ext::testing::checker_atomic(address, sizeof(T), __builtin_return_address(0));         \
    const T old = *address;                                                                            \
    *address = updated;                                                                                \
    return old;                                                                                        \
  }
DX_ATOMIC(atomicAdd, old + value)
DX_ATOMIC(atomicSub, old - value)
DX_ATOMIC(atomicMax, old < value ? value : old)
DX_ATOMIC(atomicMin, value < old ? value : old)
DX_ATOMIC(atomicExch, value)
DX_ATOMIC(atomicAnd, (old & value))
DX_ATOMIC(atomicOr, old | value)
DX_ATOMIC(atomicXor, old ^ value)
DX_ATOMIC(atomicInc, old >= value ? T(0) : T(old + 1))
#undef DX_ATOMIC

template <class T>
__attribute__((noinline, no_sanitize("thread"))) T atomicCAS(T* address, std::type_identity_t<T> expected,
                                                             std::type_identity_t<T> value) {
  disentangle_ext::testing::checker_atomic(address, sizeof(T), __builtin_return_address(0));
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}

// ---- loads and bits ----

// Inlined, so that reports name the line of the kernel.
template <class T>
__forceinline__ T __ldg(const T* address) {
  return *address;
}

inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __brev(unsigned x) {
  unsigned reversed = 0;
  for (int bit = 0; bit < 32; ++bit) reversed |= (x >> bit & 1) << (31 - bit);
  return reversed;
}
inline unsigned long long __brevll(unsigned long long x) {
  return static_cast<unsigned long long>(__brev(static_cast<unsigned>(x))) << 32 |
         __brev(static_cast<unsigned>(x >> 32));
}
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>(((uint64_t{high} << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) >> (shift & 31));
}

// ---- mathematics beyond <math.h>; the fast ones go through exp2 and log2, as the device's do ----

inline float __expf(float x) { return exp2f(x * 1.442695041f); }
inline float __logf(float x) { return log2f(x) * 0.6931471806f; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __sinf(float x) { return sinf(x); }
inline void __sincosf(float x, float* sine, float* cosine) { *sine = sinf(x), *cosine = cosf(x); }
inline void sincospif(float x, float* sine, float* cosine) {
  *sine = static_cast<float>(sin(M_PI * x)), *cosine = static_cast<float>(cos(M_PI * x));
}
inline void sincospi(double x, double* sine, double* cosine) { *sine = sin(M_PI * x), *cosine = cos(M_PI * x); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }

template <class A, class B>
constexpr auto min(A a, B b) {
  using C = std::common_type_t<A, B>;
  return C(b) < C(a) ? C(b) : C(a);
}
template <class A, class B>
constexpr auto max(A a, B b) {
  using C = std::common_type_t<A, B>;
  return C(a) < C(b) ? C(b) : C(a);
}

// What lets one formula be compiled by g++, clang and nvcc alike.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__CUDACC__)
#define DX_INLINE __host__ __device__ __forceinline__
#define DX_UNROLL _Pragma("unroll")
#define DX_UNROLL_NOT _Pragma("unroll 1")
#define DX_NOINLINE __noinline__
#else
#define DX_UNROLL _Pragma("GCC unroll 16")
#define DX_UNROLL_NOT _Pragma("GCC unroll 1")
#define DX_NOINLINE __attribute__((noinline))
// Kernels are cloned per instruction set; a helper that is not inlined would stay at the baseline.
#define DX_INLINE inline __attribute__((always_inline))
#endif

namespace disentangle_ext {

template <typename To, typename From>
DX_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

// a b + c, rounded once where that is one instruction. A device compiler left to itself may share the product instead.
template <typename T>
DX_INLINE T multiply_add(T a, T b, T c) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == sizeof(float)) return fmaf(a, b, c);
#endif
  return a * b + c;
}

// a b, rounded: never part of a fused operation, so that it is the same number wherever it is computed.
template <typename T>
DX_INLINE T rounded_product(T a, T b) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == sizeof(float)) return __fmul_rn(a, b);
#endif
  return a * b;
}

template <typename T>
inline constexpr T kInfinity = std::numeric_limits<T>::infinity();
template <typename T>
inline constexpr T kLowest = std::numeric_limits<T>::lowest();
inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

inline constexpr double kLog2e = 1.4426950408889634074;
inline constexpr double kLn2 = 0.69314718055994530942;
inline constexpr double kLog2Pi = 1.8378770664093454836;  // natural log of 2 pi

}  // namespace disentangle_ext

// What tensors are stored in: half and bfloat16, which are computed in float, beside float and double, which are what
// they are; and 16-byte loads and stores of them. The host conversions are bit for bit those of the device.
#pragma once

#include <type_traits>

#include "math/portable.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace disentangle_ext::cuda {

// Names of our own: launchers are templates of them, and nvcc and the host compiler must give those one name.
struct Half {
  uint16_t bits;
};

struct BFloat16 {
  uint16_t bits;
};

template <typename S>
using Compute = std::conditional_t<std::is_same_v<S, double>, double, float>;

DX_INLINE float widen(float x) { return x; }
DX_INLINE double widen(double x) { return x; }
DX_INLINE float widen(BFloat16 x) { return bit_cast<float>(uint32_t(x.bits) << 16); }

DX_INLINE float widen(Half x) {
#if defined(__CUDA_ARCH__)
  return __half2float(bit_cast<__half>(x.bits));
#else
  const uint32_t sign = uint32_t(x.bits & 0x8000u) << 16, magnitude = x.bits & 0x7FFFu;
  if (magnitude >= 0x7C00u) return bit_cast<float>(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
  // Shifted into place the exponent is 112 too small; the product mends it, and makes subnormals normal.
  return bit_cast<float>(sign | bit_cast<uint32_t>(bit_cast<float>(magnitude << 13) * 0x1p112f));
#endif
}

namespace storage_detail {

inline constexpr uint16_t kNaN = 0x7FFF;  // the one that the device makes

// x without its lowest `bits` bits, rounded to nearest, to even where halfway.
DX_INLINE uint32_t drop_bits(uint32_t x, int bits) {
  const uint32_t kept = x >> bits;
  return (x + (1u << (bits - 1)) - 1 + (kept & 1)) >> bits;
}

DX_INLINE uint16_t half_bits(float x) {
  const uint32_t bits = bit_cast<uint32_t>(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return kNaN;
  if (magnitude >= 0x47800000u) return uint16_t(sign | 0x7C00u);  // 2^16 and above
  // Below 2^-14 a half is a multiple of 2^-24, and so is the float's sum with 1/2, whose last bit is that.
  if (magnitude < 0x38800000u)
    return uint16_t(sign | (bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3F000000u));
  return uint16_t(sign |
                  drop_bits(magnitude - 0x38000000u, 13));  // rounding up may carry into the exponent, to infinity too
}

DX_INLINE uint16_t bfloat16_bits(float x) {
  const uint32_t bits = bit_cast<uint32_t>(x);
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? kNaN : uint16_t(drop_bits(bits, 16));
}

}  // namespace storage_detail

// x as it is stored, rounded to nearest even.
template <typename S>
DX_INLINE S narrow(Compute<S> x) {
  if constexpr (std::is_same_v<S, Half>) {
#if defined(__CUDA_ARCH__)
    return {bit_cast<uint16_t>(__float2half_rn(x))};
#else
    return {storage_detail::half_bits(x)};
#endif
  } else if constexpr (std::is_same_v<S, BFloat16>) {
#if defined(__CUDA_ARCH__)
    return {bit_cast<uint16_t>(__float2bfloat16_rn(x))};
#else
    return {storage_detail::bfloat16_bits(x)};
#endif
  } else {
    return x;
  }
}

// 16 bytes, which a thread moves in one instruction.
template <typename S>
struct alignas(16) Vector {
  static constexpr int size = 16 / int(sizeof(S));
  S element[size];
};

template <typename... S>
DX_INLINE bool aligned(const S*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) | ...) % 16) == 0;
}

// N elements, a multiple of 16 bytes, from an aligned address.
template <int N, typename S>
DX_INLINE void load_vector(const S* from, Compute<S> (&x)[N]) {
  constexpr int size = Vector<S>::size;
  static_assert(N % size == 0);
  DX_UNROLL
  for (int i = 0; i < N; i += size) {
    const Vector<S> v = *reinterpret_cast<const Vector<S>*>(from + i);
    DX_UNROLL
    for (int e = 0; e < size; ++e) x[i + e] = widen(v.element[e]);
  }
}

template <int N, typename S>
DX_INLINE void store_vector(S* to, const Compute<S> (&x)[N]) {
  constexpr int size = Vector<S>::size;
  static_assert(N % size == 0);
  DX_UNROLL
  for (int i = 0; i < N; i += size) {
    Vector<S> v;
    DX_UNROLL
    for (int e = 0; e < size; ++e) v.element[e] = narrow<S>(x[i + e]);
    *reinterpret_cast<Vector<S>*>(to + i) = v;
  }
}

// Elements [low, high) of N, one by one: the rest of x is zero.
template <int N, typename S>
DX_INLINE void load_some(const S* from, int low, int high, Compute<S> (&x)[N]) {
  DX_UNROLL
  for (int e = 0; e < N; ++e) x[e] = low <= e && e < high ? widen(from[e]) : Compute<S>(0);
}

template <int N, typename S>
DX_INLINE void store_some(S* to, int low, int high, const Compute<S> (&x)[N]) {
  DX_UNROLL
  for (int e = 0; e < N; ++e)
    if (low <= e && e < high) to[e] = narrow<S>(x[e]);
}

}  // namespace disentangle_ext::cuda

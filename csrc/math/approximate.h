// Functions that a GPU has an instruction for, good to 2^-22: float32 only, subnormal results are zero. On the host,
// where tests run the kernels, they are the library's.
#pragma once

#include <cmath>

#include "math/portable.h"

namespace disentangle_ext {

// 2^x: infinite above the range.
DX_INLINE float exp2_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
#else
  return std::exp2(x);
#endif
}

// Near x = 1 the error is absolute: the relative one is large.
DX_INLINE float log2_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
#else
  return std::log2(x);
#endif
}

DX_INLINE float rsqrt_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float value;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
#else
  return 1.0f / std::sqrt(x);
#endif
}

}  // namespace disentangle_ext

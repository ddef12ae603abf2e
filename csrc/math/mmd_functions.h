// The functions k(x, y) of MMD, positive-definite kernels of the squared distance d2, with their slope dk / d(d2).
#pragma once

#include <cmath>

#include "math/exponential.h"

namespace disentangle_ext {

enum class MmdFunction : int64_t { rbf = 0, rq = 1, imq = 2, laplacian = 3, energy = 4 };

// Constants of one bandwidth h.
template <typename T>
struct MmdScale {
  T a, b, exponent;

  DX_INLINE static MmdScale make(MmdFunction function, double h, double exponent) {
    if (!(h > 0)) h = kNaN;  // which Python cannot refuse without reading it back
    switch (function) {
      case MmdFunction::rbf: return {T(kLog2e / (2 * h * h)), T(-1 / (2 * h * h)), T(0)};
      case MmdFunction::rq: return {T(1 / (2 * exponent * h * h)), T(-1 / (2 * h * h)), T(-exponent)};
      case MmdFunction::imq: return {T(1 / (2 * h * h)), T(-1 / (2 * h * h)), T(0)};
      case MmdFunction::laplacian: return {T(kLog2e / h), T(-1 / (2 * h)), T(0)};
      case MmdFunction::energy: break;
    }
    return {T(0), T(0), T(0)};
  }
};

// Weights of the sums of k over XX, YY and XY in MMD^2, each over the pairs of distinct points counted once, and what
// the pairs of a point with itself add.
struct MmdWeights {
  double xx, yy, xy, diagonal;

  DX_INLINE static MmdWeights make(double m, double n, bool biased, double at_zero) {
    return {2 / (m * (biased ? m : m - 1)), 2 / (n * (biased ? n : n - 1)), -2 / (m * n),
            biased ? at_zero * (1 / m + 1 / n) : 0};
  }
};

// A GPU divides and takes roots by calling a long sequence, but has instructions good to 1 ulp in float32. They flush
// subnormal numbers: a distance below 1e-19 becomes zero.
template <typename T>
DX_INLINE T reciprocal(T x) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == sizeof(float)) {
    float value;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
  }
#endif
  return T(1) / x;
}

template <typename T>
DX_INLINE T square_root(T x) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == sizeof(float)) {
    float value;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
  }
#endif
  return std::sqrt(x);
}

// Functions of the distance itself have no slope at 0: a pair of equal points pulls in no direction.
template <typename T, MmdFunction function>
DX_INLINE void evaluate(const MmdScale<T>& c, T d2, T& k, T& slope) {
  if constexpr (function == MmdFunction::rbf) {
    k = exp2(-c.a * d2);
    slope = c.b * k;
  } else if constexpr (function == MmdFunction::rq) {
    // log(1 + u), where u is tiny for a large exponent, where rq tends to rbf: the logarithm of the rounded sum, and
    // what the rounding left out. The logarithm takes no infinity. A NaN stays one.
    constexpr T most = T(sizeof(T) == sizeof(float) ? 1e38 : 1e308);
    const T ratio = c.a * d2, u = ratio > most ? most : ratio;
    const T sum = T(1) + u, inverse = reciprocal(sum);
    k = exp(c.exponent * (log(sum) + (u - (sum - T(1))) * inverse));
    slope = c.b * k * inverse;
  } else if constexpr (function == MmdFunction::imq) {
    k = reciprocal(T(1) + c.a * d2);
    slope = c.b * k * k;
  } else {
    const T d = square_root(d2);
    const T inverse = d > T(0) ? reciprocal(d) : T(0);
    if constexpr (function == MmdFunction::laplacian) {
      k = exp2(-c.a * d);
      slope = c.b * k * inverse;
    } else {
      k = -d;
      slope = T(-0.5) * inverse;
    }
  }
}

}  // namespace disentangle_ext

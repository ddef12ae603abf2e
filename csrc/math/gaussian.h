// Normal deviates by Box and Muller.
#pragma once

#include <cmath>

#include "math/exponential.h"

namespace disentangle_ext {

// log((x + 1/2) / 2^32). Where the uniform is near 1 the logarithm is that of 1 - f with f from the complement of x, an
// exact integer: rounding the uniform to 24 bits first would leave nothing of f.
template <typename T>
DX_INLINE T log_uniform(uint32_t x) {
  constexpr uint32_t root_half = 0xB504F333u;  // 2^32 / sqrt(2)
  const bool near_one = x > root_half;
  T m, e;
  split(T(0x1p-32) * (T(x) + T(0.5)), m, e);
  const T near = T(-0x1p-32) * (T(~x) + T(0.5));
  return log1p_reduced(near_one ? near : m - T(1)) + (near_one ? T(0) : e) * T(kLn2);
}

// Cosine and sine of 2 pi x / 2^32: the quadrant and the remainder come from the integer, exactly.
template <typename T>
DX_INLINE void cos_sin_turn(uint32_t x, T& cosine, T& sine) {
  const uint32_t quadrant = (x + 0x20000000u) >> 30;
  const T a = T(1.46291807926715968105e-9) * T(int32_t(x - (quadrant << 30)));  // 2 pi / 2^32
  const T a2 = a * a;
  T c, s;
  if constexpr (sizeof(T) == 4) {
    const T sin_c[] = {T(1), T(-1) / 6, T(1) / 120, T(-1) / 5040, T(1) / 362880};
    const T cos_c[] = {T(1), T(-1) / 2, T(1) / 24, T(-1) / 720, T(1) / 40320, T(-1) / 3628800};
    s = a * polynomial(a2, sin_c), c = polynomial(a2, cos_c);
  } else {
    const T sin_c[] = {T(1),
                       T(-1) / 6,
                       T(1) / 120,
                       T(-1) / 5040,
                       T(1) / 362880,
                       T(-1) / 39916800,
                       T(1) / 6227020800,
                       T(-1) / 1307674368000,
                       T(1) / 355687428096000};
    const T cos_c[] = {T(1),
                       T(-1) / 2,
                       T(1) / 24,
                       T(-1) / 720,
                       T(1) / 40320,
                       T(-1) / 3628800,
                       T(1) / 479001600,
                       T(-1) / 87178291200,
                       T(1) / 20922789888000};
    s = a * polynomial(a2, sin_c), c = polynomial(a2, cos_c);
  }
  const bool swap = quadrant & 1;
  const T magnitude_c = swap ? s : c, magnitude_s = swap ? c : s;
  cosine = ((quadrant + 1) & 2) ? -magnitude_c : magnitude_c;
  sine = (quadrant & 2) ? -magnitude_s : magnitude_s;
}

template <typename T>
DX_INLINE T box_muller_radius(uint32_t radius) {
  return std::sqrt(T(-2) * log_uniform<T>(radius));
}

template <typename T>
DX_INLINE void box_muller(uint32_t radius, uint32_t angle, T& first, T& second) {
  const T r = box_muller_radius<T>(radius);
  T c, s;
  cos_sin_turn(angle, c, s);
  first = r * c, second = r * s;
}

}  // namespace disentangle_ext

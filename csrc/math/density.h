// Gaussian densities in base 2: with s = sqrt(log2(e) / 2) exp(-logvar / 2) and c = -log2(e) / 2 (log 2 pi + logvar),
//     log2 q(z_d | x_j) = c_jd - t^2,   t = (z_d - mu_jd) s_jd.
#pragma once

#include "math/exponential.h"

namespace disentangle_ext {

// Where s ends: a narrower component has a density of zero, but at its mean, where 0 times infinity is NaN.
template <typename T>
inline constexpr T kNarrowest = T(-2) * ((FloatFormat<T>::max_exponent + T(0.5)) * T(kLn2));

// s_jd.
template <typename T>
DX_INLINE T scale_of(T logvar) {
  return T(0.84932180028801904272) * exp(T(-0.5) * logvar);  // sqrt(log2(e) / 2)
}

// s_jd^2.
template <typename T>
DX_INLINE T precision_of(T logvar) {
  return T(0.5 * kLog2e) * exp(-logvar);
}

// What gradients multiply by, where s or its square may be infinite and the responsibility is zero: with a finite
// factor their product is zero too. A density that is not zero does not notice, unless z is within 1e-29 of mu in
// float32.
template <typename T>
DX_INLINE T bounded(T factor) {
  constexpr T most = sizeof(T) == sizeof(float) ? T(1e30) : T(1e300);
  return factor > most ? most : factor;
}

// c_jd, relative to that of a component with the logvar `reference` where one is given. Below kNarrowest it stays what
// it is there, since t^2 is infinite anyway: sums of peaks must not be, or their difference would be NaN.
template <typename T>
DX_INLINE T peak_of(T logvar, T reference = T(-kLog2Pi)) {
  const T l = logvar < kNarrowest<T> ? kNarrowest<T> : logvar;
  return T(0.5 * kLog2e) * (reference - l);
}

}  // namespace disentangle_ext

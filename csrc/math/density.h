// Gaussian densities in base 2: with s = sqrt(log2(e) / 2) exp(-logvar / 2) and c = -log2(e) / 2 (log 2 pi + logvar),
//     log2 q(z_d | x_j) = c_jd - t^2,   t = (z_d - mu_jd) s_jd.
// With a, what a gradient multiplies the natural logarithm by, its gradients are 2 ln(2) a t s by mu, minus that by z,
// and ln(2) a (t^2 - 1 / (2 ln 2)) by logvar. The constant factors are left to the end of a sum.
#pragma once

#include "math/exponential.h"

namespace disentangle_ext {

inline constexpr double kHalfNat = 0.5 * kLog2e;  // 1 / (2 ln 2)

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

// c_jd, relative to that of a component with the logvar `reference` where one is given. Below kNarrowest it stays what
// it is there, since t^2 is infinite anyway: sums of peaks must not be, or their difference would be NaN.
template <typename T>
DX_INLINE T peak_of(T logvar, T reference = T(-kLog2Pi)) {
  const T l = logvar < kNarrowest<T> ? kNarrowest<T> : logvar;
  return T(0.5 * kLog2e) * (reference - l);
}

// log2 q(z_d | x_j).
template <typename T>
DX_INLINE T log2_density(T z, T mu, T logvar) {
  const T t = (z - mu) * scale_of(logvar);
  return peak_of(logvar) - t * t;
}

// The factors of a gradient, which are zero where they are infinite: there the density is zero, and zero times infinity
// would be NaN. A NaN stays one. First s, then t, which counts as infinite where its square is.
template <typename T>
DX_INLINE T finite_factor(T factor) {
  return factor > -kLowest<T> ? T(0) : factor;
}

template <typename T>
DX_INLINE T finite_distance(T t) {
  return t * t > -kLowest<T> ? T(0) : t;
}

// Adds what one pair brings to the sums for mu, which leave s to their end, and for logvar; returns the former. With
// kFinite, no t^2 is infinite.
template <bool kFinite, typename T>
DX_INLINE T add_gradient(T a, T t, T& mu, T& logvar) {
  const T u = kFinite ? t : finite_distance(t), at = a * u;
  mu += at, logvar += a * (u * u - T(kHalfNat));
  return at;
}

// In float32 the exponential of b bits is off by 2^-25 b: a query whose logarithm is further from what it is relative
// to than this is left to float64.
template <typename T>
DX_INLINE bool unresolved(T bits) {
  constexpr T most = sizeof(T) == sizeof(float) ? T(256) : kInfinity<T>;
  return bits > most || bits < -most;
}

// The logarithm of a component's share of a query, given as the sum of far larger terms. Shares are at most 1; float64,
// which takes what float32 leaves unresolved, may round them to more.
template <typename T>
DX_INLINE T log2_share(T bits) {
  return sizeof(T) == sizeof(double) && bits > T(0) ? T(0) : bits;
}

}  // namespace disentangle_ext

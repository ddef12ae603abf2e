// What elbo_decomposition returns: seven fields, all linear in the row's log q(z|x), log q(z), sum_d log q(z_d) and
// log p(z); and the two of these four that no sum over components is needed for.
#pragma once

#include <cstdint>

#include "math/exponential.h"

namespace disentangle_ext {

inline constexpr int kFields = 7;  // MI, TC, dimension-wise KL, log q(z|x), log q(z), sum_d log q(z_d), log p(z)

enum class Reduction : int64_t { none = 0, mean = 1, sum = 2 };  // of a field, over the rows of a problem

// The logarithms of a row's densities.
struct RowDensities {
  double qzx, qz, product, pz;

  DX_INLINE double field(int f) const {
    switch (f) {
      case 0: return qzx - qz;
      case 1: return qz - product;
      case 2: return product - pz;
      case 3: return qzx;
      case 4: return qz;
      case 5: return product;
      default: return pz;
    }
  }
};

// The gradient of each of the four, where g(f) is that of field f.
template <typename G>
DX_INLINE auto qzx_gradient(const G& g) {
  return g(0) + g(3);
}

template <typename G>
DX_INLINE auto qz_gradient(const G& g) {
  return g(1) - g(0) + g(4);
}

template <typename G>
DX_INLINE auto product_gradient(const G& g) {
  return g(2) - g(1) + g(5);
}

template <typename G>
DX_INLINE auto pz_gradient(const G& g) {
  return g(6) - g(2);
}

// One dimension's share of -2 log q(z|x) and of -2 log p(z), without log 2 pi.
template <typename T>
DX_INLINE void density_terms(T z, T mu, T logvar, T& qzx, T& pz) {
  const T t = (z - mu) * exp(T(-0.5) * logvar);  // the precision itself would overflow first
  qzx = logvar + t * t, pz = z * z;
}

// log q(z|x) or log p(z) from the sum of its terms.
DX_INLINE double log_density(double terms, int64_t D) { return -0.5 * (kLog2Pi * double(D) + terms); }

// One dimension's gradient of g_qzx log q(z|x) + g_pz log p(z). What is not asked for is zero, however narrow the
// posterior or far the sample.
template <typename T>
DX_INLINE void density_gradient(T z, T mu, T logvar, T g_qzx, T g_pz, T& dz, T& dmu, T& dlogvar) {
  const T inverse = exp(T(-0.5) * logvar), t = (z - mu) * inverse;
  const bool own = g_qzx != T(0), prior = g_pz != T(0);
  dmu = own ? g_qzx * t * inverse : T(0), dlogvar = own ? T(0.5) * g_qzx * (t * t - T(1)) : T(0);
  dz = -dmu - (prior ? g_pz * z : T(0));
}

}  // namespace disentangle_ext

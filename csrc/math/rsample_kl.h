// z = mu + exp(logvar / 2) eps, its KL divergence from a standard normal, and the gradients of both. `scale` is
// exp(logvar / 2), which every device computes in its own way.
#pragma once

#include "math/exponential.h"

namespace disentangle_ext {

// KL(N(mu, e^logvar) || N(0, 1)); `variance` is e^logvar.
template <typename T>
DX_INLINE T kl_standard_normal(T mu, T logvar, T variance) {
  return T(0.5) * (mu * mu + expm1_minus_x(logvar, variance));
}

template <typename T>
DX_INLINE void sample(T mu, T logvar, T scale, T eps, T& z, T& kl) {
  z = mu + scale * eps;
  kl = kl_standard_normal(mu, logvar, scale * scale);
}

template <typename T>
DX_INLINE void sample_gradient(T mu, T logvar, T scale, T eps, T grad_z, T grad_kl, T& grad_mu, T& grad_logvar) {
  grad_mu = grad_z + grad_kl * mu;
  grad_logvar = T(0.5) * (grad_z * scale * eps + grad_kl * expm1(logvar, scale * scale));
}

}  // namespace disentangle_ext

// The aggregate posterior over a stack of problems: what the raw ops aggregate_posterior and elbo_decomposition share.
#pragma once

#include <cstdint>

#include "math/log_weights.h"

namespace disentangle_ext::cpu {

template <typename T>
struct AggregatePosterior {
  const T *z, *mu, *logvar;  // [problems, queries, D], [problems, components, D]
  const T* log_weight;       // [problems, components], or nullptr
  int64_t problems, queries, components, D;
  Estimator estimator;
  int64_t dataset_size, offset;
};

// log_qz [problems, queries], marginals [problems, queries, D].
template <typename T>
void aggregate_posterior_forward(const AggregatePosterior<T>& stack, T* log_qz, T* marginals);

// Gradients for g [problems, queries] of log_qz and h [problems, queries, D] of the marginals. All outputs are written;
// grad_log_weight may be nullptr.
template <typename T>
void aggregate_posterior_backward(const AggregatePosterior<T>& stack, const T* log_qz, const T* marginals, const T* g,
                                  const T* h, T* grad_z, T* grad_mu, T* grad_logvar, T* grad_log_weight);

}  // namespace disentangle_ext::cpu

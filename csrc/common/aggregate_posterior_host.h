// The arguments of aggregate_posterior and elbo_decomposition, checked, contiguous and in the compute dtype: what the
// host functions of every device start from.
#pragma once

#include <ATen/core/List.h>
#include <ATen/ops/zeros.h>

#include <array>

#include "common/problems_host.h"
#include "math/elbo_fields.h"

namespace disentangle_ext {

struct AggregateArguments {
  at::Tensor z, mu, logvar, log_weight;
  Shape queries, components;
  int64_t estimator, dataset_size, offset;

  AggregateArguments(const at::Tensor& z_, const at::Tensor& mu_, const at::Tensor& logvar_,
                     const std::optional<at::Tensor>& log_weight_, int64_t estimator_, int64_t dataset_size_,
                     int64_t offset_)
      : queries(z_), components(mu_), estimator(estimator_), dataset_size(dataset_size_), offset(offset_) {
    check_components(z_, mu_, logvar_, "aggregate_posterior");
    const at::ScalarType type = compute_type(z_);
    z = prepare(z_, type), mu = prepare(mu_, type), logvar = prepare(logvar_, type),
    log_weight = prepare(log_weight_, type);
    TORCH_CHECK(!log_weight.defined() || log_weight.numel() == components.problems * components.rows,
                "aggregate_posterior: log_weight must be [.., N], got ", log_weight.sizes());
    check_device(log_weight, z, "aggregate_posterior: log_weight");
  }
};

// log_qz, the marginals and their gradients, as backward gets them; a missing gradient is an undefined tensor.
struct AggregateGradients {
  at::Tensor log_qz, marginals, g, h;

  AggregateGradients(const AggregateArguments& a, const std::optional<at::Tensor>& g_,
                     const std::optional<at::Tensor>& h_, const at::Tensor& log_qz_, const at::Tensor& marginals_)
      : log_qz(prepare(log_qz_, a.z.scalar_type())), marginals(prepare(marginals_, a.z.scalar_type())),
        g(prepare(g_, a.z.scalar_type())), h(prepare(h_, a.z.scalar_type())) {
    for (const at::Tensor& t : {log_qz, g})
      check_sizes(t, a.z.sizes().slice(0, a.z.dim() - 1), "aggregate_posterior_backward: log_qz and its gradient");
    for (const at::Tensor& t : {marginals, h})
      check_sizes(t, a.z.sizes(), "aggregate_posterior_backward: the marginals and their gradient");
    for (const at::Tensor& t : {log_qz, marginals, g, h})
      check_device(t, a.z, "aggregate_posterior_backward: a log density or its gradient");
  }
};

struct ElboArguments {
  at::Tensor z, mu, logvar, component_mu, component_logvar;
  Shape shape;
  int64_t estimator, dataset_size, offset;
  Reduction reduction;
  bool own_components;

  ElboArguments(const at::Tensor& z_, const at::Tensor& mu_, const at::Tensor& logvar_,
                const std::optional<at::Tensor>& component_mu_, const std::optional<at::Tensor>& component_logvar_,
                int64_t estimator_, int64_t dataset_size_, int64_t offset_, int64_t reduction_)
      : shape(z_), estimator(estimator_), dataset_size(dataset_size_), offset(offset_),
        reduction(Reduction(reduction_)) {
    check_same(z_, mu_, "elbo_decomposition");
    check_same(z_, logvar_, "elbo_decomposition");
    const at::ScalarType type = compute_type(z_);
    z = prepare(z_, type), mu = prepare(mu_, type), logvar = prepare(logvar_, type);
    component_mu = prepare(component_mu_, type), component_logvar = prepare(component_logvar_, type);
    own_components = !component_mu.defined();
    TORCH_CHECK(own_components == !component_logvar.defined(),
                "elbo_decomposition: give component_mu and component_logvar, or neither");
    if (own_components) component_mu = mu, component_logvar = logvar;
    check_components(z, component_mu, component_logvar, "elbo_decomposition");
  }

  // Shape of a reduced or unreduced field.
  at::IntArrayRef field_sizes() const { return z.sizes().slice(0, z.dim() - (reduction == Reduction::none ? 1 : 2)); }
};

// Gradients of the fields as backward gets them; a missing one is an undefined tensor.
inline std::array<at::Tensor, kFields> field_gradients(const ElboArguments& a,
                                                       const c10::List<std::optional<at::Tensor>>& given) {
  TORCH_CHECK(given.size() == kFields, "elbo_decomposition_backward: expected ", kFields, " gradients, got ",
              given.size());
  std::array<at::Tensor, kFields> grads;
  for (int f = 0; f < kFields; ++f) {
    const std::optional<at::Tensor> gradient = given.get(f);
    // The dispatcher resolves the negative bit of every tensor but of those in a list of optional ones.
    grads[f] = gradient ? prepare(gradient->resolve_neg(), a.z.scalar_type()) : at::Tensor();
    TORCH_CHECK(!grads[f].defined() || grads[f].sizes() == a.field_sizes(), "elbo_decomposition_backward: gradient ", f,
                " has the wrong shape");
    check_device(grads[f], a.z, "elbo_decomposition_backward: a gradient");
  }
  return grads;
}

}  // namespace disentangle_ext

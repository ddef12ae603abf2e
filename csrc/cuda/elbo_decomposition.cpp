#include <ATen/Dispatch.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include "common/aggregate_posterior_host.h"
#include "cuda/aggregate_posterior_host.h"

namespace disentangle_ext::cuda {
namespace {

using at::Tensor;

template <typename T>
AggregatePosterior<T> stack_of(const ElboArguments& a) {
  const int64_t components = a.component_mu.size(-2);
  return {pointer<T>(a.z),
          pointer<T>(a.component_mu),
          pointer<T>(a.component_logvar),
          nullptr,
          a.shape.problems,
          a.shape.rows,
          components,
          dimensions(a.shape.D),
          LogWeights<T>::make(Estimator(a.estimator), components, a.dataset_size, a.offset, nullptr)};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> elbo_decomposition_cuda(
    const Tensor& z, const Tensor& mu, const Tensor& logvar, const std::optional<Tensor>& component_mu,
    const std::optional<Tensor>& component_logvar, int64_t estimator, int64_t dataset_size, int64_t offset,
    int64_t reduction) {
  const ElboArguments a(z, mu, logvar, component_mu, component_logvar, estimator, dataset_size, offset, reduction);
  TORCH_CHECK(a.component_mu.size(-2) > 0 || a.shape.problems * a.shape.rows == 0,
              "elbo_decomposition: there are no components");
  const auto options = a.z.options();
  const Tensor log_qz = at::empty(z.sizes().slice(0, z.dim() - 1), options), marginals = at::empty(z.sizes(), options);
  const bool nothing = log_qz.numel() == 0;
  const double empty = a.reduction == Reduction::mean ? kNaN : 0;  // what the mean and the sum of nothing are
  std::array<Tensor, kFields> fields;
  for (Tensor& field : fields)
    field = nothing ? at::full(a.field_sizes(), empty, options) : at::empty(a.field_sizes(), options);
  if (!nothing) {
    AT_DISPATCH_FLOATING_TYPES(a.z.scalar_type(), "elbo_decomposition", [&] {
      ElboOutput<scalar_t> elbo{pointer<scalar_t>(a.mu), pointer<scalar_t>(a.logvar), {}, nullptr, a.reduction};
      for (int f = 0; f < kFields; ++f) elbo.fields[f] = fields[f].mutable_data_ptr<scalar_t>();
      run_forward(stack_of<scalar_t>(a), log_qz, marginals, elbo);
    });
  }
  auto& [mi, tc, dimwise, own, qz, product, prior] = fields;
  return {mi, tc, dimwise, own, qz, product, prior, log_qz, marginals};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> elbo_decomposition_backward_cuda(
    const c10::List<std::optional<Tensor>>& grads, const Tensor& z, const Tensor& mu, const Tensor& logvar,
    const std::optional<Tensor>& component_mu, const std::optional<Tensor>& component_logvar, const Tensor& rows_log_qz,
    const Tensor& rows_marginals, int64_t estimator, int64_t dataset_size, int64_t offset, int64_t reduction) {
  const ElboArguments a(z, mu, logvar, component_mu, component_logvar, estimator, dataset_size, offset, reduction);
  const auto options = a.z.options();
  const Tensor lq = prepare(rows_log_qz, a.z.scalar_type()), lm = prepare(rows_marginals, a.z.scalar_type());
  check_sizes(lq, z.sizes().slice(0, z.dim() - 1), "elbo_decomposition_backward: rows_log_qz");
  check_sizes(lm, z.sizes(), "elbo_decomposition_backward: rows_log_qz_marginals");
  const std::array<Tensor, kFields> fields = field_gradients(a, grads);
  for (const Tensor& t : {lq, lm}) check_device(t, z, "elbo_decomposition_backward: a log density");
  const bool nothing = lm.numel() == 0 || a.component_mu.numel() == 0;
  const auto like = [&](const Tensor& t) {
    return nothing ? at::zeros(t.sizes(), options) : at::empty(t.sizes(), options);
  };
  const Tensor dz = like(z), dcmu = like(a.component_mu), dclogvar = like(a.component_mu);
  const Tensor dmu = a.own_components ? dcmu : like(mu), dlogvar = a.own_components ? dclogvar : like(mu);
  if (!nothing) {
    AT_DISPATCH_FLOATING_TYPES(a.z.scalar_type(), "elbo_decomposition_backward", [&] {
      const double rows = double(a.shape.rows);
      IncomingGradients<scalar_t> in{pointer<scalar_t>(lq),
                                     pointer<scalar_t>(lm),
                                     nullptr,
                                     nullptr,
                                     {},
                                     true,
                                     a.reduction != Reduction::none,
                                     scalar_t(a.reduction == Reduction::mean ? 1 / rows : 1)};
      for (int f = 0; f < kFields; ++f) in.fields[f] = pointer<scalar_t>(fields[f]);
      const OutgoingGradients<scalar_t> out{dz.mutable_data_ptr<scalar_t>(),
                                            dcmu.mutable_data_ptr<scalar_t>(),
                                            dclogvar.mutable_data_ptr<scalar_t>(),
                                            nullptr,
                                            pointer<scalar_t>(a.mu),
                                            pointer<scalar_t>(a.logvar),
                                            a.own_components ? nullptr : dmu.mutable_data_ptr<scalar_t>(),
                                            a.own_components ? nullptr : dlogvar.mutable_data_ptr<scalar_t>()};
      run_backward(stack_of<scalar_t>(a), in, out, dz);
    });
  }
  const at::ScalarType type = z.scalar_type();
  const auto component = [&](const Tensor& t) {
    return a.own_components ? at::empty({0}, options.dtype(type)) : cast(t, type);
  };
  return {cast(dz, type), cast(dmu, type), cast(dlogvar, type), component(dcmu), component(dclogvar)};
}

}  // namespace
}  // namespace disentangle_ext::cuda

TORCH_LIBRARY_IMPL(disentangle_ext, CUDA, m) {
  m.impl("elbo_decomposition", &disentangle_ext::cuda::elbo_decomposition_cuda);
  m.impl("elbo_decomposition_backward", &disentangle_ext::cuda::elbo_decomposition_backward_cuda);
}

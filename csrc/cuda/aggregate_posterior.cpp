#include <ATen/Dispatch.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <torch/library.h>

#include "common/aggregate_posterior_host.h"
#include "cuda/aggregate_posterior_host.h"
#include "math/portable.h"

namespace disentangle_ext::cuda {
namespace {

using at::Tensor;

template <typename T>
AggregatePosterior<T> stack_of(const AggregateArguments& a) {
  LogWeights<T> weights = LogWeights<T>::make(Estimator(a.estimator), a.components.rows, a.dataset_size, a.offset,
                                              pointer<T>(a.log_weight));
  weights.column = nullptr;  // it differs between problems
  return {pointer<T>(a.z),          pointer<T>(a.mu),        pointer<T>(a.logvar),
          pointer<T>(a.log_weight), a.queries.problems,      a.queries.rows,
          a.components.rows,        dimensions(a.queries.D), weights};
}

std::tuple<Tensor, Tensor> aggregate_posterior_cuda(const Tensor& z, const Tensor& mu, const Tensor& logvar,
                                                    const std::optional<Tensor>& log_weight, int64_t estimator,
                                                    int64_t dataset_size, int64_t offset) {
  const AggregateArguments a(z, mu, logvar, log_weight, estimator, dataset_size, offset);
  const at::IntArrayRef rows = z.sizes().slice(0, z.dim() - 1);
  if (a.components.rows == 0)  // a density of zero everywhere
    return {at::full(rows, -kInfinity<double>, a.z.options()), at::full(z.sizes(), -kInfinity<double>, a.z.options())};
  const Tensor log_qz = at::empty(rows, a.z.options()), marginals = at::empty(z.sizes(), a.z.options());
  if (log_qz.numel() == 0) return {log_qz, marginals};
  AT_DISPATCH_FLOATING_TYPES(a.z.scalar_type(), "aggregate_posterior",
                             [&] { run_forward<scalar_t>(stack_of<scalar_t>(a), log_qz, marginals, {}); });
  return {log_qz, marginals};
}

using Gradients = std::tuple<Tensor, Tensor, Tensor, Tensor>;

Gradients aggregate_posterior_backward_cuda(const std::optional<Tensor>& grad_log_qz,
                                            const std::optional<Tensor>& grad_marginals, const Tensor& z,
                                            const Tensor& mu, const Tensor& logvar,
                                            const std::optional<Tensor>& log_weight, const Tensor& log_qz,
                                            const Tensor& marginals, int64_t estimator, int64_t dataset_size,
                                            int64_t offset) {
  const AggregateArguments a(z, mu, logvar, log_weight, estimator, dataset_size, offset);
  const AggregateGradients in(a, grad_log_qz, grad_marginals, log_qz, marginals);
  if (a.queries.D == 0) {  // every density is one, like that of this posterior at its mean
    const auto one = [](const Tensor& t, double value) {
      std::vector<int64_t> sizes = t.sizes().vec();
      sizes.back() = 1;
      return at::full(sizes, value, t.options());
    };
    const Gradients like =
        aggregate_posterior_backward_cuda(grad_log_qz, std::nullopt, one(a.z, 0), one(a.mu, 0), one(a.mu, -kLog2Pi),
                                          log_weight, log_qz, log_qz.unsqueeze(-1), estimator, dataset_size, offset);
    return {at::empty_like(z), at::empty_like(mu), at::empty_like(mu), std::get<3>(like)};
  }
  const bool nothing = a.queries.rows == 0 || a.components.rows == 0 || a.queries.problems == 0;
  const auto like = [&](const Tensor& t) {
    return nothing ? at::zeros(t.sizes(), a.z.options()) : at::empty(t.sizes(), a.z.options());
  };
  const Tensor dz = like(z), dmu = like(mu), dlogvar = like(mu);
  const Tensor dweight = a.log_weight.defined() ? like(a.log_weight) : at::empty({0}, a.z.options());
  if (!nothing) {
    AT_DISPATCH_FLOATING_TYPES(a.z.scalar_type(), "aggregate_posterior_backward", [&] {
      const IncomingGradients<scalar_t> incoming{pointer<scalar_t>(in.log_qz),
                                                 pointer<scalar_t>(in.marginals),
                                                 pointer<scalar_t>(in.g),
                                                 pointer<scalar_t>(in.h),
                                                 {},
                                                 false,
                                                 false,
                                                 scalar_t(1)};
      const OutgoingGradients<scalar_t> outgoing{
          dz.mutable_data_ptr<scalar_t>(),
          dmu.mutable_data_ptr<scalar_t>(),
          dlogvar.mutable_data_ptr<scalar_t>(),
          a.log_weight.defined() ? dweight.mutable_data_ptr<scalar_t>() : nullptr,
          nullptr,
          nullptr,
          nullptr,
          nullptr};
      run_backward(stack_of<scalar_t>(a), incoming, outgoing, dz);
    });
  }
  const at::ScalarType type = z.scalar_type();
  return {cast(dz, type), cast(dmu, type), cast(dlogvar, type),
          log_weight.has_value() ? cast(dweight, log_weight->scalar_type()) : dweight};
}

}  // namespace
}  // namespace disentangle_ext::cuda

TORCH_LIBRARY_IMPL(disentangle_ext, CUDA, m) {
  m.impl("aggregate_posterior", &disentangle_ext::cuda::aggregate_posterior_cuda);
  m.impl("aggregate_posterior_backward", &disentangle_ext::cuda::aggregate_posterior_backward_cuda);
}

#include "cuda/rsample_kl.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "common/problems_host.h"
#include "cuda/launch_host.h"

namespace disentangle_ext::cuda {
namespace {

using at::Tensor;

// Calls f with a value of the storage type.
template <typename F>
void dispatch_storage(at::ScalarType type, const char* op, const F& f) {
  switch (type) {
    case at::kHalf: return f(Half{});
    case at::kBFloat16: return f(BFloat16{});
    case at::kFloat: return f(float{});
    case at::kDouble: return f(double{});
    default: TORCH_CHECK(false, op, ": expected a floating-point dtype, got ", at::toString(type));
  }
}

template <typename S>
const S* input(const Tensor& t) {
  return t.defined() ? static_cast<const S*>(t.const_data_ptr()) : nullptr;
}

template <typename S>
S* output(const Tensor& t) {
  return static_cast<S*>(t.mutable_data_ptr());
}

struct Sizes {
  int64_t problems, rows, D;

  Sizes(const Tensor& mu, int64_t elements_per_key, const char* op) : D(mu.size(-1)) {
    problems = elements_per_key ? mu.numel() / elements_per_key : 0;
    rows = elements_per_key ? elements_per_key / D : 0;
    TORCH_CHECK(D <= INT32_MAX, op, ": at most 2^31 - 1 latent dimensions, got ", D);
  }

  template <typename S>
  RsamplePlan plan(const char* op) const {
    const RsamplePlan plan = rsample_plan(problems, rows, D, kRsampleGroup<S>);
    TORCH_CHECK(problems * std::max(plan.tiles, rows * (plan.chunk > 0)) <= INT32_MAX, op,
                ": too many elements: ", problems * rows * D);
    return plan;
  }
};

at::IntArrayRef kl_sizes(const Tensor& mu, bool per_dimension) {
  return mu.sizes().slice(0, mu.dim() - (per_dimension ? 0 : 1));
}

std::tuple<Tensor, Tensor> rsample_kl_cuda(const Tensor& mu, const Tensor& logvar, const Tensor& key,
                                           bool per_dimension) {
  check_same(mu, logvar, "rsample_kl");
  const Sizes sizes(mu, elements_per_key(mu, key, 1, "rsample_kl"), "rsample_kl");
  check_device(key, mu, "rsample_kl: key");
  const Tensor m = mu.contiguous(), l = logvar.contiguous(), keys = key.contiguous();
  const Tensor z = at::empty(mu.sizes(), m.options());
  const Tensor kl = at::empty(kl_sizes(mu, per_dimension), m.options().dtype(compute_type(mu)));
  if (sizes.D == 0) kl.zero_();
  if (mu.numel() == 0) return {z, kl};
  const Launch launch(mu);
  dispatch_storage(mu.scalar_type(), "rsample_kl", [&](auto storage) {
    using S = decltype(storage);
    RsampleKl<S> a{sizes.problems, sizes.rows, sizes.D, keys.const_data_ptr<int64_t>()};
    a.mu = input<S>(m), a.logvar = input<S>(l), a.z = output<S>(z), a.kl = output<Compute<S>>(kl);
    launch_rsample_kl(a, sizes.plan<S>("rsample_kl"), per_dimension, launch.stream);
  });
  return {z, kl};
}

std::tuple<Tensor, Tensor> rsample_kl_backward_cuda(const std::optional<Tensor>& grad_z,
                                                    const std::optional<Tensor>& grad_kl, const Tensor& mu,
                                                    const Tensor& logvar, const Tensor& key, bool per_dimension) {
  check_same(mu, logvar, "rsample_kl_backward");
  const Sizes sizes(mu, elements_per_key(mu, key, 1, "rsample_kl_backward"), "rsample_kl_backward");
  check_device(key, mu, "rsample_kl_backward: key");
  const Tensor m = mu.contiguous(), l = logvar.contiguous(), keys = key.contiguous();
  const Tensor gz = prepare(grad_z, mu.scalar_type()), gk = prepare(grad_kl, compute_type(mu));
  check_sizes(gz, mu.sizes(), "rsample_kl_backward: grad_z");
  check_sizes(gk, kl_sizes(mu, per_dimension), "rsample_kl_backward: grad_kl");
  check_device(gz, mu, "rsample_kl_backward: grad_z");
  check_device(gk, mu, "rsample_kl_backward: grad_kl");
  const Tensor grad_mu = at::empty(mu.sizes(), m.options()), grad_logvar = at::empty(mu.sizes(), m.options());
  if (mu.numel() == 0) return {grad_mu, grad_logvar};
  const Launch launch(mu);
  dispatch_storage(mu.scalar_type(), "rsample_kl_backward", [&](auto storage) {
    using S = decltype(storage);
    RsampleKlBackward<S> a{sizes.problems, sizes.rows, sizes.D, keys.const_data_ptr<int64_t>()};
    a.mu = input<S>(m), a.logvar = input<S>(l), a.grad_z = input<S>(gz), a.grad_kl = input<Compute<S>>(gk);
    a.grad_mu = output<S>(grad_mu), a.grad_logvar = output<S>(grad_logvar);
    launch_rsample_kl_backward(a, sizes.plan<S>("rsample_kl_backward"), per_dimension, launch.stream);
  });
  return {grad_mu, grad_logvar};
}

}  // namespace
}  // namespace disentangle_ext::cuda

TORCH_LIBRARY_IMPL(disentangle_ext, CUDA, m) {
  m.impl("rsample_kl", &disentangle_ext::cuda::rsample_kl_cuda);
  m.impl("rsample_kl_backward", &disentangle_ext::cuda::rsample_kl_backward_cuda);
}

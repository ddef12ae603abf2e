// Which backward op belongs to which op, for eager mode and torch.compile. The Python Functions of disentangle_ext/ops say
// the same to torch.func, which C++ Functions cannot serve; from Python, a node costs as much as a small kernel.
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <string>
#include <vector>

namespace disentangle_ext {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using MaybeTensor = std::optional<Tensor>;

template <typename Signature>
auto op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow((std::string("disentangle_ext::") + name).c_str(), "").typed<Signature>();
}

MaybeTensor maybe(const Tensor& t) { return t.defined() ? MaybeTensor(t) : std::nullopt; }

bool none_defined(const variable_list& grads, size_t count) {
  return std::none_of(grads.begin(), grads.begin() + int64_t(count), [](const Tensor& g) { return g.defined(); });
}

template <typename... Tensors>
variable_list as_list(const std::tuple<Tensors...>& tensors) {
  return std::apply([](const auto&... t) { return variable_list{t...}; }, tensors);
}

struct RsampleKl : torch::autograd::Function<RsampleKl> {
  static variable_list forward(AutogradContext* ctx, const Tensor& mu, const Tensor& logvar, const Tensor& key, bool per_dimension) {
    static const auto forward_op = op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, bool)>("rsample_kl");
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({mu, logvar, key});
    ctx->saved_data["per_dimension"] = per_dimension;
    ctx->set_materialize_grads(false);
    return as_list(forward_op.call(mu, logvar, key, per_dimension));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto backward_op =
        op<std::tuple<Tensor, Tensor>(const MaybeTensor&, const MaybeTensor&, const Tensor&, const Tensor&, const Tensor&, bool)>("rsample_kl_backward");
    if (none_defined(grads, 2)) return variable_list(4);
    const variable_list saved = ctx->get_saved_variables();
    const auto [mu, logvar] =
        backward_op.call(maybe(grads[0]), maybe(grads[1]), saved[0], saved[1], saved[2], ctx->saved_data["per_dimension"].toBool());
    return {mu, logvar, Tensor(), Tensor()};
  }
};

std::tuple<Tensor, Tensor> rsample_kl(const Tensor& mu, const Tensor& logvar, const Tensor& key, bool per_dimension) {
  const variable_list out = RsampleKl::apply(mu, logvar, key, per_dimension);
  return {out[0], out[1]};
}

struct AggregatePosterior : torch::autograd::Function<AggregatePosterior> {
  static variable_list forward(AutogradContext* ctx, const Tensor& z, const Tensor& mu, const Tensor& logvar, const MaybeTensor& log_weight,
                               int64_t estimator, int64_t dataset_size, int64_t offset) {
    static const auto forward_op =
        op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const MaybeTensor&, int64_t, int64_t, int64_t)>("aggregate_posterior");
    at::AutoDispatchBelowADInplaceOrView below;
    const auto [log_qz, marginals] = forward_op.call(z, mu, logvar, log_weight, estimator, dataset_size, offset);
    ctx->save_for_backward({z, mu, logvar, log_weight.value_or(Tensor()), log_qz, marginals});
    ctx->saved_data["settings"] = std::vector<int64_t>{estimator, dataset_size, offset};
    ctx->set_materialize_grads(false);
    return {log_qz, marginals};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto backward_op =
        op<std::tuple<Tensor, Tensor, Tensor, Tensor>(const MaybeTensor&, const MaybeTensor&, const Tensor&, const Tensor&, const Tensor&,
                                                      const MaybeTensor&, const Tensor&, const Tensor&, int64_t, int64_t, int64_t)>(
            "aggregate_posterior_backward");
    if (none_defined(grads, 2)) return variable_list(7);
    const variable_list s = ctx->get_saved_variables();
    const std::vector<int64_t> settings = ctx->saved_data["settings"].toIntVector();
    const auto [z, mu, logvar, weight] = backward_op.call(maybe(grads[0]), maybe(grads[1]), s[0], s[1], s[2], maybe(s[3]), s[4], s[5], settings[0],
                                                          settings[1], settings[2]);
    return {z, mu, logvar, s[3].defined() ? weight : Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

std::tuple<Tensor, Tensor> aggregate_posterior(const Tensor& z, const Tensor& mu, const Tensor& logvar, const MaybeTensor& log_weight,
                                               int64_t estimator, int64_t dataset_size, int64_t offset) {
  const variable_list out = AggregatePosterior::apply(z, mu, logvar, log_weight, estimator, dataset_size, offset);
  return {out[0], out[1]};
}

using NineTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

struct ElboDecomposition : torch::autograd::Function<ElboDecomposition> {
  static constexpr size_t kFields = 7;

  static variable_list forward(AutogradContext* ctx, const Tensor& z, const Tensor& mu, const Tensor& logvar, const MaybeTensor& component_mu,
                               const MaybeTensor& component_logvar, int64_t estimator, int64_t dataset_size, int64_t offset, int64_t reduction) {
    static const auto forward_op =
        op<NineTensors(const Tensor&, const Tensor&, const Tensor&, const MaybeTensor&, const MaybeTensor&, int64_t, int64_t, int64_t, int64_t)>(
            "elbo_decomposition");
    at::AutoDispatchBelowADInplaceOrView below;
    const variable_list out =
        as_list(forward_op.call(z, mu, logvar, component_mu, component_logvar, estimator, dataset_size, offset, reduction));
    ctx->save_for_backward(
        {z, mu, logvar, component_mu.value_or(Tensor()), component_logvar.value_or(Tensor()), out[kFields], out[kFields + 1]});
    ctx->mark_non_differentiable({out[kFields], out[kFields + 1]});
    ctx->saved_data["settings"] = std::vector<int64_t>{estimator, dataset_size, offset, reduction};
    ctx->set_materialize_grads(false);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto backward_op =
        op<std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>(const c10::List<MaybeTensor>&, const Tensor&, const Tensor&, const Tensor&,
                                                              const MaybeTensor&, const MaybeTensor&, const Tensor&, const Tensor&, int64_t, int64_t,
                                                              int64_t, int64_t)>("elbo_decomposition_backward");
    if (none_defined(grads, kFields)) return variable_list(9);
    c10::List<MaybeTensor> fields;
    for (size_t f = 0; f < kFields; ++f) fields.push_back(maybe(grads[f]));
    const variable_list s = ctx->get_saved_variables();
    const std::vector<int64_t> settings = ctx->saved_data["settings"].toIntVector();
    const auto [z, mu, logvar, component_mu, component_logvar] =
        backward_op.call(fields, s[0], s[1], s[2], maybe(s[3]), maybe(s[4]), s[5], s[6], settings[0], settings[1], settings[2], settings[3]);
    const bool given = s[3].defined();
    return {z, mu, logvar, given ? component_mu : Tensor(), given ? component_logvar : Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

NineTensors elbo_decomposition(const Tensor& z, const Tensor& mu, const Tensor& logvar, const MaybeTensor& component_mu,
                               const MaybeTensor& component_logvar, int64_t estimator, int64_t dataset_size, int64_t offset, int64_t reduction) {
  const variable_list o = ElboDecomposition::apply(z, mu, logvar, component_mu, component_logvar, estimator, dataset_size, offset, reduction);
  return {o[0], o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8]};
}

struct Mmd : torch::autograd::Function<Mmd> {
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& y, const Tensor& bandwidth, int64_t kernel, double exponent,
                               bool biased, bool with_grad) {
    static const auto forward_op =
        op<std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, int64_t, double, bool, bool)>("mmd");
    at::AutoDispatchBelowADInplaceOrView below;
    const variable_list out = as_list(forward_op.call(x, y, bandwidth, kernel, exponent, biased, with_grad));
    ctx->save_for_backward({x, y, out[1], out[2]});
    ctx->mark_non_differentiable({out[1], out[2]});
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto backward_op =
        op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&)>("mmd_backward");
    const variable_list s = ctx->get_saved_variables();
    const auto [x, y] = backward_op.call(grads[0], s[0], s[1], s[2], s[3]);
    return {x, y, Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

std::tuple<Tensor, Tensor, Tensor> mmd(const Tensor& x, const Tensor& y, const Tensor& bandwidth, int64_t kernel, double exponent, bool biased,
                                       bool with_grad) {
  const variable_list out = Mmd::apply(x, y, bandwidth, kernel, exponent, biased, with_grad);
  return {out[0], out[1], out[2]};
}

struct PermuteDims : torch::autograd::Function<PermuteDims> {
  static Tensor forward(AutogradContext* ctx, const Tensor& z, const Tensor& key) {
    static const auto forward_op = op<Tensor(const Tensor&, const Tensor&)>("permute_dims");
    at::AutoDispatchBelowADInplaceOrView below;
    ctx->save_for_backward({key});
    return forward_op.call(z, key);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto backward_op = op<Tensor(const Tensor&, const Tensor&)>("permute_dims_backward");
    return {backward_op.call(grads[0], ctx->get_saved_variables()[0]), Tensor()};
  }
};

Tensor permute_dims(const Tensor& z, const Tensor& key) { return PermuteDims::apply(z, key); }

}  // namespace
}  // namespace disentangle_ext

TORCH_LIBRARY_IMPL(disentangle_ext, Autograd, m) {
  m.impl("rsample_kl", &disentangle_ext::rsample_kl);
  m.impl("aggregate_posterior", &disentangle_ext::aggregate_posterior);
  m.impl("elbo_decomposition", &disentangle_ext::elbo_decomposition);
  m.impl("mmd", &disentangle_ext::mmd);
  m.impl("permute_dims", &disentangle_ext::permute_dims);

  // A backward op has no derivative of its own. Called where one is needed, as under create_graph=True, it must raise:
  // PyTorch would otherwise return silently wrong second derivatives.
  for (const char* name : {"rsample_kl", "aggregate_posterior", "elbo_decomposition", "mmd", "permute_dims"})
    m.impl((std::string(name) + "_backward").c_str(), torch::autograd::autogradNotImplementedFallback());
}

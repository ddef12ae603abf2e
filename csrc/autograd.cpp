// Which backward op belongs to which op, for eager mode and torch.compile. The Python Functions of disentangle_ext/ops
// say the same to torch.func, which nodes of C++ cannot serve.
//
// The nodes are plain ones, as PyTorch's own: at a batch of 64 a torch::autograd::Function costs as much as the kernels
// of rsample_kl, and one in Python several times that.
#include <ATen/core/List.h>
#include <ATen/ops/detach.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/library.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <string>

#include "common/dispatch_host.h"

namespace disentangle_ext {
namespace {

using at::Tensor;
using torch::autograd::SavedVariable;
using torch::autograd::variable_list;
using MaybeTensor = std::optional<Tensor>;

MaybeTensor maybe(const Tensor& t) { return t.defined() ? MaybeTensor(t) : std::nullopt; }

bool none_defined(const variable_list& grads) {
  return std::none_of(grads.begin(), grads.end(), [](const Tensor& g) { return g.defined(); });
}

// A node with the tensors that its backward op needs.
template <size_t kCount>
struct SavingNode : torch::autograd::Node {
  std::array<SavedVariable, kCount> saved;

  template <typename... Tensors>
  void save(const Tensors&... tensors) {
    static_assert(sizeof...(Tensors) == kCount);
    saved = {SavedVariable(tensors, /*is_output=*/false)...};
  }

  std::array<Tensor, kCount> unpack() const {
    std::array<Tensor, kCount> tensors;
    for (size_t i = 0; i < kCount; ++i) tensors[i] = saved[i].unpack();
    return tensors;
  }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (SavedVariable& s : saved) s.reset_data();
  }
};

template <typename NodeType>
auto make_node() {
#if TORCH_VERSION_MAJOR == 2 && TORCH_VERSION_MINOR < 13
  return std::shared_ptr<NodeType>(new NodeType, torch::autograd::deleteNode);
#else
  return c10::make_intrusive<NodeType>();
#endif
}

// A node for an op with these inputs; none where nobody asks for a gradient.
template <typename NodeType, typename... Inputs>
auto node_for(const char* name, const Inputs&... inputs) -> decltype(make_node<NodeType>()) {
  TORCH_CHECK_NOT_IMPLEMENTED(!(torch::autograd::isFwGradDefined(inputs) || ...), name,
                              ": forward-mode derivatives (jvp) are not implemented");
  if (!torch::autograd::compute_requires_grad(inputs...)) return {};
  auto node = make_node<NodeType>();
  node->set_next_edges(torch::autograd::collect_next_edges(inputs...));
  return node;
}

// Where no second derivative is asked for, a backward op need not look at autograd again. Where
// one is, it must: it raises.
template <typename F>
auto run_backward(const F& f) {
  if (at::GradMode::is_enabled()) return f();
  const at::AutoDispatchBelowADInplaceOrView below;
  return f();
}

template <typename F>
auto run_forward(const F& f) {
  const at::AutoDispatchBelowADInplaceOrView below;
  return f();
}

struct RsampleKlBackward : SavingNode<3> {
  bool per_dimension = false;

  std::string name() const override { return "RsampleKlBackward"; }

  variable_list apply(variable_list&& grads) override {
    static const auto backward_op =
        op<std::tuple<Tensor, Tensor>(const MaybeTensor&, const MaybeTensor&, const Tensor&, const Tensor&,
                                      const Tensor&, bool)>("rsample_kl_backward");
    if (none_defined(grads)) return variable_list(2);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto [mu, logvar, key] = unpack();
    const auto [grad_mu, grad_logvar] = run_backward([&, &mu = mu, &logvar = logvar, &key = key] {
      return backward_op.call(maybe(grads[0]), maybe(grads[1]), mu, logvar, key, per_dimension);
    });
    return {grad_mu, grad_logvar};
  }
};

std::tuple<Tensor, Tensor> rsample_kl(const Tensor& mu, const Tensor& logvar, const Tensor& key, bool per_dimension) {
  static const auto forward_op =
      op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, bool)>("rsample_kl");
  const auto node = node_for<RsampleKlBackward>("rsample_kl", mu, logvar);
  const auto out = run_forward([&] { return forward_op.call(mu, logvar, key, per_dimension); });
  if (!node) return out;
  node->save(mu, logvar, key);
  node->per_dimension = per_dimension;
  set_history({std::get<0>(out), std::get<1>(out)}, node);
  return out;
}

// Estimator, number of data points and offset: what an op has besides tensors.
using Settings = std::array<int64_t, 3>;

struct AggregatePosteriorBackward : SavingNode<6> {
  Settings settings{};

  std::string name() const override { return "AggregatePosteriorBackward"; }

  variable_list apply(variable_list&& grads) override {
    static const auto backward_op = op<std::tuple<Tensor, Tensor, Tensor, Tensor>(
        const MaybeTensor&, const MaybeTensor&, const Tensor&, const Tensor&, const Tensor&, const MaybeTensor&,
        const Tensor&, const Tensor&, int64_t, int64_t, int64_t)>("aggregate_posterior_backward");
    if (none_defined(grads)) return variable_list(4);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto s = unpack();
    const auto [z, mu, logvar, weight] = run_backward([&] {
      return backward_op.call(maybe(grads[0]), maybe(grads[1]), s[0], s[1], s[2], maybe(s[3]), s[4], s[5], settings[0],
                              settings[1], settings[2]);
    });
    return {z, mu, logvar, s[3].defined() ? weight : Tensor()};
  }
};

std::tuple<Tensor, Tensor> aggregate_posterior(const Tensor& z, const Tensor& mu, const Tensor& logvar,
                                               const MaybeTensor& log_weight, int64_t estimator, int64_t dataset_size,
                                               int64_t offset) {
  static const auto forward_op =
      op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const MaybeTensor&, int64_t, int64_t,
                                    int64_t)>("aggregate_posterior");
  const auto node = node_for<AggregatePosteriorBackward>("aggregate_posterior", z, mu, logvar, log_weight);
  const auto out =
      run_forward([&] { return forward_op.call(z, mu, logvar, log_weight, estimator, dataset_size, offset); });
  if (!node) return out;
  const auto& [log_qz, marginals] = out;
  // Detached: a node that owned its outputs would be part of a cycle. A change in place is noticed all the same.
  node->save(z, mu, logvar, log_weight.value_or(Tensor()), log_qz.detach(), marginals.detach());
  node->settings = {estimator, dataset_size, offset};
  set_history({log_qz, marginals}, node);
  return out;
}

using NineTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

struct ElboDecompositionBackward : SavingNode<7> {
  Settings settings{};
  int64_t reduction = 0;

  std::string name() const override { return "ElboDecompositionBackward"; }

  variable_list apply(variable_list&& grads) override {
    static const auto backward_op = op<std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>(
        const c10::List<MaybeTensor>&, const Tensor&, const Tensor&, const Tensor&, const MaybeTensor&,
        const MaybeTensor&, const Tensor&, const Tensor&, int64_t, int64_t, int64_t, int64_t)>(
        "elbo_decomposition_backward");
    if (none_defined(grads)) return variable_list(5);
    c10::List<MaybeTensor> fields;
    for (const Tensor& g : grads) fields.push_back(maybe(g));
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto s = unpack();
    const auto [z, mu, logvar, component_mu, component_logvar] = run_backward([&] {
      return backward_op.call(fields, s[0], s[1], s[2], maybe(s[3]), maybe(s[4]), s[5], s[6], settings[0], settings[1],
                              settings[2], reduction);
    });
    if (!s[3].defined()) return {z, mu, logvar, Tensor(), Tensor()};
    return {z, mu, logvar, component_mu, component_logvar};
  }
};

NineTensors elbo_decomposition(const Tensor& z, const Tensor& mu, const Tensor& logvar, const MaybeTensor& component_mu,
                               const MaybeTensor& component_logvar, int64_t estimator, int64_t dataset_size,
                               int64_t offset, int64_t reduction) {
  static const auto forward_op =
      op<NineTensors(const Tensor&, const Tensor&, const Tensor&, const MaybeTensor&, const MaybeTensor&, int64_t,
                     int64_t, int64_t, int64_t)>("elbo_decomposition");
  const auto node =
      node_for<ElboDecompositionBackward>("elbo_decomposition", z, mu, logvar, component_mu, component_logvar);
  const NineTensors out = run_forward([&] {
    return forward_op.call(z, mu, logvar, component_mu, component_logvar, estimator, dataset_size, offset, reduction);
  });
  if (!node) return out;
  const auto& [mi, tc, dwkl, log_qz_x, log_qz, log_prod_qz, log_pz, rows_log_qz, rows_marginals] = out;
  node->save(z, mu, logvar, component_mu.value_or(Tensor()), component_logvar.value_or(Tensor()), rows_log_qz,
             rows_marginals);
  node->settings = {estimator, dataset_size, offset};
  node->reduction = reduction;
  set_history({mi, tc, dwkl, log_qz_x, log_qz, log_prod_qz, log_pz}, node);
  return out;
}

struct MmdBackward : SavingNode<4> {
  std::string name() const override { return "MmdBackward"; }

  variable_list apply(variable_list&& grads) override {
    static const auto backward_op =
        op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&)>(
            "mmd_backward");
    if (none_defined(grads)) return variable_list(2);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto s = unpack();
    const auto [x, y] = run_backward([&] { return backward_op.call(grads[0], s[0], s[1], s[2], s[3]); });
    return {x, y};
  }
};

std::tuple<Tensor, Tensor, Tensor> mmd(const Tensor& x, const Tensor& y, const Tensor& bandwidth, int64_t function,
                                       double exponent, bool biased, bool with_grad) {
  static const auto forward_op =
      op<std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, int64_t, double, bool, bool)>(
          "mmd");
  const auto node = node_for<MmdBackward>("mmd", x, y);
  const auto out = run_forward([&] { return forward_op.call(x, y, bandwidth, function, exponent, biased, with_grad); });
  if (!node) return out;
  node->save(x, y, std::get<1>(out), std::get<2>(out));
  set_history(std::get<0>(out), node);
  return out;
}

struct PermuteDimsBackward : SavingNode<1> {
  std::string name() const override { return "PermuteDimsBackward"; }

  variable_list apply(variable_list&& grads) override {
    static const auto backward_op = op<Tensor(const Tensor&, const Tensor&)>("permute_dims_backward");
    if (none_defined(grads)) return variable_list(1);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto [key] = unpack();
    return {run_backward([&, &key = key] { return backward_op.call(grads[0], key); })};
  }
};

Tensor permute_dims(const Tensor& z, const Tensor& key) {
  static const auto forward_op = op<Tensor(const Tensor&, const Tensor&)>("permute_dims");
  const auto node = node_for<PermuteDimsBackward>("permute_dims", z);
  const Tensor out = run_forward([&] { return forward_op.call(z, key); });
  if (!node) return out;
  node->save(key);
  set_history(out, node);
  return out;
}

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

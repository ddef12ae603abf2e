#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "common/aggregate_posterior_host.h"
#include "cpu/aggregate_posterior.h"
#include "cpu/simd.h"
#include "math/exponential.h"

namespace disentangle_ext::cpu {
namespace {

using at::Tensor;

template <typename T>
AggregatePosterior<T> stack_of(const ElboArguments& a) {
  return {pointer<T>(a.z),
          pointer<T>(a.component_mu),
          pointer<T>(a.component_logvar),
          nullptr,
          a.shape.problems,
          a.shape.rows,
          a.component_mu.size(-2),
          a.shape.D,
          Estimator(a.estimator),
          a.dataset_size,
          a.offset};
}

template <typename T>
DX_CLONES void terms_of_rows(int64_t n, const T* z, const T* mu, const T* logvar, T* qzx, T* pz) {
  DX_SIMD
  for (int64_t e = 0; e < n; ++e) density_terms(z[e], mu[e], logvar[e], qzx[e], pz[e]);
}

// Adds the gradients of log q(z|x), weighted by g_qzx, and of log p(z), weighted by g_pz.
template <typename T>
DX_CLONES void add_density_gradients(int64_t D, const T* z, const T* mu, const T* logvar, T g_qzx, T g_pz, T* dz,
                                     T* dmu, T* dlogvar) {
  DX_SIMD
  for (int64_t d = 0; d < D; ++d) {
    T own_z, own_mu, own_logvar;
    density_gradient(z[d], mu[d], logvar[d], g_qzx, g_pz, own_z, own_mu, own_logvar);
    dz[d] += own_z, dmu[d] += own_mu, dlogvar[d] += own_logvar;
  }
}

template <typename T>
void fields_of_problem(const ElboArguments& a, int64_t p, const T* log_qz, const T* marginals,
                       const std::array<T*, kFields>& out) {
  const int64_t B = a.shape.rows, D = a.shape.D, tile = std::max<int64_t>(1, 1024 / std::max<int64_t>(D, 1));
  std::vector<T> qzx_terms(tile * D), pz_terms(tile * D);
  std::array<double, kFields> total{};
  for (int64_t i = 0; i < B; ++i) {
    const int64_t row = p * B + i, at = row * D, in_tile = i % tile * D;
    if (in_tile == 0) {
      const int64_t n = std::min(tile, B - i) * D;
      terms_of_rows(n, pointer<T>(a.z) + at, pointer<T>(a.mu) + at, pointer<T>(a.logvar) + at, qzx_terms.data(),
                    pz_terms.data());
    }
    double qzx = 0, product = 0, pz = 0;
    for (int64_t d = 0; d < D; ++d) {
      qzx += double(qzx_terms[in_tile + d]), pz += double(pz_terms[in_tile + d]);
      product += double(marginals[at + d]);
    }
    const RowDensities densities{log_density(qzx, D), double(log_qz[row]), product, log_density(pz, D)};
    for (int f = 0; f < kFields; ++f) {
      total[f] += densities.field(f);
      if (a.reduction == Reduction::none) out[f][row] = T(densities.field(f));
    }
  }
  if (a.reduction == Reduction::none) return;
  for (int f = 0; f < kFields; ++f) out[f][p] = T(a.reduction == Reduction::mean ? total[f] / double(B) : total[f]);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> elbo_decomposition_cpu(
    const Tensor& z, const Tensor& mu, const Tensor& logvar, const std::optional<Tensor>& component_mu,
    const std::optional<Tensor>& component_logvar, int64_t estimator, int64_t dataset_size, int64_t offset,
    int64_t reduction) {
  const ElboArguments a(z, mu, logvar, component_mu, component_logvar, estimator, dataset_size, offset, reduction);
  const auto options = a.z.options();
  const Tensor log_qz = at::empty(z.sizes().slice(0, z.dim() - 1), options), marginals = at::empty(z.sizes(), options);
  std::array<Tensor, kFields> fields;
  for (Tensor& field : fields) field = at::empty(a.field_sizes(), options);
  AT_DISPATCH_FLOATING_TYPES(a.z.scalar_type(), "elbo_decomposition", [&] {
    scalar_t *lq = log_qz.mutable_data_ptr<scalar_t>(), *lm = marginals.mutable_data_ptr<scalar_t>();
    aggregate_posterior_forward(stack_of<scalar_t>(a), lq, lm);
    std::array<scalar_t*, kFields> out;
    for (int f = 0; f < kFields; ++f) out[f] = fields[f].mutable_data_ptr<scalar_t>();
    for (int64_t p = 0; p < a.shape.problems; ++p) fields_of_problem(a, p, lq, lm, out);
  });
  auto& [mi, tc, dimwise, own, qz, product, prior] = fields;
  return {mi, tc, dimwise, own, qz, product, prior, log_qz, marginals};
}

// Gradients of a row's four log densities.
template <typename T>
struct RowGradients {
  std::array<Tensor, kFields> grads;
  const ElboArguments& a;

  void at_row(int64_t row, T& qzx, T& qz, T& product, T& pz) const {
    std::array<T, kFields> v;
    const bool reduced = a.reduction != Reduction::none;
    const T scale = a.reduction == Reduction::mean ? T(1) / T(a.shape.rows) : T(1);
    for (int f = 0; f < kFields; ++f)
      v[f] = grads[f].defined() ? scale * pointer<T>(grads[f])[reduced ? row / a.shape.rows : row] : T(0);
    const auto g = [&](int f) { return v[f]; };
    qzx = qzx_gradient(g), qz = qz_gradient(g), product = product_gradient(g), pz = pz_gradient(g);
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> elbo_decomposition_backward_cpu(
    const c10::List<std::optional<Tensor>>& grads, const Tensor& z, const Tensor& mu, const Tensor& logvar,
    const std::optional<Tensor>& component_mu, const std::optional<Tensor>& component_logvar, const Tensor& rows_log_qz,
    const Tensor& rows_marginals, int64_t estimator, int64_t dataset_size, int64_t offset, int64_t reduction) {
  const ElboArguments a(z, mu, logvar, component_mu, component_logvar, estimator, dataset_size, offset, reduction);
  const auto options = a.z.options();
  const Tensor lq = prepare(rows_log_qz, a.z.scalar_type()), lm = prepare(rows_marginals, a.z.scalar_type());
  check_sizes(lq, z.sizes().slice(0, z.dim() - 1), "elbo_decomposition_backward: rows_log_qz");
  check_sizes(lm, z.sizes(), "elbo_decomposition_backward: rows_log_qz_marginals");
  const Tensor g = at::empty(lq.sizes(), options), h = at::empty(lm.sizes(), options),
               dz = at::empty(z.sizes(), options);
  const Tensor dcmu = at::empty(a.component_mu.sizes(), options), dclogvar = at::empty(a.component_mu.sizes(), options);
  const Tensor dmu = a.own_components ? dcmu : at::zeros(z.sizes(), options),
               dlogvar = a.own_components ? dclogvar : at::zeros(z.sizes(), options);
  AT_DISPATCH_FLOATING_TYPES(a.z.scalar_type(), "elbo_decomposition_backward", [&] {
    const RowGradients<scalar_t> row_gradients{field_gradients(a, grads), a};
    const int64_t rows = a.shape.problems * a.shape.rows, D = a.shape.D;
    std::vector<scalar_t> qzx(rows), pz(rows);
    for (int64_t row = 0; row < rows; ++row) {
      scalar_t product;
      row_gradients.at_row(row, qzx[row], g.mutable_data_ptr<scalar_t>()[row], product, pz[row]);
      std::fill_n(h.mutable_data_ptr<scalar_t>() + row * D, D, product);
    }
    aggregate_posterior_backward<scalar_t>(stack_of<scalar_t>(a), pointer<scalar_t>(lq), pointer<scalar_t>(lm),
                                           pointer<scalar_t>(g), pointer<scalar_t>(h), dz.mutable_data_ptr<scalar_t>(),
                                           dcmu.mutable_data_ptr<scalar_t>(), dclogvar.mutable_data_ptr<scalar_t>(),
                                           nullptr);
    for (int64_t row = 0; row < rows; ++row) {
      if (qzx[row] == 0 && pz[row] == 0) continue;  // as where only the total correlation is trained
      const int64_t at = row * D;
      add_density_gradients(D, pointer<scalar_t>(a.z) + at, pointer<scalar_t>(a.mu) + at,
                            pointer<scalar_t>(a.logvar) + at, qzx[row], pz[row], dz.mutable_data_ptr<scalar_t>() + at,
                            dmu.mutable_data_ptr<scalar_t>() + at, dlogvar.mutable_data_ptr<scalar_t>() + at);
    }
  });
  const at::ScalarType type = z.scalar_type();
  const auto component = [&](const Tensor& t) {
    return a.own_components ? at::empty({0}, options.dtype(type)) : cast(t, type);
  };
  return {cast(dz, type), cast(dmu, type), cast(dlogvar, type), component(dcmu), component(dclogvar)};
}

}  // namespace
}  // namespace disentangle_ext::cpu

TORCH_LIBRARY_IMPL(disentangle_ext, CPU, m) {
  m.impl("elbo_decomposition", &disentangle_ext::cpu::elbo_decomposition_cpu);
  m.impl("elbo_decomposition_backward", &disentangle_ext::cpu::elbo_decomposition_backward_cpu);
}

#include "cpu/aggregate_posterior.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "common/aggregate_posterior_host.h"
#include "cpu/aggregate_posterior_backward.h"
#include "cpu/aggregate_posterior_forward.h"
#include "cpu/parallel.h"

namespace disentangle_ext::cpu {
namespace {

constexpr double kForwardNanoseconds = 0.25, kBackwardNanoseconds = 0.4;  // per exponential, with AVX-512

template <typename T>
AggregateProblem<T> problem_of(const AggregatePosterior<T>& s, int64_t p) {
  const T* column = s.log_weight ? s.log_weight + p * s.components : nullptr;
  return {s.z + p * s.queries * s.D,
          s.mu + p * s.components * s.D,
          s.logvar + p * s.components * s.D,
          s.queries,
          s.components,
          s.D,
          LogWeights<T>::make(s.estimator, s.components, s.dataset_size, s.offset, column)};
}

// Gradients of the queries that float32 cannot resolve, added to those of all others. Runs of consecutive queries are
// problems of their own in float64, the log-sum-exps included.
template <typename T>
void add_far_queries(const AggregateProblem<T>& a, const AggregateProblemGradient<T>& grad, const Queries<T>& side,
                     T* dz) {
  const auto wide = [](const T* p, int64_t n) { return std::vector<double>(p, p + n); };
  const int64_t N = a.components, D = a.D;
  const std::vector<double> mu = wide(a.mu, N * D), logvar = wide(a.logvar, N * D);
  const std::vector<double> column = a.weights.column ? wide(a.weights.column, N) : std::vector<double>();
  const LogWeights<T>& w = a.weights;
  std::vector<double> dmu(N * D), dlogvar(N * D), dweight(N);
  for (size_t begin = 0, end = 0; begin < side.far.size(); begin = end) {
    const int64_t first = side.far[begin];
    while (end < side.far.size() && side.far[end] == first + int64_t(end - begin)) ++end;
    const int64_t count = int64_t(end - begin);
    std::vector<double> z = wide(a.z + first * D, count * D), g = wide(grad.g + first, count),
                        h = wide(grad.h + first * D, count * D);
    for (int64_t i = 0; i < count; ++i) g[i] = grad.log_qz[first + i] == -kInfinity<T> ? 0 : g[i];
    for (int64_t e = 0; e < count * D; ++e) h[e] = grad.marginals[first * D + e] == -kInfinity<T> ? 0 : h[e];
    const LogWeights<double> weights{
        w.estimator,        w.components,  w.offset + first, w.column ? column.data() : nullptr,
        double(w.ordinary), double(w.own), double(w.next)};
    const AggregateProblem<double> wide_problem{z.data(), mu.data(), logvar.data(), count, N, D, weights};
    const Reference<double> reference = reference_of(wide_problem);
    std::vector<double> log_qz(count), marginals(count * D), share(count * D);
    log_densities(wide_problem, reference, 0, count, log_qz.data(), marginals.data());
    const AggregateProblemGradient<double> gradient{log_qz.data(),
                                                    marginals.data(),
                                                    g.data(),
                                                    h.data(),
                                                    dmu.data(),
                                                    dlogvar.data(),
                                                    grad.log_weight ? dweight.data() : nullptr};
    log_densities_backward(wide_problem, reference, gradient, queries_of(wide_problem, reference, gradient), 0, N,
                           share.data());
    for (int64_t e = 0; e < count * D; ++e) dz[first * D + e] += T(share[e]);
    for (int64_t e = 0; e < N * D; ++e) grad.mu[e] += T(dmu[e]), grad.logvar[e] += T(dlogvar[e]);
    for (int64_t j = 0; j < N && grad.log_weight; ++j) grad.log_weight[j] += T(dweight[j]);
  }
}

// A slice of components is one task of backward. Its share of dz is a buffer of its own, so there are few slices.
int64_t slice_size(int64_t components) {
  constexpr int64_t kMostSlices = 16;
  const int64_t even = (components + kMostSlices - 1) / kMostSlices;
  return (std::max<int64_t>(even, components < 1024 ? 128 : 256) + kLanes - 1) / kLanes * kLanes;
}

}  // namespace

template <typename T>
void aggregate_posterior_forward(const AggregatePosterior<T>& s, T* log_qz, T* marginals) {
  if (s.components == 0) {  // a density of zero everywhere
    std::fill_n(log_qz, s.problems * s.queries, -kInfinity<T>);
    std::fill_n(marginals, s.problems * s.queries * s.D, -kInfinity<T>);
    return;
  }
  std::vector<AggregateProblem<T>> problems;
  std::vector<Reference<T>> references;
  for (int64_t p = 0; p < s.problems; ++p)
    problems.push_back(problem_of(s, p)), references.push_back(reference_of(problems.back()));
  const int64_t chunks = (s.queries + kChunk - 1) / kChunk;
  const double cost =
      kForwardNanoseconds * double(std::min(kChunk, s.queries)) * double(s.components) * double(s.D + 1);
  run_tasks(s.problems * chunks, cost, [&](int64_t task) {
    const int64_t p = task / chunks, first = task % chunks * kChunk;
    log_densities(problems[p], references[p], first, std::min(first + kChunk, s.queries), log_qz + p * s.queries,
                  marginals + p * s.queries * s.D);
  });
}

template <typename T>
void aggregate_posterior_backward(const AggregatePosterior<T>& s, const T* log_qz, const T* marginals, const T* g,
                                  const T* h, T* grad_z, T* grad_mu, T* grad_logvar, T* grad_log_weight) {
  const int64_t queries = s.queries * s.D, size = slice_size(s.components), slices = (s.components + size - 1) / size;
  std::fill_n(grad_z, s.problems * queries, T(0));
  if (s.components == 0) return;
  std::vector<T> shares(slices > 1 ? s.problems * slices * queries : 0, T(0));
  std::vector<AggregateProblem<T>> problems;
  std::vector<Reference<T>> references;
  std::vector<AggregateProblemGradient<T>> gradients;
  std::vector<Queries<T>> sides;
  for (int64_t p = 0; p < s.problems; ++p) {
    problems.push_back(problem_of(s, p));
    references.push_back(reference_of(problems[p]));
    const int64_t at = p * s.components;
    gradients.push_back({log_qz + p * s.queries, marginals + p * queries, g + p * s.queries, h + p * queries,
                         grad_mu + at * s.D, grad_logvar + at * s.D, grad_log_weight ? grad_log_weight + at : nullptr});
    sides.push_back(queries_of(problems[p], references[p], gradients[p]));
  }
  const double cost = kBackwardNanoseconds * double(s.queries) * double(std::min(size, s.components)) * double(s.D + 1);
  run_tasks(s.problems * slices, cost, [&](int64_t task) {
    const int64_t p = task / slices, first = task % slices * size;
    T* dz = slices > 1 ? shares.data() + task * queries : grad_z + p * queries;
    log_densities_backward(problems[p], references[p], gradients[p], sides[p], first,
                           std::min(first + size, s.components), dz);
  });
  for (int64_t task = 0; task < s.problems * slices && slices > 1; ++task) {
    T* dz = grad_z + task / slices * queries;
    for (int64_t e = 0; e < queries; ++e) dz[e] += shares[task * queries + e];
  }
  for (int64_t p = 0; p < s.problems; ++p)
    if (!sides[p].far.empty()) add_far_queries(problems[p], gradients[p], sides[p], grad_z + p * queries);
}

template void aggregate_posterior_forward<float>(const AggregatePosterior<float>&, float*, float*);
template void aggregate_posterior_forward<double>(const AggregatePosterior<double>&, double*, double*);
template void aggregate_posterior_backward<float>(const AggregatePosterior<float>&, const float*, const float*,
                                                  const float*, const float*, float*, float*, float*, float*);
template void aggregate_posterior_backward<double>(const AggregatePosterior<double>&, const double*, const double*,
                                                   const double*, const double*, double*, double*, double*, double*);

namespace {

using at::Tensor;

template <typename T>
AggregatePosterior<T> stack_of(const AggregateArguments& a) {
  return {pointer<T>(a.z), pointer<T>(a.mu),  pointer<T>(a.logvar), pointer<T>(a.log_weight), a.queries.problems,
          a.queries.rows,  a.components.rows, a.queries.D,          Estimator(a.estimator),   a.dataset_size,
          a.offset};
}

Tensor or_zeros(const Tensor& gradient, const Tensor& like) {
  return gradient.defined() ? gradient : at::zeros(like.sizes(), like.options());
}

std::tuple<Tensor, Tensor> aggregate_posterior_cpu(const Tensor& z, const Tensor& mu, const Tensor& logvar,
                                                   const std::optional<Tensor>& log_weight, int64_t estimator,
                                                   int64_t dataset_size, int64_t offset) {
  const AggregateArguments a(z, mu, logvar, log_weight, estimator, dataset_size, offset);
  const Tensor log_qz = at::empty(z.sizes().slice(0, z.dim() - 1), a.z.options()),
               marginals = at::empty(z.sizes(), a.z.options());
  AT_DISPATCH_FLOATING_TYPES(a.z.scalar_type(), "aggregate_posterior", [&] {
    aggregate_posterior_forward(stack_of<scalar_t>(a), log_qz.mutable_data_ptr<scalar_t>(),
                                marginals.mutable_data_ptr<scalar_t>());
  });
  return {log_qz, marginals};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> aggregate_posterior_backward_cpu(
    const std::optional<Tensor>& grad_log_qz, const std::optional<Tensor>& grad_marginals, const Tensor& z,
    const Tensor& mu, const Tensor& logvar, const std::optional<Tensor>& log_weight, const Tensor& log_qz,
    const Tensor& marginals, int64_t estimator, int64_t dataset_size, int64_t offset) {
  const AggregateArguments a(z, mu, logvar, log_weight, estimator, dataset_size, offset);
  const AggregateGradients in(a, grad_log_qz, grad_marginals, log_qz, marginals);
  const Tensor g = or_zeros(in.g, in.log_qz), h = or_zeros(in.h, in.marginals);
  const Tensor dz = at::empty(z.sizes(), a.z.options()), dmu = at::empty(mu.sizes(), a.z.options()),
               dlogvar = at::empty(mu.sizes(), a.z.options());
  const Tensor dweight =
      a.log_weight.defined() ? at::empty(a.log_weight.sizes(), a.z.options()) : at::empty({0}, a.z.options());
  AT_DISPATCH_FLOATING_TYPES(a.z.scalar_type(), "aggregate_posterior_backward", [&] {
    aggregate_posterior_backward(stack_of<scalar_t>(a), pointer<scalar_t>(in.log_qz), pointer<scalar_t>(in.marginals),
                                 pointer<scalar_t>(g), pointer<scalar_t>(h), dz.mutable_data_ptr<scalar_t>(),
                                 dmu.mutable_data_ptr<scalar_t>(), dlogvar.mutable_data_ptr<scalar_t>(),
                                 a.log_weight.defined() ? dweight.mutable_data_ptr<scalar_t>() : nullptr);
  });
  const at::ScalarType type = z.scalar_type();
  return {cast(dz, type), cast(dmu, type), cast(dlogvar, type),
          log_weight.has_value() ? cast(dweight, log_weight->scalar_type()) : dweight};
}

}  // namespace
}  // namespace disentangle_ext::cpu

TORCH_LIBRARY_IMPL(disentangle_ext, CPU, m) {
  m.impl("aggregate_posterior", &disentangle_ext::cpu::aggregate_posterior_cpu);
  m.impl("aggregate_posterior_backward", &disentangle_ext::cpu::aggregate_posterior_backward_cpu);
}

// Entries for the kernels of aggregate_posterior and elbo_decomposition. A plan of zeros stands for the one that the
// shape would get; others force several tiles, splits and ranges on small inputs.
#include "cuda/aggregate_posterior.cuh"
#include "testing/entry.h"

namespace disentangle_ext::cuda {
namespace {

using testing::Type;
using testing::Workspace;

struct Problem {
  const void *z, *mu, *logvar, *log_weight;
  int64_t problems, queries, components, D, estimator, dataset_size, offset;

  template <typename T>
  AggregatePosterior<T> stack() const {
    const T* weight = static_cast<const T*>(log_weight);
    LogWeights<T> weights = LogWeights<T>::make(Estimator(estimator), components, dataset_size, offset, weight);
    weights.column = nullptr;
    return {static_cast<const T*>(z),
            static_cast<const T*>(mu),
            static_cast<const T*>(logvar),
            weight,
            problems,
            queries,
            components,
            int(D),
            weights};
  }
};

SweepPlan forced(SweepPlan plan, int64_t components, int64_t lanes, int64_t groups, int64_t split_size) {
  for (plan.lane_bits = lanes ? 0 : plan.lane_bits; plan.lanes() < lanes;) ++plan.lane_bits;
  if (lanes) plan.groups = int(groups);
  if (split_size) plan.split_size = split_size, plan.splits = ceil_div(components, split_size);
  return plan;
}

template <typename T>
void forward(const Problem& p, int64_t lanes, int64_t groups, int64_t split_size, T* log_qz, T* marginals,
             ElboOutput<T> elbo) {
  const AggregatePosterior<T> s = p.stack<T>();
  const SweepPlan plan =
      forced(sweep_plan(p.problems, p.queries, p.components), p.components, lanes, groups, split_size);
  const Workspace<T> marginal(plan.splits * s.rows() * p.D), joint(plan.splits * s.rows() * 2);
  const Workspace<double> partial(p.problems * partial_sums(p.queries) * kFields);
  elbo.partial = partial.get();
  aggregate_posterior_forward(s, plan, SweepSums<T>{marginal.get(), joint.get()},
                              DensityOutput<T>{log_qz, marginals, elbo}, nullptr);
}

// A range of components is a multiple of what the block holds: of 64 with one warp to a group of
// queries (128 where D <= 4).
void force(GradientPlan& plan, int64_t queries, int64_t components, int64_t component_range, int64_t query_range) {
  if (component_range)
    plan.component_range = component_range, plan.component_ranges = ceil_div(components, component_range);
  if (query_range) plan.query_range = query_range, plan.query_ranges = ceil_div(queries, query_range);
}

template <typename T>
void backward(const Problem& p, int64_t component_range, int64_t query_range, const IncomingGradients<T>& in,
              const OutgoingGradients<T>& out) {
  const AggregatePosterior<T> s = p.stack<T>();
  GradientLayout<T> layout =
      gradient_layout<T>(p.problems, p.queries, p.components, int(p.D), out.log_weight != nullptr);
  if (component_range) layout.marginal.warp_bits = 0;
  force(layout.marginal, p.queries, p.components, component_range, query_range);
  layout.query_slices = layout.marginal.component_ranges, layout.component_slices = layout.marginal.query_ranges;
  if (!layout.in_registers) {
    force(layout.joint, p.queries, p.components, component_range, query_range);
    layout.query_slices += layout.joint.component_ranges, layout.component_slices += layout.joint.query_ranges;
  }
  const Workspace<T> query(layout.query_elements(s.rows(), s.D)),
      component(layout.component_elements(p.problems * p.components, s.D));
  const Workspace<T> left(layout.left_elements(p.problems, s.D));
  aggregate_posterior_backward(s, layout, in, GradientSlices<T>{query.get(), component.get(), left.get()}, out,
                               nullptr);
}

template <typename F>
void dispatch(int64_t dtype, const F& f) {
  if (Type(dtype) == Type::float32) return f(float{});
  if (Type(dtype) == Type::float64) return f(double{});
  throw std::runtime_error("the kernels of aggregate_posterior are for float32 and float64");
}

}  // namespace

DX_ENTRY(aggregate_forward, const void* z, const void* mu, const void* logvar, const void* log_weight, int64_t problems,
         int64_t queries, int64_t components, int64_t D, int64_t dtype, int64_t estimator, int64_t dataset_size,
         int64_t offset, int64_t lanes, int64_t groups, int64_t split_size, void* log_qz, void* marginals) {
  const Problem p{z, mu, logvar, log_weight, problems, queries, components, D, estimator, dataset_size, offset};
  dispatch(dtype, [&](auto type) {
    using T = decltype(type);
    forward<T>(p, lanes, groups, split_size, static_cast<T*>(log_qz), static_cast<T*>(marginals), {});
  });
}

DX_ENTRY(aggregate_backward, const void* z, const void* mu, const void* logvar, const void* log_weight,
         int64_t problems, int64_t queries, int64_t components, int64_t D, int64_t dtype, int64_t estimator,
         int64_t dataset_size, int64_t offset, int64_t component_range, int64_t query_range, const void* log_qz,
         const void* marginals, const void* g, const void* h, void* dz, void* dmu, void* dlogvar, void* dweight) {
  const Problem p{z, mu, logvar, log_weight, problems, queries, components, D, estimator, dataset_size, offset};
  dispatch(dtype, [&](auto type) {
    using T = decltype(type);
    const IncomingGradients<T> in{static_cast<const T*>(log_qz),
                                  static_cast<const T*>(marginals),
                                  static_cast<const T*>(g),
                                  static_cast<const T*>(h),
                                  {},
                                  false,
                                  false,
                                  T(1)};
    const OutgoingGradients<T> out{static_cast<T*>(dz),
                                   static_cast<T*>(dmu),
                                   static_cast<T*>(dlogvar),
                                   static_cast<T*>(dweight),
                                   nullptr,
                                   nullptr,
                                   nullptr,
                                   nullptr};
    backward<T>(p, component_range, query_range, in, out);
  });
}

// `fields` is [7, rows] or [7, problems]; the components are `component_mu` and so on, or the
// posteriors where that is null.
DX_ENTRY(elbo_forward, const void* z, const void* mu, const void* logvar, const void* component_mu,
         const void* component_logvar, int64_t problems, int64_t queries, int64_t components, int64_t D, int64_t dtype,
         int64_t estimator, int64_t dataset_size, int64_t offset, int64_t reduction, int64_t split_size, void* log_qz,
         void* marginals, void* fields) {
  const Problem p{z,
                  component_mu ? component_mu : mu,
                  component_mu ? component_logvar : logvar,
                  nullptr,
                  problems,
                  queries,
                  components,
                  D,
                  estimator,
                  dataset_size,
                  offset};
  dispatch(dtype, [&](auto type) {
    using T = decltype(type);
    ElboOutput<T> elbo{static_cast<const T*>(mu), static_cast<const T*>(logvar), {}, nullptr, Reduction(reduction)};
    const int64_t size = Reduction(reduction) == Reduction::none ? problems * queries : problems;
    for (int f = 0; f < kFields; ++f) elbo.fields[f] = static_cast<T*>(fields) + f * size;
    forward<T>(p, 0, 0, split_size, static_cast<T*>(log_qz), static_cast<T*>(marginals), elbo);
  });
}

// `grads` is [7, rows] or [7, problems]; bit f of `given` says whether field f has one.
DX_ENTRY(elbo_backward, const void* z, const void* mu, const void* logvar, const void* component_mu,
         const void* component_logvar, int64_t problems, int64_t queries, int64_t components, int64_t D, int64_t dtype,
         int64_t estimator, int64_t dataset_size, int64_t offset, int64_t reduction, const void* log_qz,
         const void* marginals, const void* grads, int64_t given, void* dz, void* dmu, void* dlogvar, void* own_mu,
         void* own_logvar) {
  const Problem p{z,
                  component_mu ? component_mu : mu,
                  component_mu ? component_logvar : logvar,
                  nullptr,
                  problems,
                  queries,
                  components,
                  D,
                  estimator,
                  dataset_size,
                  offset};
  dispatch(dtype, [&](auto type) {
    using T = decltype(type);
    const Reduction r = Reduction(reduction);
    IncomingGradients<T> in{static_cast<const T*>(log_qz),
                            static_cast<const T*>(marginals),
                            nullptr,
                            nullptr,
                            {},
                            true,
                            r != Reduction::none,
                            T(r == Reduction::mean ? 1.0 / double(queries) : 1.0)};
    const int64_t size = r == Reduction::none ? problems * queries : problems;
    for (int f = 0; f < kFields; ++f) in.fields[f] = given >> f & 1 ? static_cast<const T*>(grads) + f * size : nullptr;
    const OutgoingGradients<T> out{static_cast<T*>(dz),       static_cast<T*>(dmu),
                                   static_cast<T*>(dlogvar),  nullptr,
                                   static_cast<const T*>(mu), static_cast<const T*>(logvar),
                                   static_cast<T*>(own_mu),   static_cast<T*>(own_logvar)};
    backward<T>(p, 0, 0, in, out);
  });
}

}  // namespace disentangle_ext::cuda

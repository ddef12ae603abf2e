// The aggregate posterior over a stack of problems on a GPU: what the host functions of aggregate_posterior and
// elbo_decomposition pass to the kernels. How the work is cut is a function of the shape alone, so that results are too.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/stream.h"
#include "math/elbo_fields.h"
#include "math/log_weights.h"

namespace disentangle_ext::cuda {

template <typename T>
struct MixtureStack {
  const T *z, *mu, *logvar;  // [problems, queries, D], [problems, components, D]
  const T* log_weight;       // [problems, components], or nullptr
  int64_t problems, queries, components;
  int D;
  LogWeights<T> weights;  // of the estimator; its `column` stays empty, since it differs between problems

  DX_INLINE int64_t rows() const { return problems * queries; }
};

// Float32 kernels that keep all dimensions of a component in registers exist up to here. Beyond, and in float64, the
// marginals are done in runs of kDimRun dimensions and the joint density has a kernel of its own.
inline constexpr int kMostStaticDims = 16, kDimRun = 8;

template <typename T>
bool in_registers(int D) {
  return sizeof(T) == sizeof(float) && D <= kMostStaticDims;
}

DX_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Forward: a block holds 2 * lanes queries; its groups of `lanes` threads share the components of its split.
struct SweepPlan {
  int lanes, groups;
  int64_t splits, split_size;

  DX_INLINE int64_t queries_per_block() const { return 2 * lanes; }
};

inline constexpr int64_t kEnoughBlocks = 528;  // four for each multiprocessor of a large GPU

inline SweepPlan sweep_plan(int64_t problems, int64_t queries, int64_t components) {
  constexpr int64_t kTile = 64;
  const bool small = queries * components <= (1 << 17);
  SweepPlan plan{small ? 4 : 32, 8, 1, 0};
  if (small)
    for (plan.groups = 8; plan.groups < 64 && plan.groups * 4 < components;) plan.groups *= 2;
  const int64_t blocks = problems * ceil_div(queries, plan.queries_per_block());
  const int64_t wanted = small ? 1 : std::clamp<int64_t>(kEnoughBlocks / std::max<int64_t>(blocks, 1), 1, ceil_div(components, kTile));
  plan.split_size = ceil_div(ceil_div(components, wanted), kTile) * kTile;
  plan.splits = ceil_div(components, plan.split_size);
  return plan;
}

// Where the sums of a sweep go, per split of the components.
template <typename T>
struct SweepSums {
  T* marginal;  // [splits, rows, D]
  T* joint;     // [splits, rows, 2]: the sum of 2^(x - max), and max
};

// What elbo_decomposition makes of the densities. `partial` holds sums over blocks of rows where there are several.

template <typename T>
struct ElboOutput {
  const T *mu, *logvar;  // [rows, D]: the posteriors that z was drawn from
  T* fields[kFields];    // [rows], or [problems]
  double* partial;       // [problems, row blocks, kFields], or nullptr if a problem has one block
  Reduction reduction;
};

// Blocks that finish the rows of a problem, a warp a row. Where the rows are added up, one block has them all up to 256.
inline int64_t finish_blocks(int64_t queries, bool reduced) { return reduced && queries <= 256 ? 1 : ceil_div(queries, reduced ? 64 : 8); }

// log_qz [rows], marginals [rows, D]. `elbo` may be nullptr.
template <typename T>
void mixture_forward(const MixtureStack<T>& s, const SweepPlan& plan, const SweepSums<T>& sums, T* log_qz, T* marginals, const ElboOutput<T>* elbo,
                     cudaStream_t stream);

// Backward: a block has 8 warps, of which component_warps hold different components (64 or 32 a warp) and see the same
// queries. Each block covers a range of components and a range of queries and writes its share of the gradients into
// slices, which a second kernel adds up in order.
struct GradientPlan {
  int component_warps;
  int64_t component_ranges, component_range, query_ranges, query_range;

  DX_INLINE int query_groups() const { return 8 / component_warps; }
  DX_INLINE int64_t component_slices() const { return query_ranges * query_groups(); }  // a slice per range of queries
};

inline GradientPlan gradient_plan(int64_t problems, int64_t queries, int64_t components, int per_warp, int64_t dim_runs = 1) {
  constexpr int64_t kMostRanges = 16, kBlocks = 256;
  GradientPlan plan{1, 1, 0, 1, 0};
  while (plan.component_warps < 8 && plan.component_warps * per_warp < components) plan.component_warps *= 2;
  const int64_t chunk = plan.component_warps * per_warp, chunks = std::max<int64_t>(ceil_div(components, chunk), 1);
  const int64_t least = plan.query_groups() * (queries <= 512 ? 2 : 16);  // queries worth a block
  const auto ranges = [](int64_t wanted, int64_t most) { return std::clamp<int64_t>(wanted, 1, std::max<int64_t>(most, 1)); };
  plan.component_range = ceil_div(chunks, ranges(chunks, kMostRanges)) * chunk;
  plan.component_ranges = std::max<int64_t>(ceil_div(components, plan.component_range), 1);
  const int64_t others = problems * plan.component_ranges * dim_runs;
  plan.query_range = std::max<int64_t>(ceil_div(queries, ranges(kBlocks / others, std::min(ceil_div(queries, least), kMostRanges))), 1);
  plan.query_ranges = std::max<int64_t>(ceil_div(queries, plan.query_range), 1);
  return plan;
}

// Gradients of the outputs: g of log q(z) and h of the marginals; or, for elbo_decomposition, of its fields. A missing
// one (nullptr) is zero.
template <typename T>
struct IncomingGradients {
  const T *log_qz, *marginals;  // [rows], [rows, D]: what forward returned
  const T *g, *h;               // [rows], [rows, D]
  const T* fields[kFields];     // [rows], or [problems]
  bool elbo, reduced;
  T scale;  // of the fields: one over the number of rows where they were averaged
};

template <typename T>
struct GradientSlices {
  T* query;      // [slices, problems, queries, D]
  T* component;  // [slices, problems, components, 3 D + 1]: for mu, logvar, the marginals' share of the weights, the joint's
};

// The widths of a gradient kernel: components a warp, and slices of each kind. Several kernels share the slices beyond
// kMostStaticDims.
template <typename T>
struct GradientLayout {
  GradientPlan marginal, joint;  // joint is used only where the joint density has its own kernel
  int64_t query_slices, component_slices;
};

template <typename T>
GradientLayout<T> gradient_layout(int64_t problems, int64_t queries, int64_t components, int D);

template <typename T>
struct OutgoingGradients {
  T *z, *mu, *logvar;                // mu and logvar of the components
  T* log_weight;                     // or nullptr
  const T *posterior_mu, *posterior_logvar;  // elbo_decomposition: [rows, D], else nullptr
  T *own_mu, *own_logvar;            // their gradients, or nullptr where they are the components
};

template <typename T>
void mixture_backward(const MixtureStack<T>& s, const GradientLayout<T>& layout, const IncomingGradients<T>& in, const GradientSlices<T>& slices,
                      const OutgoingGradients<T>& out, cudaStream_t stream);

}  // namespace disentangle_ext::cuda

// The aggregate posterior over a stack of problems on a GPU: what the host functions of
// aggregate_posterior and elbo_decomposition pass to the kernels. How the work is cut is a function of the
// shape alone, so that results are too.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/stream.h"
#include "math/elbo_fields.h"
#include "math/log_weights.h"

namespace disentangle_ext::cuda {

template <typename T>
struct AggregatePosterior {
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
  int lane_bits, groups;
  int64_t splits, split_size;

  DX_INLINE int lanes() const { return 1 << lane_bits; }
  DX_INLINE int64_t queries_per_block() const { return 2 * lanes(); }
};

inline constexpr int64_t kEnoughBlocks = 528;  // four for each multiprocessor of a large GPU

inline constexpr int kSweepTile = 128;  // components in shared memory at a time

inline SweepPlan sweep_plan(int64_t problems, int64_t queries, int64_t components) {
  const bool small = queries * components <= (1 << 17);
  SweepPlan plan{small ? 2 : 5, 8, 1, 0};
  if (small)
    for (plan.groups = 8; plan.groups < 64 && plan.groups * 4 < components;) plan.groups *= 2;
  const int64_t blocks = problems * ceil_div(queries, plan.queries_per_block());
  const int64_t wanted =
      small ? 1
            : std::clamp<int64_t>(kEnoughBlocks / std::max<int64_t>(blocks, 1), 1, ceil_div(components, kSweepTile));
  plan.split_size = ceil_div(ceil_div(components, wanted), kSweepTile) * kSweepTile;
  plan.splits = ceil_div(components, plan.split_size);
  return plan;
}

// Where the sums of a sweep go, per split of the components.
template <typename T>
struct SweepSums {
  T* marginal;  // [splits, rows, D]
  T* joint;     // [splits, rows, 2]: the sum of 2^(x - max), and max
};

// What elbo_decomposition makes of the densities; `mu` is nullptr where it is not asked. Where rows are added up,
// `partial` takes the sums of blocks of rows.
template <typename T>
struct ElboOutput {
  const T *mu, *logvar;  // [rows, D]: the posteriors that z was drawn from
  T* fields[kFields];    // [rows], or [problems]
  double* partial;       // [problems, partial_sums(queries), kFields]
  Reduction reduction;
};

template <typename T>
struct DensityOutput {
  T *log_qz, *marginals;  // [rows], [rows, D]
  ElboOutput<T> elbo;
};

// Room for the partial sums of a problem: no block has fewer rows than this many.
inline int64_t partial_sums(int64_t queries) { return ceil_div(queries, 8); }

template <typename T>
void aggregate_posterior_forward(const AggregatePosterior<T>& s, const SweepPlan& plan, const SweepSums<T>& sums,
                                 const DensityOutput<T>& out, cudaStream_t stream);

// Backward: a block has kGradientWarps warps, of which component_warps() hold different components (`per_warp` each)
// and see the same queries. Each block covers a range of components and a range of queries and writes its share of the
// gradients into slices, which a second kernel adds up in order.
inline constexpr int kGradientWarps = 4;

struct GradientPlan {
  int warp_bits;
  int64_t component_ranges, component_range, query_ranges, query_range;

  DX_INLINE int component_warps() const { return 1 << warp_bits; }
  DX_INLINE int query_groups() const { return kGradientWarps >> warp_bits; }
  DX_INLINE int chunks(int per_warp) const {
    return int(ceil_div(component_range, int64_t(component_warps()) * per_warp));
  }
};

// `width` is what a component has in a slice. Slices are as many as give a large GPU enough blocks, but
// few where they are large.
inline GradientPlan gradient_plan(int64_t problems, int64_t queries, int64_t components, int per_warp, int64_t width,
                                  int64_t dim_runs = 1) {
  constexpr int64_t kBlocks = 396, kMostRanges = 16, kMostElements = 1 << 22;
  GradientPlan plan{0, 1, 0, 1, 0};
  while (plan.component_warps() < kGradientWarps && plan.component_warps() * per_warp < components) ++plan.warp_bits;
  const int64_t chunk = plan.component_warps() * per_warp, chunks = ceil_div(components, chunk);
  plan.component_range = ceil_div(chunks, std::min(chunks, kMostRanges)) * chunk;
  plan.component_ranges = ceil_div(components, plan.component_range);
  const int64_t least = plan.query_groups() * (queries <= 512 ? 2 : 16);  // queries worth a block
  const int64_t affordable = std::clamp<int64_t>(kMostElements / (problems * components * width), 8, 64);
  const int64_t wanted = std::clamp<int64_t>(kBlocks / (problems * plan.component_ranges * dim_runs), 1,
                                             std::min(ceil_div(queries, least), affordable));
  plan.query_range = ceil_div(queries, wanted);
  plan.query_ranges = ceil_div(queries, plan.query_range);
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

  // Those of a row: of field f, of log q(z), and of the marginal of dimension d.
  DX_INLINE T field(int f, int64_t problem, int64_t row) const {
    return fields[f] ? scale * fields[f][reduced ? problem : row] : T(0);
  }

  DX_INLINE T joint(int64_t problem, int64_t row) const {
    if (!elbo) return g ? g[row] : T(0);
    return qz_gradient([&](int f) { return field(f, problem, row); });
  }

  DX_INLINE T marginal(int64_t problem, int64_t row, int d, int D) const {
    if (!elbo) return h ? h[row * D + d] : T(0);
    return product_gradient([&](int f) { return field(f, problem, row); });
  }
};

template <typename T>
struct GradientSlices {
  T* query;      // [slices, problems, queries, D]
  T* component;  // [slices, problems, components, width]: D each for mu and logvar and, with learned weights, D + 1 for
                 // these
  T* left;       // [blocks, chunks of their components, 2]: whether something is left to float64, and by which rule

  DX_INLINE void put_left(int64_t block, int chunk, int chunks, bool any, T reference) const {
    left[2 * (block * chunks + chunk)] = any ? T(1) : T(0), left[2 * (block * chunks + chunk) + 1] = reference;
  }

  DX_INLINE bool get_left(int64_t block, int chunk, int chunks, T& reference) const {
    reference = left[2 * (block * chunks + chunk) + 1];
    return left[2 * (block * chunks + chunk)] != T(0);
  }
};

// How backward is cut, and how many slices it leaves. The joint density has a plan where it has a kernel of its own.
template <typename T>
struct GradientLayout {
  GradientPlan marginal, joint;
  bool in_registers, learned;
  int per_warp;  // components
  int64_t query_slices, component_slices;

  DX_INLINE int width(int D) const { return learned ? 3 * D + 1 : 2 * D; }

  // Elements of scratch memory: slices of both kinds, and what blocks leave to float64.
  int64_t query_elements(int64_t rows, int D) const { return query_slices * rows * D; }
  int64_t component_elements(int64_t components, int D) const { return component_slices * components * width(D); }
  int64_t left_elements(int64_t problems, int D) const {
    const int64_t runs = in_registers ? 1 : ceil_div(D, kDimRun);
    return 2 * problems *
           std::max(marginal.component_ranges * marginal.query_ranges * runs * marginal.chunks(per_warp),
                    joint.component_ranges * joint.query_ranges);
  }
};

// `learned`: the gradient of the log-weights is wanted.
template <typename T>
GradientLayout<T> gradient_layout(int64_t problems, int64_t queries, int64_t components, int D, bool learned);

template <typename T>
struct OutgoingGradients {
  T *z, *mu, *logvar;                        // mu and logvar of the components
  T* log_weight;                             // or nullptr
  const T *posterior_mu, *posterior_logvar;  // elbo_decomposition: [rows, D], else nullptr
  T *own_mu, *own_logvar;                    // their gradients, or nullptr where they are the components
};

template <typename T>
void aggregate_posterior_backward(const AggregatePosterior<T>& s, const GradientLayout<T>& layout,
                                  const IncomingGradients<T>& in, const GradientSlices<T>& slices,
                                  const OutgoingGradients<T>& out, cudaStream_t stream);

}  // namespace disentangle_ext::cuda

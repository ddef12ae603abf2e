// Forward: D + 1 sums of densities per query. A sweep leaves one set of sums per split of the components; `finish` adds
// the splits in order, takes the logarithms and, for elbo_decomposition, forms its fields.
#pragma once

#include "cuda/mixture.cuh"

namespace disentangle_ext::cuda {
namespace {

constexpr int kSweepQueries = 2;  // of a thread, to share the loads of a component
constexpr int kQuad = 4;          // components whose joint densities are added around one maximum
constexpr int kTile = 64;
constexpr int kFinishThreads = 512;

// A component in shared memory: mu, scale and peak of D dimensions, and the peak of the joint density.
template <int D>
constexpr int kComponentRow = (3 * D + 1 + 3) / 4 * 4;

// Components `first` .. of a problem. Places past `count` and dimensions past the last hold densities of zero: of scale
// one where the query may be infinite.
template <typename T, int D>
__device__ __forceinline__ void load_components(T* tile, const MixtureStack<T>& s, int64_t problem, int64_t first, int count, int first_dim) {
  const int64_t base = problem * s.components + first;
  const int dims = min(D, s.D - first_dim);
  for (int e = threadIdx.x; e < kTile * D; e += blockDim.x) {
    const int j = e / D, d = e % D;
    T mu = 0, scale = d < dims ? T(1) : T(0), peak = -kInfinity<T>;
    if (j < count && d < dims) {
      const int64_t at = (base + j) * s.D + first_dim + d;
      const T logvar = s.logvar[at];
      mu = s.mu[at], scale = scale_of(logvar), peak = peak_of(logvar);
      if (s.log_weight) peak += T(kLog2e) * s.log_weight[base + j];
    }
    T* row = tile + j * kComponentRow<D>;
    row[d] = mu, row[D + d] = scale, row[2 * D + d] = peak;
  }
}

template <typename T, int D>
__device__ __forceinline__ void load_joint_peaks(T* tile, const MixtureStack<T>& s, int64_t problem, int64_t first, int count) {
  const int64_t base = problem * s.components + first;
  for (int j = threadIdx.x; j < kTile; j += blockDim.x) {
    T peak = j < count ? T(0) : -kInfinity<T>;
    if (j < count) {
      for (int d = 0; d < s.D; ++d) peak += peak_of(s.logvar[(base + j) * s.D + d]);
      if (s.log_weight) peak += T(kLog2e) * s.log_weight[base + j];
    }
    tile[j * kComponentRow<D> + 3 * D] = peak;
  }
}

// The queries of a thread and their sums.
template <typename T, int D, bool kJoint>
struct Queries {
  T z[kSweepQueries][D], sum[kSweepQueries][D];
  OnlineSum<T> joint[kSweepQueries];

  // Adds a quad of components; `bits` are their weights relative to the ordinary one.
  template <bool kUneven>
  __device__ __forceinline__ void add(const T* quad, const T (&bits)[kSweepQueries][kQuad]) {
    T g[kSweepQueries][kQuad];
    DX_UNROLL
    for (int c = 0; c < kQuad; ++c) {
      const T* row = quad + c * kComponentRow<D>;
      DX_UNROLL
      for (int q = 0; q < kSweepQueries; ++q) g[q][c] = kUneven ? row[3 * D] + bits[q][c] : row[3 * D];
      DX_UNROLL
      for (int d = 0; d < D; ++d) {
        const T mu = row[d], scale = row[D + d], peak = row[2 * D + d];
        DX_UNROLL
        for (int q = 0; q < kSweepQueries; ++q) {
          const T t = (z[q][d] - mu) * scale;
          if (kJoint) g[q][c] -= t * t;
          sum[q][d] += exp2((kUneven ? peak + bits[q][c] : peak) - t * t);
        }
      }
    }
    if constexpr (kJoint) {
      DX_UNROLL
      for (int q = 0; q < kSweepQueries; ++q) {
        const T top = max(max(g[q][0], g[q][1]), max(g[q][2], g[q][3]));
        joint[q].raise(max(joint[q].max, top));
        joint[q].sum += (exp2(g[q][0] - joint[q].max) + exp2(g[q][1] - joint[q].max)) + (exp2(g[q][2] - joint[q].max) + exp2(g[q][3] - joint[q].max));
      }
    }
  }
};

// Which part of the work a block has. It lies in shared memory, since registers are short.
struct SweepBlock {
  int64_t problem, split, first_query, last_query, first_component, last_component;
  int first_dim;
};

template <typename T>
__device__ __forceinline__ void find_work(SweepBlock& block, const MixtureStack<T>& s, const SweepPlan& plan, int dim_runs, int run_size) {
  if (threadIdx.x == 0) {
    const int64_t query_blocks = ceil_div(s.queries, plan.queries_per_block());
    int64_t b = blockIdx.x;
    block.first_dim = int(b % dim_runs) * run_size, b /= dim_runs;
    block.first_query = b % query_blocks * plan.queries_per_block(), b /= query_blocks;
    block.last_query = min(block.first_query + plan.queries_per_block(), s.queries);
    block.split = b % plan.splits, block.problem = b / plan.splits;
    block.first_component = block.split * plan.split_size;
    block.last_component = min(block.first_component + plan.split_size, s.components);
  }
  __syncthreads();
}

// Adds up what the groups of a block have, in order, through shared memory, and stores it.
template <typename T, int D, bool kJoint>
__device__ __forceinline__ void merge_groups(T* shared, const MixtureStack<T>& s, const SweepPlan& plan, const SweepBlock& block,
                                             const Queries<T, D, kJoint>& mine, const SweepSums<T>& out) {
  constexpr int kWidth = D + 2;
  const int lane = threadIdx.x % plan.lanes, group = threadIdx.x / plan.lanes, queries = kSweepQueries * plan.lanes;
  __syncthreads();
  DX_UNROLL
  for (int q = 0; q < kSweepQueries; ++q) {
    T* row = shared + (group * queries + q * plan.lanes + lane) * kWidth;
    DX_UNROLL
    for (int d = 0; d < D; ++d) row[d] = mine.sum[q][d];
    if (kJoint) row[D] = mine.joint[q].sum, row[D + 1] = mine.joint[q].max;
  }
  __syncthreads();
  const int dims = min(D, s.D - block.first_dim), count = int(block.last_query - block.first_query);
  const int64_t row = block.split * s.rows() + block.problem * s.queries + block.first_query;
  for (int e = threadIdx.x; e < count * dims; e += blockDim.x) {
    const int i = e / dims, d = e % dims;
    T sum = 0;
    for (int g = 0; g < plan.groups; ++g) sum += shared[(g * queries + i) * kWidth + d];
    out.marginal[(row + i) * s.D + block.first_dim + d] = sum;
  }
  if constexpr (kJoint) {
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
      OnlineSum<T> total;
      for (int g = 0; g < plan.groups; ++g) {
        OnlineSum<T> part;
        part.sum = shared[(g * queries + i) * kWidth + D], part.max = shared[(g * queries + i) * kWidth + D + 1];
        total.add(part);
      }
      out.joint[2 * (row + i)] = total.sum, out.joint[2 * (row + i) + 1] = total.max;
    }
  }
}

// Sums of D marginal densities and, with kJoint, where these are all dimensions, of the joint density.
template <typename T, int D, bool kJoint>
__global__ void __launch_bounds__(kThreads, D > 10 ? 1 : 2) sweep(MixtureStack<T> s, SweepPlan plan, int dim_runs, SweepSums<T> out) {
  DX_DYNAMIC_SHARED(T, shared);
  __shared__ SweepBlock block;
  find_work(block, s, plan, dim_runs, D);
  const int lane = threadIdx.x % plan.lanes, group = threadIdx.x / plan.lanes;
  Queries<T, D, kJoint> mine;
  DX_UNROLL
  for (int q = 0; q < kSweepQueries; ++q) {
    const int64_t i = min(block.first_query + q * plan.lanes + lane, block.last_query - 1);
    const T* z = s.z + (block.problem * s.queries + i) * s.D + block.first_dim;
    DX_UNROLL
    for (int d = 0; d < D; ++d) mine.z[q][d] = block.first_dim + d < s.D ? z[d] : T(0), mine.sum[q][d] = 0;
  }
  for (int64_t first = block.first_component; first < block.last_component; first += kTile) {
    const int count = int(min(int64_t(kTile), block.last_component - first));
    __syncthreads();
    load_components<T, D>(shared, s, block.problem, first, count, block.first_dim);
    if (kJoint) load_joint_peaks<T, D>(shared, s, block.problem, first, count);
    __syncthreads();
    for (int j = group * kQuad; j < count; j += plan.groups * kQuad) {
      const T* quad = shared + j * kComponentRow<D>;
      T bits[kSweepQueries][kQuad];
      const Weights<T> weights(s.weights, s.log_weight != nullptr, block.first_query, block.last_query - 1);
      if (weights.any(first + j, kQuad)) {
        for (int q = 0; q < kSweepQueries; ++q)
          for (int c = 0; c < kQuad; ++c) bits[q][c] = weights(block.first_query + q * plan.lanes + lane, first + j + c);
        mine.template add<true>(quad, bits);
      } else {
        mine.template add<false>(quad, bits);
      }
    }
  }
  merge_groups(shared, s, plan, block, mine, out);
}

// Finishing ---------------------------------------------------------------------------------------------------------

// log2 of a marginal density around its maximum, by a warp: for a query far from every component.
template <typename T>
__device__ __forceinline__ T marginal_online(const MixtureStack<T>& s, int64_t problem, int64_t i, int d) {
  const Weights<T> weights(s.weights, s.log_weight != nullptr, i, i);
  const T z = s.z[(problem * s.queries + i) * s.D + d];
  OnlineSum<T> total;
  for (int64_t j = threadIdx.x % kWarp; j < s.components; j += kWarp) {
    const int64_t component = problem * s.components + j;
    const T logvar = s.logvar[component * s.D + d], t = (z - s.mu[component * s.D + d]) * scale_of(logvar);
    T x = peak_of(logvar) - t * t;
    if (s.log_weight) x += T(kLog2e) * s.log_weight[component];
    if (weights.any(j, 1)) x += weights(i, j);
    total.add(x);
  }
  return warp_sum(total).log2();
}

// The D marginals of a row by a warp; returns their sum, in nats.
template <typename T>
__device__ __forceinline__ double finish_marginals(const MixtureStack<T>& s, int64_t splits, const T* sums, int64_t problem, int64_t i, T* out) {
  constexpr bool kSingle = sizeof(T) == sizeof(float);
  const T least = T(s.components) * (kSingle ? T(0x1p-100) : T(0x1p-960)), most = kSingle ? T(0x1p+120) : T(0x1p+1000);
  const int64_t row = problem * s.queries + i, stride = s.rows() * s.D;
  const int lane = threadIdx.x % kWarp;
  double product = 0;
  for (int first = 0; first < s.D; first += kWarp) {
    const int d = first + lane;
    T sum = 0;
    if (d < s.D)
      for (int64_t k = 0; k < splits; ++k) sum += sums[k * stride + row * s.D + d];
    const bool outside = d < s.D && !(sum >= least && sum <= most);
    T log_density = d < s.D ? s.weights.ordinary + log(sum) : T(0);
    for (unsigned left = __ballot_sync(kAllLanes, outside); left; left &= left - 1) {
      const int source = __ffs(int(left)) - 1;
      const T again = T(kLn2) * marginal_online(s, problem, i, first + source) + s.weights.ordinary;
      if (lane == source) log_density = again;
    }
    if (d < s.D) out[row * s.D + d] = log_density;
    product += double(log_density);
  }
  return warp_sum(product);
}

template <typename T>
__device__ __forceinline__ double finish_joint(const MixtureStack<T>& s, int64_t splits, const T* sums, int64_t row) {
  OnlineSum<T> total;
  for (int64_t k = threadIdx.x % kWarp; k < splits; k += kWarp) {
    OnlineSum<T> part;
    part.sum = sums[2 * (k * s.rows() + row)], part.max = sums[2 * (k * s.rows() + row) + 1];
    total.add(part);
  }
  return double(s.weights.ordinary) + kLn2 * double(warp_sum(total).log2());
}

// log q(z|x) and log p(z) of a row, by a warp.
template <typename T>
__device__ __forceinline__ void own_densities(const MixtureStack<T>& s, const ElboOutput<T>& elbo, int64_t row, double& own, double& prior) {
  own = 0, prior = 0;
  for (int d = threadIdx.x % kWarp; d < s.D; d += kWarp) {
    const int64_t at = row * s.D + d;
    const T z = s.z[at], t = (z - elbo.mu[at]) * exp(T(-0.5) * elbo.logvar[at]);  // the precision itself would overflow first
    own += double(elbo.logvar[at] + t * t), prior += double(z * z);
  }
  own = -0.5 * (kLog2Pi * double(s.D) + warp_sum(own)), prior = -0.5 * (kLog2Pi * double(s.D) + warp_sum(prior));
}

// The sum of field f over a problem. The loop is for its constant index: an argument's array has no address.
template <typename T>
__device__ __forceinline__ void store_field(const ElboOutput<T>& elbo, int f, int64_t problem, int64_t queries, double sum) {
  DX_UNROLL
  for (int k = 0; k < kFields; ++k)
    if (k == f) elbo.fields[k][problem] = T(elbo.reduction == Reduction::mean ? sum / double(queries) : sum);
}

// A warp finishes a row at a time; a block the rows of its part of a problem, whose fields it adds up where they are reduced.
template <typename T, bool kElbo>
__global__ void __launch_bounds__(kFinishThreads) finish(MixtureStack<T> s, int64_t splits, int64_t blocks, SweepSums<T> sums, T* log_qz, T* marginals,
                                               ElboOutput<T> elbo) {
  __shared__ double shared[kElbo ? kWarp * kFields : 1];
  const int64_t problem = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const int64_t per_block = ceil_div(s.queries, blocks), end = min((block + 1) * per_block, s.queries);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  double total[kFields] = {};
  for (int64_t i = block * per_block + warp; i < end; i += warps) {
    const int64_t row = problem * s.queries + i;
    const double product = finish_marginals(s, splits, sums.marginal, problem, i, marginals);
    const double joint = finish_joint(s, splits, sums.joint, row);
    if (lane == 0) log_qz[row] = T(joint);
    if constexpr (kElbo) {
      double own, prior;
      own_densities(s, elbo, row, own, prior);
      const double value[kFields] = {own - joint, joint - product, product - prior, own, joint, product, prior};
      DX_UNROLL
      for (int f = 0; f < kFields; ++f) {
        total[f] += value[f];
        if (elbo.reduction == Reduction::none && lane == f) elbo.fields[f][row] = T(value[f]);
      }
    }
  }
  if constexpr (kElbo) {
    if (elbo.reduction == Reduction::none) return;
    DX_UNROLL
    for (int f = 0; f < kFields; ++f)
      if (lane == f) shared[warp * kFields + f] = total[f];
    __syncthreads();
    if (threadIdx.x >= kFields) return;
    double sum = 0;
    for (int w = 0; w < warps; ++w) sum += shared[w * kFields + threadIdx.x];
    if (elbo.partial) {
      elbo.partial[blockIdx.x * int64_t(kFields) + threadIdx.x] = sum;
    } else {
      store_field(elbo, int(threadIdx.x), problem, s.queries, sum);
    }
  }
}

// Adds up the sums of a problem's blocks: a warp a field, in an order that only the number of blocks decides.
template <typename T>
__global__ void reduce_fields(ElboOutput<T> elbo, int64_t blocks, int64_t queries) {
  const int64_t problem = blockIdx.x;
  const int lane = threadIdx.x % kWarp, f = threadIdx.x / kWarp;
  double sum = 0;
  for (int64_t b = lane; b < blocks; b += kWarp) sum += elbo.partial[(problem * blocks + b) * kFields + f];
  sum = warp_sum(sum);
  if (lane == 0) store_field(elbo, f, problem, queries, sum);
}

// Launching ---------------------------------------------------------------------------------------------------------

template <typename T, int D, bool kJoint>
void launch_sweep(const MixtureStack<T>& s, const SweepPlan& plan, const SweepSums<T>& sums, cudaStream_t stream) {
  const int dim_runs = kJoint ? 1 : int(ceil_div(s.D, D));
  const int64_t blocks = s.problems * plan.splits * ceil_div(s.queries, plan.queries_per_block()) * dim_runs;
  const int threads = plan.lanes * plan.groups;
  const size_t tile = kTile * kComponentRow<D>, merge = size_t(threads) * kSweepQueries * (D + 2);
  DX_LAUNCH((sweep<T, D, kJoint>), unsigned(blocks), threads, std::max(tile, merge) * sizeof(T), stream, s, plan, dim_runs, sums);
}

template <typename T, bool kElbo>
void launch_finish(const MixtureStack<T>& s, const SweepPlan& plan, const SweepSums<T>& sums, T* log_qz, T* marginals, const ElboOutput<T>& elbo,
                   cudaStream_t stream) {
  const bool reduced = kElbo && elbo.reduction != Reduction::none;
  const int64_t blocks = finish_blocks(s.queries, reduced);
  DX_LAUNCH((finish<T, kElbo>), unsigned(s.problems * blocks), reduced ? kFinishThreads : kThreads, 0, stream, s, plan.splits, blocks, sums, log_qz, marginals,
            elbo);
  if (reduced && elbo.partial) DX_LAUNCH((reduce_fields<T>), unsigned(s.problems), kWarp * kFields, 0, stream, elbo, blocks, s.queries);
}

}  // namespace
}  // namespace disentangle_ext::cuda

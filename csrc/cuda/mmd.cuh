// Kernels of MMD^2. One block an item, that is all pairs of a row of one tile and a row of another; it writes its sum,
// and each row's part of the gradient, to places of their own, which a second kernel adds up in fixed order.
#pragma once

#include "cuda/mmd_pairs.cuh"
#include "cuda/mmd_wide.cuh"

namespace disentangle_ext::cuda {
namespace {

// Of items of one tile, which hold every pair twice, the weight is half.
__device__ double item_weight(const MmdWeights& w, const MmdPlan& plan, const MmdItem& item) {
  const bool of_y = item.row_tile >= plan.x_tiles, other_of_y = item.column_tile >= plan.x_tiles;
  const double weight = of_y != other_of_y ? w.xy : of_y ? w.yy : w.xx;
  return item.diagonal() ? weight / 2 : weight;
}

// The first block of a problem makes the value, the others the gradient, an element a thread.
template <typename T>
__global__ void __launch_bounds__(kMmdMergeThreads, 2)
    mmd_merge(const MmdArguments<T> a, const MmdPlan plan, int64_t blocks_each) {
  __shared__ double sums[kMmdMergeThreads];
  const int64_t problem = blockIdx.x / blocks_each, block = blockIdx.x % blocks_each;
  const MmdWeights w =
      MmdWeights::make(double(a.M), double(a.N), a.biased, a.function == MmdFunction::energy ? 0.0 : double(a.K));
  if (block == 0) {
    sums[threadIdx.x] = 0;
    for (unsigned i = threadIdx.x; i < plan.items(); i += kMmdMergeThreads)
      sums[threadIdx.x] += item_weight(w, plan, MmdItem(plan, i)) * a.sums[problem * plan.items() + i];
    const double value = mmd_block_sum(sums) + w.diagonal;
    if (threadIdx.x == 0) a.value[problem] = T(value);
    return;
  }
  const int64_t each = (a.M + a.N) * a.D, e = (block - 1) * kMmdMergeThreads + threadIdx.x;
  if (e >= each) return;
  const T* const pulls = a.pulls + problem * plan.tiles() * each + e;
  T from_x = 0, from_y = 0;
  for (int64_t t = 0; t < plan.x_tiles; ++t) from_x += pulls[t * each];
  for (int64_t t = plan.x_tiles; t < plan.tiles(); ++t) from_y += pulls[t * each];
  const int64_t split = a.M * a.D;
  if (e < split)
    a.grad_x[problem * split + e] = T(2 * w.xx) * from_x + T(2 * w.xy) * from_y;
  else
    a.grad_y[problem * (each - split) + e - split] = T(2 * w.xy) * from_x + T(2 * w.yy) * from_y;
}

// Launches ------------------------------------------------------------------------------------------------------------

template <typename T, MmdFunction function, int D>
void launch_mmd_pairs(const MmdArguments<T>& a, const MmdPlan& plan, cudaStream_t stream) {
  const dim3 grid(unsigned(a.problems * plan.items()));
  const size_t bytes = size_t(a.K) * sizeof(MmdScale<T>);
  if (a.grad_x)
    DX_LAUNCH((mmd_pairs<T, function, D, true>), grid, kMmdThreads, bytes, stream, a, plan);
  else
    DX_LAUNCH((mmd_pairs<T, function, D, false>), grid, kMmdThreads, bytes, stream, a, plan);
}

template <typename T, MmdFunction function>
void launch_mmd_wide(const MmdArguments<T>& a, const MmdPlan& plan, cudaStream_t stream) {
  const dim3 grid(unsigned(a.problems * plan.items()));
  DX_LAUNCH((mmd_pairs_wide<T, function>), grid, kMmdThreads, size_t(a.K) * sizeof(MmdScale<T>), stream, a, plan);
}

template <typename T>
void launch_mmd_merge(const MmdArguments<T>& a, const MmdPlan& plan, cudaStream_t stream) {
  const int64_t blocks = mmd_merge_blocks(a);
  DX_LAUNCH(mmd_merge<T>, dim3(unsigned(blocks)), kMmdMergeThreads, 0, stream, a, plan, blocks / a.problems);
}

// float64 is for checks, not for speed: fewer widths.
template <typename T, MmdFunction function>
void launch_mmd_width(const MmdArguments<T>& a, const MmdPlan& plan, cudaStream_t stream) {
  if (plan.items() == 0) return;
  if constexpr (sizeof(T) == 4) {
    if (a.D <= 2) return launch_mmd_pairs<T, function, 2>(a, plan, stream);
    if (a.D > 4 && a.D <= 8) return launch_mmd_pairs<T, function, 8>(a, plan, stream);
  }
  if (a.D <= 4) return launch_mmd_pairs<T, function, 4>(a, plan, stream);
  if (a.D <= 10) return launch_mmd_pairs<T, function, 10>(a, plan, stream);
  if (a.D <= 16) return launch_mmd_pairs<T, function, 16>(a, plan, stream);
  launch_mmd_wide<T, function>(a, plan, stream);
}

}  // namespace

template <typename T>
void launch_mmd(const MmdArguments<T>& a, const MmdPlan& plan, cudaStream_t stream) {
  switch (a.function) {
    case MmdFunction::rbf: launch_mmd_width<T, MmdFunction::rbf>(a, plan, stream); break;
    case MmdFunction::rq: launch_mmd_width<T, MmdFunction::rq>(a, plan, stream); break;
    case MmdFunction::imq: launch_mmd_width<T, MmdFunction::imq>(a, plan, stream); break;
    case MmdFunction::laplacian: launch_mmd_width<T, MmdFunction::laplacian>(a, plan, stream); break;
    case MmdFunction::energy: launch_mmd_width<T, MmdFunction::energy>(a, plan, stream); break;
  }
  launch_mmd_merge(a, plan, stream);
}

}  // namespace disentangle_ext::cuda

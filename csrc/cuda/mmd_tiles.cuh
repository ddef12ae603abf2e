// Tiles of rows, pairs of tiles, and what the kernels of MMD^2 do with them in common.
#pragma once

#include "cuda/execution.cuh"
#include "cuda/mmd.h"

namespace disentangle_ext::cuda {
namespace {

constexpr int kMmdWarps = 4, kMmdThreads = 32 * kMmdWarps;
constexpr unsigned kAllLanes = 0xffffffffu;

// A tile that meets another.
template <typename T>
struct MmdTile {
  const T* data;  // its first row
  T* pulls;       // where that row keeps what it gathers from the other tile
  int count;

  static __device__ __forceinline__ MmdTile of(const MmdArguments<T>& a, const MmdPlan& plan, int64_t problem,
                                               int64_t tile, int64_t other) {
    const bool of_y = tile >= plan.x_tiles;
    const int64_t first = (of_y ? tile - plan.x_tiles : tile) * plan.rows, all = of_y ? a.N : a.M;
    const int64_t pooled = of_y ? a.M + first : first;
    T* const pulls = a.pulls ? a.pulls + ((problem * plan.tiles() + other) * (a.M + a.N) + pooled) * a.D : nullptr;
    return {(of_y ? a.y : a.x) + (problem * all + first) * a.D, pulls,
            int(plan.rows < all - first ? plan.rows : all - first)};
  }
};

// Tile i meets the half of the tiles that follow it in a circle: each unordered pair once, without a root to find it.
struct MmdItem {
  int64_t problem, row_tile, column_tile;

  __device__ MmdItem(const MmdPlan& plan, unsigned block) {
    const unsigned items = unsigned(plan.items()), tiles = unsigned(plan.tiles());
    problem = block / items;
    row_tile = block % items % tiles;
    column_tile = (row_tile + block % items / tiles) % tiles;
  }
  __device__ bool diagonal() const { return row_tile == column_tile; }
};

template <typename T>
__device__ void make_mmd_scales(const MmdArguments<T>& a, int64_t problem, MmdScale<T>* scales) {
  for (int64_t k = threadIdx.x; k < a.K; k += blockDim.x)
    scales[k] = MmdScale<T>::make(a.function, a.bandwidth[problem / a.problems_each * a.K + k], a.exponent);
  __syncthreads();
}

// Adds to the value and slope of a few pairs what the bandwidths after the first give. Bandwidths are data
// of the device: two whose values are powers of each other would share an exponential, but finding them
// costs more than it saves.
template <typename T, MmdFunction function, int N>
__device__ __forceinline__ void add_scales(const MmdScale<T>* scales, int K, const T (&d2)[N], T (&k)[N],
                                           T (&slope)[N]) {
  DX_UNROLL_NOT
  for (int s = 1; s < K; ++s) {
    const MmdScale<T> scale = scales[s];
    DX_UNROLL
    for (int n = 0; n < N; ++n) {
      T more, steeper;
      evaluate<T, function>(scale, d2[n], more, steeper);
      k[n] += more, slope[n] += steeper;
    }
  }
}

// The sum over a block's threads of `shared`, in thread 0; the others get nothing.
__device__ double mmd_block_sum(double* shared) {
  double sum = shared[threadIdx.x];
  DX_UNROLL
  for (int mask = 16; mask; mask >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
  __syncthreads();
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = sum;
  __syncthreads();
  double total = 0;
  for (unsigned w = 0; threadIdx.x == 0 && w < blockDim.x / 32; ++w) total += shared[w];
  return total;
}

}  // namespace
}  // namespace disentangle_ext::cuda

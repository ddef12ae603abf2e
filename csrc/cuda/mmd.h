// MMD^2 and its gradient: what the kernels are given. Rows of x and y are pooled, x first, and cut into tiles that hold
// rows of one of them; an item of work is an unordered pair of tiles.
#pragma once

#include <cstdint>

#include "cuda/stream.h"
#include "math/mmd_functions.h"

namespace disentangle_ext::cuda {

// The bandwidths of a problem lie in shared memory.
inline constexpr int64_t kMostMmdScales = 256;

struct MmdPlan {
  int64_t rows;  // of a tile
  int64_t x_tiles, y_tiles;

  DX_INLINE int64_t tiles() const { return x_tiles + y_tiles; }
  DX_INLINE int64_t items() const { return tiles() * (tiles() + 1) / 2; }

  static MmdPlan of(int64_t M, int64_t N, int64_t rows) { return {rows, (M + rows - 1) / rows, (N + rows - 1) / rows}; }
};

// Some 48 tiles, whatever the number of rows: their 1176 items keep a large GPU busy to the end, and the memory for
// partial gradients is 48 gradients. A tile is whole groups of the rows that a warp holds, but for few rows, where more
// blocks count for more. It depends on one problem's shape alone, so that a stack equals its members.
inline MmdPlan mmd_plan(int64_t M, int64_t N) {
  constexpr int64_t kTiles = 48, kGroup = 128, kFew = 2048;
  const int64_t groups = (M + N + kTiles * kGroup / 2) / (kTiles * kGroup);
  return MmdPlan::of(M, N, M + N < kFew ? kGroup / 2 : kGroup * (groups > 0 ? groups : 1));
}

template <typename T>
struct MmdArguments {
  const T *x, *y;  // [problems, M, D], [problems, N, D]
  int64_t problems, M, N, D;
  const double* bandwidth;  // [problems / problems_each, K]
  int64_t K, problems_each;
  MmdFunction function;
  double exponent;
  bool biased;
  T *value, *grad_x, *grad_y;  // [problems] and like x and y; gradients may be null
  double* sums;                // [problems, items]
  T* pulls;                    // [problems, tiles, M + N, D]: for every row, its part of the gradient from every tile
};

// The number of blocks is at most 2^31 - 1: of the first kernel, problems * items, and of the second, mmd_merge_blocks.
inline constexpr int kMmdMergeThreads = 256;

template <typename T>
int64_t mmd_merge_blocks(const MmdArguments<T>& a) {
  return a.problems * (1 + (a.grad_x ? ((a.M + a.N) * a.D + kMmdMergeThreads - 1) / kMmdMergeThreads : 0));
}

template <typename T>
void launch_mmd(const MmdArguments<T>& a, const MmdPlan& plan, cudaStream_t stream);

}  // namespace disentangle_ext::cuda

// All pairs of an item in any number of dimensions.
#pragma once

#include "cuda/mmd_tiles.cuh"

namespace disentangle_ext::cuda {
namespace {

// A thread a row, whose pull it gathers alone: the item is swept twice, rows against columns and columns against
// rows. The squared distances, then the slopes, of its pairs with some columns wait in shared memory while
// dimensions pass in chunks.
template <typename T>
struct MmdWide {
  static constexpr int kColumns = 256 / int(sizeof(T)), kDims = 16;
  T pair[kColumns][kMmdThreads];
  T column[kColumns][kDims];
};

// Columns c.. of a tile, dimensions d0.., zero outside of it.
template <typename T>
__device__ void load_wide(MmdWide<T>& s, const MmdTile<T>& tile, int c, int d0, int dims) {
  using Wide = MmdWide<T>;
  __syncthreads();
  for (int e = threadIdx.x; e < Wide::kColumns * Wide::kDims; e += kMmdThreads) {
    const int j = e / Wide::kDims, d = e % Wide::kDims;
    s.column[j][d] = c + j < tile.count && d0 + d < dims ? tile.data[int64_t(c + j) * dims + d0 + d] : T(0);
  }
  __syncthreads();
}

template <typename T>
__device__ __forceinline__ void load_row(T (&x)[MmdWide<T>::kDims], const MmdTile<T>& tile, int row, int d0, int dims) {
  DX_UNROLL
  for (int d = 0; d < MmdWide<T>::kDims; ++d)
    x[d] = row < tile.count && d0 + d < dims ? tile.data[int64_t(row) * dims + d0 + d] : T(0);
}

template <typename T>
__device__ void wide_distances(MmdWide<T>& s, const MmdTile<T>& rows, int row, const MmdTile<T>& other, int c,
                               int count, int dims) {
  for (int d0 = 0; d0 < dims; d0 += MmdWide<T>::kDims) {
    load_wide(s, other, c, d0, dims);
    T x[MmdWide<T>::kDims];
    load_row(x, rows, row, d0, dims);
    for (int j = 0; j < count; ++j) {
      T d2 = d0 ? s.pair[j][threadIdx.x] : T(0);
      DX_UNROLL
      for (int d = 0; d < MmdWide<T>::kDims; ++d) {
        const T apart = x[d] - s.column[j][d];
        d2 += apart * apart;
      }
      s.pair[j][threadIdx.x] = d2;
    }
  }
}

// Values and slopes of this thread's row; column `same` is the row itself.
template <typename T, MmdFunction function>
__device__ T wide_slopes(MmdWide<T>& s, const MmdScale<T>* scales, int K, int same, int count) {
  const MmdScale<T> first = scales[0];
  T sum = 0;
  for (int j = 0; j < count; ++j) {
    const T d2[1] = {s.pair[j][threadIdx.x]};
    T k[1], slope[1];
    evaluate<T, function>(first, d2[0], k[0], slope[0]);
    add_scales<T, function>(scales, K, d2, k, slope);
    sum += j == same ? T(0) : k[0];
    s.pair[j][threadIdx.x] = j == same ? T(0) : slope[0];
  }
  return sum;
}

template <typename T>
__device__ void wide_pulls(MmdWide<T>& s, const MmdTile<T>& rows, int row, const MmdTile<T>& other, int c, int count,
                           int dims) {
  for (int d0 = 0; d0 < dims; d0 += MmdWide<T>::kDims) {
    load_wide(s, other, c, d0, dims);
    T x[MmdWide<T>::kDims], pull[MmdWide<T>::kDims];
    load_row(x, rows, row, d0, dims);
    DX_UNROLL
    for (int d = 0; d < MmdWide<T>::kDims; ++d) pull[d] = T(0);
    for (int j = 0; j < count; ++j) {
      const T slope = s.pair[j][threadIdx.x];
      DX_UNROLL
      for (int d = 0; d < MmdWide<T>::kDims; ++d) pull[d] += slope * (x[d] - s.column[j][d]);
    }
    DX_UNROLL
    for (int d = 0; d < MmdWide<T>::kDims; ++d) {
      T* const to = rows.pulls + int64_t(row) * dims + d0 + d;
      if (row < rows.count && d0 + d < dims) *to = c ? *to + pull[d] : pull[d];
    }
  }
}

// The sum over this thread's pairs.
template <typename T, MmdFunction function>
__device__ double sweep_wide(MmdWide<T>& s, const MmdScale<T>* scales, const MmdTile<T>& rows, const MmdTile<T>& other,
                             bool same, int dims, int K) {
  double total = 0;
  for (int r = 0; r < rows.count; r += kMmdThreads) {
    const int row = r + int(threadIdx.x);
    for (int c = 0; c < other.count; c += MmdWide<T>::kColumns) {
      const int count = other.count - c < MmdWide<T>::kColumns ? other.count - c : MmdWide<T>::kColumns;
      wide_distances(s, rows, row, other, c, count, dims);
      const T sum = wide_slopes<T, function>(s, scales, K, same ? row - c : -1, count);
      if (row < rows.count) total += double(sum);
      if (rows.pulls) wide_pulls(s, rows, row, other, c, count, dims);
    }
  }
  return total;
}

template <typename T, MmdFunction function>
__global__ void __launch_bounds__(kMmdThreads, 4) mmd_pairs_wide(const MmdArguments<T> a, const MmdPlan plan) {
  __shared__ __align__(16) MmdWide<T> shared;
  __shared__ double sums[kMmdThreads];
  DX_DYNAMIC_SHARED(MmdScale<T>, scales);

  const MmdItem item(plan, blockIdx.x);
  make_mmd_scales(a, item.problem, scales);
  // Without a gradient, or where both tiles are one, the first direction is all there is.
  for (int turn = 0; turn < (a.pulls && !item.diagonal() ? 2 : 1); ++turn) {
    const int64_t from = turn ? item.column_tile : item.row_tile, to = turn ? item.row_tile : item.column_tile;
    const MmdTile<T> rows = MmdTile<T>::of(a, plan, item.problem, from, to),
                     other = MmdTile<T>::of(a, plan, item.problem, to, from);
    const double swept = sweep_wide<T, function>(shared, scales, rows, other, item.diagonal(), int(a.D), int(a.K));
    if (turn == 0) sums[threadIdx.x] = swept;
  }
  const double sum = mmd_block_sum(sums);
  if (threadIdx.x == 0) a.sums[blockIdx.x] = sum;
}

}  // namespace
}  // namespace disentangle_ext::cuda

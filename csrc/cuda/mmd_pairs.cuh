// All pairs of an item with up to 16 dimensions, which registers hold.
//
// A pair of rows is evaluated once and pulls at both. A warp holds 32 Q rows in registers, and 32 rows of the other
// tile, the columns, one a lane; their pulls wander through the lanes in a ring, so that each column meets each
// row. Per pair that is 4 D instructions (subtract, square, pull, pull) with D / Q shuffles, against 6 D where
// every row gathers its own pull.
#pragma once

#include "cuda/mmd_tiles.cuh"

namespace disentangle_ext::cuda {
namespace {

// Rows in a lane's registers, which the logarithm of rq needs too. Two are evaluated together, for
// their latencies to overlap.
template <typename T, MmdFunction function, int D>
constexpr int kMmdLaneRows = sizeof(T) == 4 ? (D <= 10 && function != MmdFunction::rq ? 4 : 2) : (D <= 10 ? 2 : 1);

// Blocks that the registers of a multiprocessor have to hold: 12 or 20 warps in float32, whose instructions hide each
// other. The logarithm and the exponential of rq need more registers than a third leaves at 16 dimensions.
template <typename T, MmdFunction function, int D, bool grad>
constexpr int kMmdBlocks = sizeof(T) == 4 ? (!grad                                   ? 5
                                             : function == MmdFunction::rq && D > 10 ? 2
                                                                                     : 3)
                                          : (grad ? 2 : 4);

// Columns in shared memory: 16-byte loads of lanes in a row meet no bank twice where the stride is
// an odd multiple of them.
template <int D>
constexpr int kMmdStride = D == 2            ? 2
                           : (D + 3) / 4 % 2 ? (D + 3) / 4 * 4
                                             : (D + 3) / 4 * 4 + 4;

// Which pairs of a ring count: rows and columns that exist, and no point with itself.
struct MmdMask {
  int rows, columns;  // from here on
  int shift;          // of a row to the column that is the same point; out of reach where there is none

  __device__ bool covers(int row, int column) const { return row < rows && column < columns && row + shift != column; }
};

template <typename T, MmdFunction function, int D, bool grad>
struct MmdWarp {
  static constexpr int kRows = kMmdLaneRows<T, function, D>, kTogether = kRows < 2 ? kRows : 2, kStride = kMmdStride<D>;

  T row[kRows][D], row_pull[kRows][D], column_pull[D];
  const MmdScale<T>* scales;
  T* columns;  // [32, kStride]: this warp's shared memory
  int lane, K;

  __device__ __forceinline__ void load_rows(const T* from, int count, int dims) {
    DX_UNROLL
    for (int q = 0; q < kRows; ++q) {
      DX_UNROLL
      for (int d = 0; d < D; ++d) {
        row[q][d] = lane + 32 * q < count && d < dims ? from[int64_t(lane + 32 * q) * dims + d] : T(0);
        row_pull[q][d] = T(0);
      }
    }
  }

  __device__ __forceinline__ void load_columns(const T* from, int count, int dims) {
    __syncwarp();
    DX_UNROLL
    for (int d = 0; d < D; ++d) {
      columns[lane * kStride + d] = lane < count && d < dims ? from[lane * dims + d] : T(0);
      column_pull[d] = T(0);
    }
    __syncwarp();
  }

  // kTogether rows with column j.
  template <bool plain>
  __device__ __forceinline__ T meet(int q0, int j, const T (&y)[D], const MmdScale<T>& first, const MmdMask& mask) {
    T apart[kTogether][D], d2[kTogether], k[kTogether], slope[kTogether], sum = 0;
    DX_UNROLL
    for (int t = 0; t < kTogether; ++t) {
      d2[t] = T(0);
      DX_UNROLL
      for (int d = 0; d < D; ++d) {
        apart[t][d] = row[q0 + t][d] - y[d];
        d2[t] += apart[t][d] * apart[t][d];
      }
    }
    DX_UNROLL
    for (int t = 0; t < kTogether; ++t) evaluate<T, function>(first, d2[t], k[t], slope[t]);
    if (!plain) add_scales<T, function>(scales, K, d2, k, slope);
    DX_UNROLL
    for (int t = 0; t < kTogether; ++t) {
      if (!plain && !mask.covers(lane + 32 * (q0 + t), j)) k[t] = slope[t] = T(0);
      sum += k[t];
      DX_UNROLL
      for (int d = 0; d < D && grad; ++d) {
        row_pull[q0 + t][d] += slope[t] * apart[t][d];
        column_pull[d] += slope[t] * apart[t][d];
      }
    }
    return sum;
  }

  // All rows with all columns; the sum of this lane's pairs. `plain` where there is one bandwidth and every pair
  // counts. Without a gradient nothing has to wander, and all lanes read the same column.
  template <bool plain>
  __device__ __forceinline__ T ring(const MmdMask& mask) {
    const MmdScale<T> first = scales[0];
    T sum = 0;
    DX_UNROLL_NOT
    for (int step = 0; step < 32; ++step) {
      const int j = grad ? (lane + step) & 31 : step;
      T y[D];
      DX_UNROLL
      for (int d = 0; d < D; ++d) y[d] = columns[j * kStride + d];
      DX_UNROLL
      for (int q = 0; q < kRows; q += kTogether)
        if (plain || 32 * q < mask.rows) sum += meet<plain>(q, j, y, first, mask);
      DX_UNROLL
      for (int d = 0; d < D && grad; ++d) column_pull[d] = __shfl_sync(kAllLanes, column_pull[d], lane + 1);
    }
    return sum;
  }

  // Adds what the columns gathered to `out` [count, dims], or writes it; through shared memory, for whole cache lines.
  __device__ __forceinline__ void put_columns(T* out, int count, int dims, bool add) {
    __syncwarp();
    DX_UNROLL
    for (int d = 0; d < D; ++d)
      if (d < dims) columns[lane * dims + d] = -column_pull[d];
    __syncwarp();
    for (int e = lane; e < count * dims; e += 32) out[e] = add ? out[e] + columns[e] : columns[e];
  }

  // Writes what the rows gathered in all warps of the block; `all` is their shared memory.
  __device__ __forceinline__ void put_rows(T* out, int count, int dims, const T* all) {
    constexpr int kRegion = 32 * kStride;
    DX_UNROLL
    for (int q = 0; q < kRows; ++q) {
      __syncthreads();
      DX_UNROLL
      for (int d = 0; d < D; ++d)
        if (d < dims) columns[lane * dims + d] = row_pull[q][d];
      __syncthreads();
      const int here = count - 32 * q < 32 ? count - 32 * q : 32;
      DX_UNROLL_NOT
      for (int e = threadIdx.x; e < here * dims; e += kMmdThreads)
        out[32 * q * dims + e] = (all[e] + all[kRegion + e]) + (all[2 * kRegion + e] + all[3 * kRegion + e]);
    }
    __syncthreads();
  }
};

template <typename T, MmdFunction function, int D, bool grad>
__global__ void __launch_bounds__(kMmdThreads, (kMmdBlocks<T, function, D, grad>))
    mmd_pairs(const MmdArguments<T> a, const MmdPlan plan) {
  using Warp = MmdWarp<T, function, D, grad>;
  __shared__ __align__(16) T columns[kMmdWarps * 32 * Warp::kStride];
  __shared__ MmdTile<T> tiles[2];  // these two are not in registers, which are for rows
  __shared__ double sums[kMmdThreads];
  DX_DYNAMIC_SHARED(MmdScale<T>, scales);

  const MmdItem item(plan, blockIdx.x);
  if (threadIdx.x < 2)
    tiles[threadIdx.x] = MmdTile<T>::of(a, plan, item.problem, threadIdx.x ? item.column_tile : item.row_tile,
                                        threadIdx.x ? item.row_tile : item.column_tile);
  const int dims = int(a.D), warp = threadIdx.x / 32;
  make_mmd_scales(a, item.problem, scales);
  Warp w;
  w.scales = scales, w.K = int(a.K), w.lane = threadIdx.x % 32, w.columns = columns + warp * 32 * Warp::kStride;

  sums[threadIdx.x] = 0;
  for (int r = 0; r < tiles[0].count; r += 32 * Warp::kRows) {
    const int row_count = tiles[0].count - r;
    w.load_rows(tiles[0].data + int64_t(r) * dims, row_count, dims);
    for (int c = 32 * warp; c < tiles[1].count; c += kMmdThreads) {
      const int count = tiles[1].count - c < 32 ? tiles[1].count - c : 32;
      w.load_columns(tiles[1].data + int64_t(c) * dims, count, dims);
      const MmdMask mask{row_count, count, item.diagonal() ? r - c : 1 << 30};
      const bool plain = a.K == 1 && !item.diagonal() && count == 32 && row_count >= 32 * Warp::kRows;
      sums[threadIdx.x] += double(plain ? w.template ring<true>(mask) : w.template ring<false>(mask));
      // Where both tiles are one, every row gathers its whole pull itself.
      if (grad && !item.diagonal()) w.put_columns(tiles[1].pulls + int64_t(c) * dims, count, dims, r > 0);
    }
    if (grad) w.put_rows(tiles[0].pulls + int64_t(r) * dims, row_count, dims, columns);
  }
  const double sum = mmd_block_sum(sums);
  if (threadIdx.x == 0) a.sums[blockIdx.x] = sum;
}

}  // namespace
}  // namespace disentangle_ext::cuda

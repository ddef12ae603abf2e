// Kernels of MMD^2. One block an item, that is all pairs of a row of one tile and a row of another; it writes its sum,
// and each row's part of the gradient, to places of their own, which a second kernel adds up in fixed order.
//
// A pair of rows is evaluated once and pulls at both. A warp holds 32 Q rows in registers, and 32 rows of the other
// tile, the columns, one a lane; their pulls wander through the lanes in a ring, so that each column meets each
// row. Per pair that is 4 D instructions (subtract, square, pull, pull) with D / Q shuffles, against 6 D where
// every row gathers its own pull.
#pragma once

#include "cuda/execution.cuh"
#include "cuda/mmd.h"

namespace disentangle_ext::cuda {
namespace {

constexpr int kMmdWarps = 4, kMmdThreads = 32 * kMmdWarps;
constexpr unsigned kAllLanes = 0xffffffffu;

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

// ---- D up to 16 -----------------------------------------------------------------------------------------------------

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

// ---- any D ----------------------------------------------------------------------------------------------------------

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

// ---- the second kernel ----------------------------------------------------------------------------------------------

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

// ---- launches -------------------------------------------------------------------------------------------------------

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

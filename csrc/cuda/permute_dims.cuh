// Permutations by sorting random keys. The keys are uniform, so that a bucket for every row, by the leading bits, holds
// one or a few of them: an element's rank is where its bucket starts, and the smaller ones that share it.
#pragma once

#include "cuda/execution.cuh"
#include "cuda/permute_dims.h"
#include "cuda/storage.cuh"
#include "math/philox.h"

namespace disentangle_ext::cuda {
namespace {

constexpr int kCounters = 3;  // of a thread: 2049 hold the keys of 4096 rows where the first of them is odd

__device__ __forceinline__ uint32_t sum_of_warp(uint32_t x) {
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(0xFFFFFFFFu, x, offset);
  return x;
}

// The sum of x over the threads before this one.
__device__ __forceinline__ uint32_t sum_before(uint32_t x) {
  __shared__ uint32_t warps[kPermuteThreads / 32];
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32;
  uint32_t through = x;
  for (int offset = 1; offset < 32; offset *= 2) {
    const uint32_t below = __shfl_up_sync(0xFFFFFFFFu, through, offset);
    if (lane >= offset) through += below;
  }
  if (lane == 31) warps[warp] = through;
  __syncthreads();
  return sum_of_warp(lane < warp ? warps[lane] : 0) + through - x;
}

// Counters of 16 bits, two to a word: how many elements a bucket has, and then where it starts.
struct Buckets {
  uint32_t* words;
  int count;  // a multiple of 64

  __device__ __forceinline__ void clear() const {
    DX_UNROLL_NOT
    for (int w = int(threadIdx.x); w < count / 2; w += int(blockDim.x)) words[w] = 0;
  }

  // Returns how many came before. Their order may differ from run to run; ranks do not depend on it.
  __device__ __forceinline__ uint32_t add(uint32_t bucket) const {
    const int shift = bucket % 2 * 16;
    return atomicAdd(&words[bucket / 2], 1u << shift) >> shift & 0xFFFFu;
  }

  __device__ __forceinline__ void scan() const {
    const int each = (count / 2 + int(blockDim.x) - 1) / int(blockDim.x), first = int(threadIdx.x) * each;
    const int last = min(first + each, count / 2);
    uint32_t sum = 0;
    DX_UNROLL_NOT  // one or two
    for (int w = first; w < last; ++w) sum += (words[w] & 0xFFFFu) + (words[w] >> 16);
    uint32_t start = sum_before(sum);
    DX_UNROLL_NOT
    for (int w = first; w < last; ++w) {
      const uint32_t second = start + (words[w] & 0xFFFFu), next = second + (words[w] >> 16);
      words[w] = start | second << 16;
      start = next;
    }
  }

  __device__ __forceinline__ int start(uint32_t bucket) const {
    return int(words[bucket / 2] >> bucket % 2 * 16 & 0xFFFFu);
  }
};

// The elements of a run that a thread keeps in registers.
struct Elements {
  uint64_t key[2 * kCounters];  // as unsigned integers that are in the order of the signed keys
  uint32_t before[2 * kCounters];
  int rows, first_row;  // of the run, and of the thread: the first row may be one before the run

  __device__ __forceinline__ Elements(PhiloxKey stream, uint64_t first, int rows_)
      : rows(rows_), first_row(2 * int(threadIdx.x) - int(first % 2)) {
    DX_UNROLL
    for (int i = 0; i < kCounters; ++i) {
      if (row(2 * i) >= rows) continue;
      uint32_t x0, x1, x2, x3;
      philox(stream, first / 2 + threadIdx.x + i * blockDim.x, x0, x1, x2, x3);
      key[2 * i] = uint64_t(x0 ^ 0x80000000u) << 32 | x1;
      key[2 * i + 1] = uint64_t(x2 ^ 0x80000000u) << 32 | x3;
    }
  }

  __device__ __forceinline__ int row(int i) const { return first_row + i / 2 * 2 * int(blockDim.x) + i % 2; }

  template <typename F>
  __device__ __forceinline__ void each(const F& f) {
    DX_UNROLL
    for (int i = 0; i < 2 * kCounters; ++i)
      if (const int r = row(i); r >= 0 && r < rows) f(r, key[i], before[i]);
  }
};

// Calls f(row, key, rank) for every row of the run whose row 0 is the stream's element `first`. In a bucket the leading
// bits are equal: the row takes their place, and decides between equal keys.
template <typename F>
__device__ __forceinline__ void rank_run(PhiloxKey stream, uint64_t first, int rows, const F& f) {
  DX_DYNAMIC_SHARED(uint64_t, words);
  int bits = 6;
  while (1 << bits < rows) ++bits;
  const Buckets buckets{reinterpret_cast<uint32_t*>(words + rows), 1 << bits};
  Elements elements(stream, first, rows);
  buckets.clear();
  __syncthreads();
  elements.each([&](int, uint64_t key, uint32_t& before) { before = buckets.add(uint32_t(key >> (64 - bits))); });
  __syncthreads();
  buckets.scan();
  __syncthreads();
  elements.each([&](int row, uint64_t key, uint32_t& before) {
    words[buckets.start(uint32_t(key >> (64 - bits))) + int(before)] = key << bits | uint32_t(row);
  });
  __syncthreads();
  elements.each([&](int row, uint64_t key, uint32_t&) {
    const uint32_t bucket = uint32_t(key >> (64 - bits));
    const uint64_t word = key << bits | uint32_t(row);
    const int begin = buckets.start(bucket), end = int(bucket) + 1 < buckets.count ? buckets.start(bucket + 1) : rows;
    int rank = begin;
    DX_UNROLL_NOT  // two on average
    for (int i = begin; i < end; ++i) rank += words[i] < word;
    f(row, key, rank);
  });
}

// A column: its keys, and where its values lie.
struct Column {
  PhiloxKey stream;
  uint64_t first_key;
  int64_t first_value;

  __device__ __forceinline__ Column(const PermuteDims& a, uint32_t column) {
    const uint32_t key = column / uint32_t(a.columns_per_key), problem = column / uint32_t(a.D);
    stream = {uint64_t(a.key[2 * int64_t(key)]), uint64_t(a.key[2 * int64_t(key) + 1])};
    first_key = uint64_t(column - key * uint32_t(a.columns_per_key)) * uint64_t(a.rows);
    first_value = int64_t(problem) * a.rows * a.D + (column - problem * uint32_t(a.D));
  }
};

// A block for a column of one run. Values are bits of type T.
template <typename T>
__global__ void __launch_bounds__(kPermuteThreads, 1) permute_columns(const PermuteDims a) {
  const Column column(a, blockIdx.x);
  const T* const in = static_cast<const T*>(a.in) + column.first_value;
  T* const out = static_cast<T*>(a.out) + column.first_value;
  rank_run(column.stream, column.first_key, int(a.rows), [&](int row, uint64_t, int rank) {
    const int64_t from = a.inverse ? rank : row, to = a.inverse ? row : rank;
    out[to * a.D] = in[from * a.D];
  });
}

// A block for a run.
__global__ void __launch_bounds__(kPermuteThreads, 1)
    sort_runs(const PermuteDims a, PermutePlan plan, uint64_t* keys, uint32_t* rows) {
  const uint32_t index = blockIdx.x / uint32_t(plan.runs), run = blockIdx.x - index * uint32_t(plan.runs);
  const Column column(a, index);
  const int64_t first = int64_t(run) * plan.run, at = int64_t(index) * a.rows + first, rest = a.rows - first;
  rank_run(column.stream, column.first_key + uint64_t(first), int(rest < plan.run ? rest : plan.run),
           [&](int row, uint64_t key, int rank) {
             keys[at + rank] = key;
             rows[at + rank] = uint32_t(first) + uint32_t(row);
           });
}

// How many of the sorted keys are less than x, or equal to it if `equal`.
__device__ __forceinline__ uint32_t count_below(const uint64_t* keys, uint32_t count, uint64_t x, bool equal) {
  uint32_t low = 0;
  while (count > 0) {
    const uint32_t half = count / 2;
    const bool below = equal ? keys[low + half] <= x : keys[low + half] < x;
    low += below ? half + 1 : 0;
    count = below ? count - half - 1 : half;
  }
  return low;
}

// Pairs of sorted runs become runs of twice the length. Rows of the left one are smaller, so
// that it wins between equals.
__global__ void __launch_bounds__(kMergeThreads)
    merge_runs(const uint64_t* keys, const uint32_t* rows, uint64_t* merged_keys, uint32_t* merged_rows,
               uint32_t length, uint32_t run, uint32_t blocks_per_column) {
  const uint32_t column = blockIdx.x / blocks_per_column,
                 at = (blockIdx.x - column * blocks_per_column) * kMergeThreads + threadIdx.x;
  if (at >= length) return;
  const int64_t first = int64_t(column) * length;
  keys += first, rows += first, merged_keys += first, merged_rows += first;
  const uint32_t pair = at / (2 * run) * (2 * run), middle = min(pair + run, length), end = min(pair + 2 * run, length);
  const bool left = at < middle;
  const uint64_t key = keys[at];
  // An element's place in its own run, and the smaller ones of the other.
  const uint32_t own = left ? at : at - (middle - pair);
  const uint32_t to = own + (left ? count_below(keys + middle, end - middle, key, false)
                                  : count_below(keys + pair, middle - pair, key, true));
  merged_keys[to] = key;
  merged_rows[to] = rows[at];
}

// The values of a problem, when the columns' `rows` are sorted by their keys.
template <typename T>
__global__ void __launch_bounds__(kMergeThreads)
    move_values(const PermuteDims a, const uint32_t* rows, uint32_t blocks_per_problem) {
  const uint32_t problem = blockIdx.x / blocks_per_problem;
  const int64_t at = int64_t(blockIdx.x - problem * blocks_per_problem) * kMergeThreads + threadIdx.x;
  if (at >= a.rows * a.D) return;
  const int64_t rank = at / a.D, d = at - rank * a.D, first = int64_t(problem) * a.rows * a.D;
  const int64_t other = int64_t(rows[(problem * a.D + d) * a.rows + rank]) * a.D + d;
  const T* const in = static_cast<const T*>(a.in) + first;
  T* const out = static_cast<T*>(a.out) + first;
  out[a.inverse ? other : at] = in[a.inverse ? at : other];
}

template <typename T>
void permute_values(const PermuteDims& a, const PermutePlan& plan, const PermuteScratch& scratch, cudaStream_t stream) {
  if (!plan.merges()) {
    DX_LAUNCH(permute_columns<T>, unsigned(a.columns()), plan.threads, plan.shared_bytes, stream, a);
    return;
  }
  int from = 0;
  DX_LAUNCH(sort_runs, unsigned(a.columns() * plan.runs), plan.threads, plan.shared_bytes, stream, a, plan,
            scratch.keys[from], scratch.rows[from]);
  const auto length = uint32_t(a.rows), blocks = (length + kMergeThreads - 1) / kMergeThreads;
  for (int64_t run = plan.run; run < a.rows; run *= 2, from = 1 - from)
    DX_LAUNCH(merge_runs, unsigned(a.columns() * blocks), kMergeThreads, 0, stream, scratch.keys[from],
              scratch.rows[from], scratch.keys[1 - from], scratch.rows[1 - from], length, uint32_t(run), blocks);
  const int64_t blocks_per_problem = (a.rows * a.D + kMergeThreads - 1) / kMergeThreads;
  DX_LAUNCH(move_values<T>, unsigned(a.problems * blocks_per_problem), kMergeThreads, 0, stream, a, scratch.rows[from],
            uint32_t(blocks_per_problem));
}

}  // namespace

void launch_permute_dims(const PermuteDims& a, const PermutePlan& plan, const PermuteScratch& scratch,
                         cudaStream_t stream) {
  switch (a.element_size) {
    case 1: return permute_values<uint8_t>(a, plan, scratch, stream);
    case 2: return permute_values<uint16_t>(a, plan, scratch, stream);
    case 4: return permute_values<uint32_t>(a, plan, scratch, stream);
    case 8: return permute_values<uint64_t>(a, plan, scratch, stream);
    default: return permute_values<Vector<uint64_t>>(a, plan, scratch, stream);
  }
}

}  // namespace disentangle_ext::cuda

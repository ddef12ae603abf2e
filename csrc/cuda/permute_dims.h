// What the kernels of permute_dims are given. A column's permutation sorts its keys, 64 bits of Philox for every row,
// as the reference does; a block sorts a run of rows, and longer columns are merged from runs.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "cuda/stream.h"

namespace disentangle_ext::cuda {

inline constexpr int kPermuteRun = 4096;      // rows that a block sorts in 41 KB of shared memory
inline constexpr int kPermuteBuckets = 64;    // at least
inline constexpr int kPermuteThreads = 1024;  // of the largest block
inline constexpr int kMergeThreads = 256;

struct PermuteDims {
  int64_t problems, rows, D;  // rows: at most 2^31 - 1
  int64_t columns_per_key;    // columns are numbered through the problems that share a key
  const int64_t* key;         // [problems * D / columns_per_key, 2]
  bool inverse;
  int64_t element_size;  // 1, 2, 4, 8 or 16
  const void* in;        // [problems, rows, D]
  void* out;

  int64_t columns() const { return problems * D; }
};

struct PermutePlan {
  int64_t run;   // rows, a power of two
  int64_t runs;  // of a column
  int threads;
  int shared_bytes;  // for the words of a run and its buckets' places

  static PermutePlan of(int64_t rows, int64_t most) {
    const int64_t run = std::min(most, int64_t(std::bit_ceil(uint64_t(rows)))), sorted = std::min(run, rows);
    const int64_t buckets = std::max<int64_t>(run, kPermuteBuckets), counters = sorted / 2 + 1;
    const int64_t threads = std::min<int64_t>(kPermuteThreads, (counters + 31) / 32 * 32);
    return {run, (rows + run - 1) / run, int(threads), int(8 * sorted + 2 * buckets)};
  }

  bool merges() const { return runs > 1; }
};

inline PermutePlan permute_plan(int64_t rows) { return PermutePlan::of(rows, kPermuteRun); }

// The sorted runs of all columns, twice: [columns, rows] each. Only for a plan that merges.
struct PermuteScratch {
  uint64_t* keys[2];
  uint32_t* rows[2];
};

// Blocks of the largest launch, which is at most 2^31 - 1.
inline int64_t permute_blocks(const PermuteDims& a, const PermutePlan& plan) {
  if (!plan.merges()) return a.columns();
  const auto blocks = [](int64_t n) { return (n + kMergeThreads - 1) / kMergeThreads; };
  return std::max(a.columns() * blocks(a.rows), a.problems * blocks(a.rows * a.D));
}

void launch_permute_dims(const PermuteDims& a, const PermutePlan& plan, const PermuteScratch& scratch,
                         cudaStream_t stream);

}  // namespace disentangle_ext::cuda

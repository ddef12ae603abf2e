// What the kernels of rsample_kl are given, and how their work is cut.
//
// Elements are counted inside the problem that shares a key. A thread works on groups of them that begin at a multiple
// of their size: whole counters of the noise, and 16 bytes of storage. A block has a tile: whole rows, so that it can
// sum them, or where a row is larger than a tile, part of one row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "cuda/storage.cuh"
#include "cuda/stream.h"

namespace disentangle_ext::cuda {

template <typename S>
inline constexpr int kRsampleGroup = sizeof(S) == 2 ? 8 : 4;

inline constexpr int kRsampleGroups = 2;     // that a thread loads together: more bytes are under way
inline constexpr int kRsampleThreads = 256;  // of a block, at most
inline constexpr int kRsampleTile = 4096;    // elements, at most: 16 a thread, over which finding the tile is spread

template <typename S>
struct RsampleKl {
  int64_t problems, rows, D;  // `rows` of each problem; D at most 2^31 - 1
  const int64_t* key;         // [problems, 2]
  const S *mu, *logvar;
  S* z;
  Compute<S>* kl;  // [problems * rows], or of every element
};

template <typename S>
struct RsampleKlBackward {
  int64_t problems, rows, D;
  const int64_t* key;
  const S *mu, *logvar;
  const S* grad_z;            // null: zero
  const Compute<S>* grad_kl;  // like kl; null: zero
  S *grad_mu, *grad_logvar;
};

struct RsamplePlan {
  int threads;
  int rows;        // of a tile
  int chunk;       // elements of a tile where it is part of a row, else 0
  int64_t tiles;   // of a problem
  int64_t chunks;  // of a row
  int lane_bits;   // 2^lane_bits threads sum a row

  // `size`: elements of a tile, at most; more than `group`.
  static RsamplePlan of(int64_t rows, int64_t D, int group, int size) {
    const int warps = (size / group + 31) / 32;
    RsamplePlan plan{std::min(kRsampleThreads, 32 * std::max(warps, 1)), 1, 0, 0, 1, lane_bits_of(D)};
    const int64_t unit = group / std::gcd<int64_t>(group, D);  // of every `unit` rows, one begins with a group
    if (const int64_t whole = size / D / unit * unit; whole > 0) {
      plan.rows = int(whole);
    } else if (const int64_t unaligned = (size - (group - 1)) / D; unaligned > 0) {
      plan.rows = int(unaligned);
    } else {
      plan.chunk = (size / group - 1) * group;
      plan.chunks = (D + plan.chunk - 1) / plan.chunk;
    }
    plan.tiles = (rows + plan.rows - 1) / plan.rows * plan.chunks;
    return plan;
  }

  // Enough to keep a block busy with the rows of a full tile, and with rows of a power of two, which would all begin in
  // the same banks of shared memory, so many that at most four threads want one.
  static int lane_bits_of(int64_t D) {
    int bits = 0;
    while (bits < 5 && ((4 << bits) < std::gcd<int64_t>(D, 32) || (16 << bits) < D)) ++bits;
    return bits;
  }
};

// Small inputs get small tiles, so that there is one for every multiprocessor, but none smaller than a row that fits
// into the largest: how a row is summed depends on D alone.
inline RsamplePlan rsample_plan(int64_t problems, int64_t rows, int64_t D, int group) {
  constexpr int64_t kBlocks = 128;
  const int64_t wanted = std::max({D + group, int64_t(32 * group), std::min(rows * D, problems * rows * D / kBlocks)});
  return RsamplePlan::of(rows, D, group, int(std::min<int64_t>(wanted, kRsampleTile)));
}

// The number of blocks is at most 2^31 - 1: problems * plan.tiles.
template <typename S>
void launch_rsample_kl(const RsampleKl<S>& a, const RsamplePlan& plan, bool per_dimension, cudaStream_t stream);

template <typename S>
void launch_rsample_kl_backward(const RsampleKlBackward<S>& a, const RsamplePlan& plan, bool per_dimension,
                                cudaStream_t stream);

}  // namespace disentangle_ext::cuda

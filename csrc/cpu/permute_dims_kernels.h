// Independent uniform permutations of the rows of each column: Fisher-Yates on unbiased integers from Philox.
#pragma once

#include <vector>

#include "cpu/simd.h"
#include "math/philox.h"

namespace disentangle_ext::cpu {
namespace {

// out[0 .. 4 counters): 32-bit integers of counters first_counter and on.
DX_CLONES void fill_integers(PhiloxKey key, uint64_t first_counter, int counters, uint32_t* __restrict out) {
  DX_SIMD
  for (int c = 0; c < counters; ++c)
    philox(key, first_counter + uint64_t(c), out[4 * c], out[4 * c + 1], out[4 * c + 2], out[4 * c + 3]);
}

// A column's stream of 32-bit integers. Each column has 2^32 counters of its own.
class Integers {
 public:
  Integers(PhiloxKey key, uint64_t column, int64_t expected) : key_(key), counter_(column << 32), expected_(expected) {}

  // Uniform on [0, range) without bias (Lemire 2019, "Fast random integer generation in an interval").
  DX_INLINE uint32_t below(uint32_t range) {
    uint64_t product = uint64_t(next()) * range;
    if (uint32_t(product) < range) {
      const uint32_t biased = -range % range;
      while (uint32_t(product) < biased) product = uint64_t(next()) * range;
    }
    return uint32_t(product >> 32);
  }

 private:
  static constexpr int kCounters = 64;

  DX_INLINE uint32_t next() {
    if (at_ == end_) refill();
    return buffer_[at_++];
  }

  void refill() {
    const int counters = int(std::min<int64_t>(kCounters, std::max<int64_t>(1, (expected_ + 3) / 4)));
    fill_integers(key_, counter_, counters, buffer_);
    counter_ += uint64_t(counters), expected_ -= 4 * counters, at_ = 0, end_ = 4 * counters;
  }

  PhiloxKey key_;
  uint64_t counter_;
  int64_t expected_;
  int at_ = 0, end_ = 0;
  uint32_t buffer_[4 * kCounters];
};

}  // namespace

inline void shuffle(PhiloxKey key, uint64_t column, std::vector<uint32_t>& permutation) {
  const int64_t n = int64_t(permutation.size());
  for (int64_t i = 0; i < n; ++i) permutation[i] = uint32_t(i);
  Integers integers(key, column, n - 1);
  for (int64_t i = n - 1; i > 0; --i) std::swap(permutation[i], permutation[integers.below(uint32_t(i + 1))]);
}

// Column d of a [B, D] problem: out[i] = in[permutation[i]], or its inverse.
template <typename T>
void permute_column(const std::vector<uint32_t>& permutation, const T* in, T* out, int64_t d, int64_t D, bool inverse) {
  const int64_t n = int64_t(permutation.size());
  if (inverse) {
    for (int64_t i = 0; i < n; ++i) out[int64_t(permutation[i]) * D + d] = in[i * D + d];
  } else {
    for (int64_t i = 0; i < n; ++i) out[i * D + d] = in[int64_t(permutation[i]) * D + d];
  }
}

}  // namespace disentangle_ext::cpu

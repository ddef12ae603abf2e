// Independent uniform permutations of the rows of each column: Fisher-Yates on unbiased integers from Philox.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "cpu/simd.h"
#include "math/philox.h"

namespace disentangle_ext::cpu {
namespace {

// out[0 .. 4 counters): the integers of counters first_counter and on, lane by lane.
DX_CLONES void fill_integers(PhiloxKey key, uint64_t first_counter, int counters, uint32_t* out) {
  uint32_t *lane0 = out, *lane1 = out + counters, *lane2 = out + 2 * counters, *lane3 = out + 3 * counters;
  DX_SIMD
  for (int c = 0; c < counters; ++c) philox(key, first_counter + uint64_t(c), lane0[c], lane1[c], lane2[c], lane3[c]);
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

// Fisher-Yates. Of an identity it leaves the permutation, of values their permuted order: out[i] = in[permutation[i]].
template <typename T>
void shuffle(PhiloxKey key, uint64_t column, std::vector<T>& values) {
  Integers integers(key, column, int64_t(values.size()) - 1);
  for (int64_t i = int64_t(values.size()) - 1; i > 0; --i)
    std::swap(values[i], values[integers.below(uint32_t(i + 1))]);
}

// A column of a [B, D] problem: out[i] = in[permutation[i]].
template <typename T>
void permute_column(PhiloxKey key, uint64_t column, const T* in, T* out, int64_t B, int64_t D) {
  std::vector<T> values(B);
  for (int64_t i = 0; i < B; ++i) values[i] = in[i * D];
  shuffle(key, column, values);
  for (int64_t i = 0; i < B; ++i) out[i * D] = values[i];
}

// The inverse: out[permutation[i]] = in[i].
template <typename T>
void restore_column(PhiloxKey key, uint64_t column, const T* in, T* out, int64_t B, int64_t D) {
  std::vector<uint32_t> permutation(B);
  for (int64_t i = 0; i < B; ++i) permutation[i] = uint32_t(i);
  shuffle(key, column, permutation);
  std::vector<T> values(B);
  for (int64_t i = 0; i < B; ++i) values[permutation[i]] = in[i * D];
  for (int64_t i = 0; i < B; ++i) out[i * D] = values[i];
}

}  // namespace disentangle_ext::cpu

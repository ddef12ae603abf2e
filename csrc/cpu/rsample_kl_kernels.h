// z = mu + exp(logvar / 2) eps and the KL divergence from N(0, I), over runs of whole rows. The noise is a function of
// (key, element index) alone: backward makes it again instead of storing it.
#pragma once

#include <algorithm>

#include "cpu/simd.h"
#include "math/gaussian.h"
#include "math/philox.h"
#include "math/rsample_kl.h"

namespace disentangle_ext::cpu {
namespace {

constexpr int kTile = 1024;  // elements worked on at once; four elements share a counter

// eps[0 .. 4 counters): the noise of elements 4 first_counter and on.
template <typename T>
DX_CLONES void fill_normals(PhiloxKey key, uint64_t first_counter, int counters, T* eps) {
  uint32_t lanes[4][kTile / 4];
  T pairs[4][kTile / 4];
  DX_SIMD
  for (int c = 0; c < counters; ++c) {
    uint32_t x0, x1, x2, x3;
    philox(key, first_counter + uint64_t(c), x0, x1, x2, x3);
    lanes[0][c] = x0, lanes[1][c] = x1, lanes[2][c] = x2, lanes[3][c] = x3;
  }
  // In two loops, box_muller as one is a chain too long for a processor to overlap with the next.
  for (int pair = 0; pair < 4; pair += 2) {
    T *first = pairs[pair], *second = pairs[pair + 1];
    DX_SIMD
    for (int c = 0; c < counters; ++c) first[c] = box_muller_radius<T>(lanes[pair][c]);
    DX_SIMD
    for (int c = 0; c < counters; ++c) {
      T cosine, sine;
      cos_sin_turn(lanes[pair + 1][c], cosine, sine);
      second[c] = first[c] * sine, first[c] *= cosine;
    }
  }
  for (int c = 0; c < counters; ++c)
    for (int lane = 0; lane < 4; ++lane) eps[4 * c + lane] = pairs[lane][c];
}

template <typename T>
DX_CLONES void sample_tile(int n, const T* mu, const T* logvar, const T* eps, T* z, T* kl) {
  DX_SIMD
  for (int i = 0; i < n; ++i) {
    sample(mu[i], logvar[i], exp(T(0.5) * logvar[i]), eps[i], z[i], kl[i]);
  }
}

// grad_kl is per element here.
template <typename T>
DX_CLONES void sample_tile_backward(int n, const T* mu, const T* logvar, const T* eps, const T* grad_z,
                                    const T* grad_kl, T* grad_mu, T* grad_logvar) {
  DX_SIMD
  for (int i = 0; i < n; ++i) {
    sample_gradient(mu[i], logvar[i], exp(T(0.5) * logvar[i]), eps[i], grad_z[i], grad_kl[i], grad_mu[i],
                    grad_logvar[i]);
  }
}

template <typename T>
DX_INLINE int noise_tile(PhiloxKey key, int64_t first, int64_t last, T* eps) {
  const int n = int(std::min<int64_t>(kTile, last - first));
  fill_normals(key, uint64_t(first) / 4, (n + 3) / 4, eps);
  return n;
}

// Calls run(row, e, count, ends) for the pieces of rows that a tile of n elements from `first` on is made of: `count`
// elements from the tile's element e on, which complete the row if `ends`.
template <typename F>
DX_INLINE void for_rows(int64_t first, int n, int64_t D, const F& run) {
  int64_t row = first / D, left = D - first % D;
  for (int e = 0; e < n; ++row, left = D) {
    const int count = int(std::min<int64_t>(left, n - e));
    run(row, e, count, count == left);
    e += count;
  }
}

}  // namespace

// Rows [first, last) of one problem, first * D a multiple of 4. kl is [rows, D], or [rows] with the sum over D.
template <typename T>
void sample_rows(PhiloxKey key, int64_t first, int64_t last, int64_t D, const T* mu, const T* logvar, T* z, T* kl,
                 bool per_dimension) {
  T eps[kTile], terms[kTile];
  double sum = 0;
  for (int64_t i = first * D; i < last * D; i += kTile) {
    const int n = noise_tile(key, i, last * D, eps);
    sample_tile(n, mu + i, logvar + i, eps, z + i, per_dimension ? kl + i : terms);
    if (per_dimension) continue;
    for_rows(i, n, D, [&](int64_t row, int e, int count, bool ends) {
      for (int k = e; k < e + count; ++k) sum += double(terms[k]);
      if (ends) kl[row] = T(sum), sum = 0;
    });
  }
}

// An incoming gradient. One that is the same everywhere, as that of a sum, is a tile of its value, and `everywhere`.
template <typename T>
struct Incoming {
  const T* data;
  bool everywhere;

  const T* at(int64_t i) const { return everywhere ? data : data + i; }
};

// grad_kl is [rows, D], or [rows] without per_dimension.
template <typename T>
void sample_rows_backward(PhiloxKey key, int64_t first, int64_t last, int64_t D, const T* mu, const T* logvar,
                          Incoming<T> grad_z, Incoming<T> grad_kl, bool per_dimension, T* grad_mu, T* grad_logvar) {
  T eps[kTile], expanded[kTile];
  const bool of_rows = !per_dimension && !grad_kl.everywhere;
  for (int64_t i = first * D; i < last * D; i += kTile) {
    const int n = noise_tile(key, i, last * D, eps);
    if (of_rows)
      for_rows(i, n, D,
               [&](int64_t row, int e, int count, bool) { std::fill_n(expanded + e, count, grad_kl.data[row]); });
    sample_tile_backward(n, mu + i, logvar + i, eps, grad_z.at(i), of_rows ? expanded : grad_kl.at(i), grad_mu + i,
                         grad_logvar + i);
  }
}

}  // namespace disentangle_ext::cpu

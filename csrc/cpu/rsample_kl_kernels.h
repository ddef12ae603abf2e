// z = mu + exp(logvar / 2) eps and the KL divergence from N(0, I), over runs of whole rows. The noise is a function of
// (key, element index) alone: backward makes it again instead of storing it.
#pragma once

#include <algorithm>

#include "cpu/simd.h"
#include "math/gaussian.h"
#include "math/philox.h"

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
  for (int pair = 0; pair < 4; pair += 2) {
    DX_SIMD
    for (int c = 0; c < counters; ++c) box_muller(lanes[pair][c], lanes[pair + 1][c], pairs[pair][c], pairs[pair + 1][c]);
  }
  for (int c = 0; c < counters; ++c)
    for (int lane = 0; lane < 4; ++lane) eps[4 * c + lane] = pairs[lane][c];
}

template <typename T>
DX_CLONES void sample_tile(int n, const T* mu, const T* logvar, const T* eps, T* z, T* kl) {
  DX_SIMD
  for (int i = 0; i < n; ++i) {
    const T scale = exp(T(0.5) * logvar[i]);
    z[i] = mu[i] + scale * eps[i];
    kl[i] = kl_standard_normal(mu[i], logvar[i], scale * scale);
  }
}

// grad_kl is per element here.
template <typename T>
DX_CLONES void sample_tile_backward(int n, const T* mu, const T* logvar, const T* eps, const T* grad_z, const T* grad_kl, T* grad_mu,
                                    T* grad_logvar) {
  DX_SIMD
  for (int i = 0; i < n; ++i) {
    const T scale = exp(T(0.5) * logvar[i]);
    const T expm1 = expm1_minus_x(logvar[i], scale * scale) + logvar[i];
    grad_mu[i] = grad_z[i] + grad_kl[i] * mu[i];
    grad_logvar[i] = T(0.5) * (grad_z[i] * scale * eps[i] + grad_kl[i] * expm1);
  }
}

template <typename T>
DX_INLINE int noise_tile(PhiloxKey key, int64_t first, int64_t last, T* eps) {
  const int n = int(std::min<int64_t>(kTile, last - first));
  fill_normals(key, uint64_t(first) / 4, (n + 3) / 4, eps);
  return n;
}

}  // namespace

// Rows [first, last) of one problem, first * D a multiple of 4. kl is [rows, D], or [rows] with the sum over D.
template <typename T>
void sample_rows(PhiloxKey key, int64_t first, int64_t last, int64_t D, const T* mu, const T* logvar, T* z, T* kl, bool per_dimension) {
  T eps[kTile], terms[kTile];
  double row_sum = 0;
  for (int64_t i = first * D; i < last * D; i += kTile) {
    const int n = noise_tile(key, i, last * D, eps);
    sample_tile(n, mu + i, logvar + i, eps, z + i, per_dimension ? kl + i : terms);
    if (per_dimension) continue;
    int64_t row = i / D, column = i % D;
    for (int e = 0; e < n; ++e) {
      row_sum += double(terms[e]);
      if (++column == D) kl[row++] = T(row_sum), row_sum = 0, column = 0;
    }
  }
}

// A missing gradient (nullptr) is zero.
template <typename T>
void sample_rows_backward(PhiloxKey key, int64_t first, int64_t last, int64_t D, const T* mu, const T* logvar, const T* grad_z, const T* grad_kl,
                          bool per_dimension, T* grad_mu, T* grad_logvar) {
  T eps[kTile], gz[kTile] = {}, gk[kTile] = {};
  for (int64_t i = first * D; i < last * D; i += kTile) {
    const int n = noise_tile(key, i, last * D, eps);
    if (grad_kl && !per_dimension) {
      int64_t row = i / D, column = i % D;
      for (int e = 0; e < n; ++e) {
        gk[e] = grad_kl[row];
        if (++column == D) ++row, column = 0;
      }
    }
    const T* kl = grad_kl && per_dimension ? grad_kl + i : gk;
    sample_tile_backward(n, mu + i, logvar + i, eps, grad_z ? grad_z + i : gz, kl, grad_mu + i, grad_logvar + i);
  }
}

}  // namespace disentangle_ext::cpu

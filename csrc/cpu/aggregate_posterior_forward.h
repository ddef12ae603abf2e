// log q(z) and log q(z_d) on a CPU: M queries against N components in D dimensions, D + 1 log-sum-exps per query.
//
// A marginal whose sum falls near the smallest float is summed again around its true maximum. The joint density is D
// times further below the reference, and only one exponential in D + 1: it takes its maximum from each block.
#pragma once

#include "cpu/aggregate_posterior_block.h"
#include "math/online_sum.h"

namespace disentangle_ext::cpu {
namespace {

template <typename T>
using RowSum = OnlineSum<T, double>;

// Pushes a row of exponents: the maximum is taken over the row, and the sum rescaled once.
template <typename T>
DX_INLINE void add_row(RowSum<T>& total, const T* x, int64_t n) {
  T top = total.max, part = 0;
  DX_SIMD_MAX(top)
  for (int64_t j = 0; j < n; ++j) top = x[j] > top ? x[j] : top;
  if (top > total.max) total.raise(top);
  DX_SIMD_SUM(part)
  for (int64_t j = 0; j < n; ++j) part += exp2(x[j] - top);
  total.sum += double(part);
}

// Adds the block's part of each marginal to sums[q][d] and of the joint density to joint[q].
template <typename T, bool kWeighted>
DX_CLONES void sum_block(Block<T>& b, int queries, const T* const* z, double* const* sums, RowSum<T>* const* joint) {
  T *g0 = b.joint, *g1 = g0 + b.stride, *g2 = g1 + b.stride, *g3 = g2 + b.stride;
  const T *w0 = b.log2_weight, *w1 = w0 + b.stride, *w2 = w1 + b.stride, *w3 = w2 + b.stride;
  const int64_t n = b.padded;
  start_joint<kWeighted>(b);
  for (int64_t d = 0; d < b.D; ++d) {
    const T *mu = b.mu + d * b.stride, *scale = b.scale + d * b.stride, *peak = b.peak + d * b.stride;
    const T z0 = z[0][d], z1 = z[1][d], z2 = z[2][d], z3 = z[3][d];
    T a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    DX_SIMD_SUM(a0, a1, a2, a3)
    for (int64_t j = 0; j < n; ++j) {
      const T m = mu[j], s = scale[j], p = peak[j];
      const T t0 = (z0 - m) * s, t1 = (z1 - m) * s, t2 = (z2 - m) * s, t3 = (z3 - m) * s;
      g0[j] -= t0 * t0, g1[j] -= t1 * t1, g2[j] -= t2 * t2, g3[j] -= t3 * t3;
      a0 += exp2((kWeighted ? p + w0[j] : p) - t0 * t0);
      a1 += exp2((kWeighted ? p + w1[j] : p) - t1 * t1);
      a2 += exp2((kWeighted ? p + w2[j] : p) - t2 * t2);
      a3 += exp2((kWeighted ? p + w3[j] : p) - t3 * t3);
    }
    sums[0][d] += a0, sums[1][d] += a1, sums[2][d] += a2, sums[3][d] += a3;
  }
  finish_joint<kWeighted>(b);
  for (int q = 0; q < queries; ++q) add_row(*joint[q], b.joint + q * b.stride, n);
}

// out[i, d] = factors[d] + log(sums[i, d]); false if a sum is too small to be trusted.
template <typename T>
DX_CLONES bool logs_of_sums(int64_t rows, int64_t D, const double* sums, const double* factors, double threshold,
                            T* out) {
  int small = 0;
  DX_SIMD_SUM(small)
  for (int64_t e = 0; e < rows * D; ++e) {
    small += sums[e] < threshold;
    out[e] = log(T(sums[e]));
  }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t d = 0; d < D; ++d) out[i * D + d] = T(factors[d] + double(out[i * D + d]));
  return small == 0;
}

// log q(z_id) around its true maximum, for a query far from every component.
template <typename T>
double marginal_online(const AggregateProblem<T>& a, int64_t i, int64_t d) {
  constexpr int64_t kRow = 256;
  T row[kRow];
  RowSum<T> total;
  const T z = a.z[i * a.D + d];
  for (int64_t first = 0; first < a.components; first += kRow) {
    const int64_t n = std::min(kRow, a.components - first);
    for (int64_t j = 0; j < n; ++j) {
      const int64_t at = (first + j) * a.D + d;
      row[j] = T(kLog2e) * a.weights(i, first + j) + log2_density(z, a.mu[at], a.logvar[at]);
    }
    add_row(total, row, n);
  }
  return kLn2 * total.value();
}

}  // namespace

// log q(z_i) and log q(z_id) of queries first .. last.
template <typename T>
void log_densities(const AggregateProblem<T>& a, const Reference<T>& r, int64_t first, int64_t last, T* log_qz,
                   T* marginals) {
  const int64_t D = a.D;
  Block<T> block(block_size<T>(a.components, D, 3), D);
  std::vector<double> sums((kChunk + 1) * D);  // one row more, where the empty places of a group add
  const double threshold = double(a.components) * (sizeof(T) == 4 ? 0x1p-100 : 0x1p-960);
  const Factors<T> factors(r);
  for (int64_t chunk = first; chunk < last; chunk += kChunk) {
    const int64_t count = std::min(kChunk, last - chunk);
    RowSum<T> joint[kChunk];
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t j = 0; j < a.components; j += block.stride) {
      load_block(block, a, r, j, std::min(block.stride, a.components - j));
      for (int64_t i = 0; i < count; i += kGroup) {
        const int queries = int(std::min<int64_t>(kGroup, count - i));
        const T* z[kGroup];
        double* rows[kGroup];
        RowSum<T>* joints[kGroup];
        for (int q = 0; q < kGroup; ++q) {
          z[q] = a.z + (chunk + std::min(i + q, count - 1)) * D;
          rows[q] = sums.data() + (q < queries ? i + q : kChunk) * D;
          joints[q] = joint + std::min(i + q, count - 1);
        }
        if (load_weights(block, a, r, chunk + i, queries)) {
          sum_block<T, true>(block, queries, z, rows, joints);
        } else {
          sum_block<T, false>(block, queries, z, rows, joints);
        }
      }
    }
    for (int64_t i = 0; i < count; ++i) log_qz[chunk + i] = T(factors.joint + kLn2 * joint[i].value());
    T* out = marginals + chunk * D;
    if (logs_of_sums(count, D, sums.data(), factors.marginal.data(), threshold, out)) continue;
    for (int64_t e = 0; e < count * D; ++e)
      if (sums[e] < threshold) out[e] = T(marginal_online(a, chunk + e / D, e % D));
  }
}

}  // namespace disentangle_ext::cpu

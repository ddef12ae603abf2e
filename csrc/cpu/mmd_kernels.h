// Sums of k(x, y) over pairs of rows, and the gradient of a weighted sum of them, in one sweep. No pair matrix: columns
// come in transposed blocks, and a row's pairs with a block are a vector.
#pragma once

#include <algorithm>
#include <vector>

#include "cpu/simd.h"
#include "math/mmd_functions.h"

namespace disentangle_ext::cpu {

template <typename T>
struct Rows {
  const T* data;  // [count, D]
  int64_t count;
};

namespace {

constexpr int64_t kMmdBlock = 256;
constexpr int kMmdRows = 4;  // rows that share the loads of a block

// Columns [first, first + count) of a set of rows, transposed, with the gradient they gather and room for the pairs of
// a group of rows.
template <typename T>
struct ColumnBlock {
  int64_t first = 0, count = 0, D;
  std::vector<T> data, gradient;  // [D, kMmdBlock]
  T d2[kMmdRows][kMmdBlock], slope[kMmdRows][kMmdBlock];

  explicit ColumnBlock(int64_t D_) : D(D_), data(D_ * kMmdBlock), gradient(D_ * kMmdBlock) {}

  void load(const Rows<T>& rows, int64_t first_) {
    first = first_, count = std::min(kMmdBlock, rows.count - first);
    for (int64_t j = 0; j < count; ++j)
      for (int64_t d = 0; d < D; ++d) data[d * kMmdBlock + j] = rows.data[(first + j) * D + d];
    std::fill(gradient.begin(), gradient.end(), T(0));
  }

  void add_gradient(T* out) const {
    for (int64_t j = 0; j < count; ++j)
      for (int64_t d = 0; d < D; ++d) out[(first + j) * D + d] += gradient[d * kMmdBlock + j];
  }
};

template <typename T>
DX_INLINE void squared_distances(ColumnBlock<T>& b, const T* const* x) {
  const int64_t n = b.count;
  T *s0 = b.d2[0], *s1 = b.d2[1], *s2 = b.d2[2], *s3 = b.d2[3];
  for (T* row : {s0, s1, s2, s3}) std::fill_n(row, n, T(0));
  for (int64_t d = 0; d < b.D; ++d) {
    const T* y = b.data.data() + d * kMmdBlock;
    const T x0 = x[0][d], x1 = x[1][d], x2 = x[2][d], x3 = x[3][d];
    DX_SIMD
    for (int64_t j = 0; j < n; ++j) {
      const T t0 = x0 - y[j], t1 = x1 - y[j], t2 = x2 - y[j], t3 = x3 - y[j];
      s0[j] += t0 * t0, s1[j] += t1 * t1, s2[j] += t2 * t2, s3[j] += t3 * t3;
    }
  }
}

// d k / dx_d = 2 k'(d2) (x_d - y_d), and its opposite for y, weighted by `scale`.
template <typename T>
DX_INLINE void add_pulls(ColumnBlock<T>& b, const T* const* x, T scale, T* const* grad_x) {
  const int64_t n = b.count;
  const T *g0 = b.slope[0], *g1 = b.slope[1], *g2 = b.slope[2], *g3 = b.slope[3];
  const T factor = T(2) * scale;
  for (int64_t d = 0; d < b.D; ++d) {
    const T* y = b.data.data() + d * kMmdBlock;
    T* grad_y = b.gradient.data() + d * kMmdBlock;
    const T x0 = x[0][d], x1 = x[1][d], x2 = x[2][d], x3 = x[3][d];
    T a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    DX_SIMD_SUM(a0, a1, a2, a3)
    for (int64_t j = 0; j < n; ++j) {
      const T p0 = g0[j] * (x0 - y[j]), p1 = g1[j] * (x1 - y[j]), p2 = g2[j] * (x2 - y[j]), p3 = g3[j] * (x3 - y[j]);
      a0 += p0, a1 += p1, a2 += p2, a3 += p3;
      grad_y[j] -= factor * ((p0 + p1) + (p2 + p3));
    }
    grad_x[0][d] += factor * a0, grad_x[1][d] += factor * a1, grad_x[2][d] += factor * a2, grad_x[3][d] += factor * a3;
  }
}

// Sum of k between a group of rows and the block, row q with columns [from[q], count). With `grad_x`, the
// gradient of `scale` times that sum is added to it and to the block.
template <typename T, MmdFunction function>
DX_CLONES double sum_group(ColumnBlock<T>& b, const T* const* x, const int64_t* from,
                           const std::vector<MmdScale<T>>& scales, T scale, T* const* grad_x) {
  squared_distances(b, x);
  double total = 0;
  for (int q = 0; q < kMmdRows; ++q) {
    const int64_t n = b.count;
    std::fill_n(b.slope[q], n, T(0));
    T sum = 0;
    for (const MmdScale<T>& c : scales) {
      DX_SIMD_SUM(sum)
      for (int64_t j = from[q]; j < n; ++j) {
        T k, slope;
        evaluate<T, function>(c, b.d2[q][j], k, slope);
        sum += k;
        b.slope[q][j] += slope;
      }
    }
    total += double(sum);
  }
  if (grad_x) add_pulls(b, x, scale, grad_x);
  return total;
}

}  // namespace

// Sum over the pairs of a row of x with a column of the block. `half` is for columns that are x itself: only rows
// before the column count, so that each pair of distinct points counts once.
template <typename T, MmdFunction function>
double sum_pairs(ColumnBlock<T>& b, const Rows<T>& x, bool half, const std::vector<MmdScale<T>>& scales, double scale,
                 T* grad_x, T* grad_y) {
  double sum = 0;
  std::vector<T> unused(b.D);
  const int64_t rows = half ? b.first + b.count : x.count;
  for (int64_t i = 0; i < rows; i += kMmdRows) {
    const T* group[kMmdRows];
    T* gradients[kMmdRows];
    int64_t from[kMmdRows];
    for (int q = 0; q < kMmdRows; ++q) {
      const bool used = i + q < rows;
      const int64_t row = used ? i + q : i;
      group[q] = x.data + row * b.D;
      gradients[q] = used && grad_x ? grad_x + row * b.D : unused.data();
      from[q] = !used ? b.count : half ? std::clamp<int64_t>(row + 1 - b.first, 0, b.count) : 0;
    }
    sum += sum_group<T, function>(b, group, from, scales, T(scale), grad_x ? gradients : nullptr);
  }
  if (grad_y) b.add_gradient(grad_y);
  return sum;
}

}  // namespace disentangle_ext::cpu

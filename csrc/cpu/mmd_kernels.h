// Sums of a kernel over pairs of rows, and the gradient of a weighted sum of them, in one sweep. No pair matrix: columns
// come in transposed blocks, and a row's pairs with a block are a vector.
#pragma once

#include <vector>

#include "cpu/simd.h"
#include "math/mmd_kernels.h"

namespace disentangle_ext::cpu {

template <typename T>
struct Rows {
  const T* data;  // [count, D]
  int64_t count;
};

namespace {

constexpr int64_t kMmdBlock = 256;

// Columns [first, first + count) of a set of rows, transposed, with the gradient they gather and room for one row's pairs.
template <typename T>
struct ColumnBlock {
  int64_t first = 0, count = 0, D;
  std::vector<T> data, gradient;  // [D, kMmdBlock]
  T d2[kMmdBlock], k[kMmdBlock], slope[kMmdBlock];

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

// Sum of the kernel between row x and columns [from, count) of the block. With `grad_x`, the gradient of `scale` times
// that sum is added to it and to the block: d k / dx_d = 2 k'(d2) (x_d - y_d), and its opposite for y.
template <typename T, MmdKernel kernel>
DX_CLONES double sum_row(ColumnBlock<T>& b, const T* x, int64_t from, const std::vector<KernelScale<T>>& scales, T scale, T* grad_x) {
  const int64_t n = b.count;
  std::fill(b.d2 + from, b.d2 + n, T(0));
  for (int64_t d = 0; d < b.D; ++d) {
    const T* y = b.data.data() + d * kMmdBlock;
    const T xd = x[d];
    DX_SIMD
    for (int64_t j = from; j < n; ++j) b.d2[j] += (xd - y[j]) * (xd - y[j]);
  }
  std::fill(b.slope + from, b.slope + n, T(0));
  T sum = 0;
  for (const KernelScale<T>& c : scales) {
    DX_SIMD_SUM(sum)
    for (int64_t j = from; j < n; ++j) {
      T k, slope;
      evaluate<T, kernel>(c, b.d2[j], k, slope);
      sum += k;
      b.slope[j] += slope;
    }
  }
  if (!grad_x) return double(sum);
  for (int64_t d = 0; d < b.D; ++d) {
    const T* y = b.data.data() + d * kMmdBlock;
    T* grad_y = b.gradient.data() + d * kMmdBlock;
    const T xd = x[d];
    T total = 0;
    DX_SIMD_SUM(total)
    for (int64_t j = from; j < n; ++j) {
      const T pull = T(2) * scale * b.slope[j] * (xd - y[j]);
      total += pull;
      grad_y[j] -= pull;
    }
    grad_x[d] += total;
  }
  return double(sum);
}

}  // namespace

// Sum over the pairs of a row of x with a column of y in the given block of y. `half` is for y = x: only rows before the
// column count, so that each pair of distinct points counts once.
template <typename T, MmdKernel kernel>
double sum_pairs(ColumnBlock<T>& b, const Rows<T>& x, bool half, const std::vector<KernelScale<T>>& scales, double scale, T* grad_x, T* grad_y) {
  double sum = 0;
  const int64_t rows = half ? b.first + b.count : x.count;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t from = half ? std::max<int64_t>(0, i + 1 - b.first) : 0;
    if (from < b.count) sum += sum_row<T, kernel>(b, x.data + i * b.D, from, scales, T(scale), grad_x ? grad_x + i * b.D : nullptr);
  }
  if (grad_y) b.add_gradient(grad_y);
  return sum;
}

}  // namespace disentangle_ext::cpu

// Log-weights w_ij of the estimators of log q(z_i) = LSE_j(w_ij + log q(z_i | x_j)).
#pragma once

#include <cmath>

#include "math/portable.h"

namespace disentangle_ext {

enum class Estimator : int64_t { uniform = 0, mws = 1, mss = 2, mss_legacy = 3 };

// Every query sees one ordinary weight (or `column`), but for the two components that stratified sampling singles out.
template <typename T>
struct LogWeights {
  Estimator estimator;
  int64_t components, offset;
  const T* column;  // [components] given by the caller, or nullptr
  T ordinary, own, next;

  static LogWeights make(Estimator estimator, int64_t components, int64_t dataset_size, int64_t offset,
                         const T* column) {
    const double n = static_cast<double>(components), size = static_cast<double>(dataset_size), m = n - 1;
    LogWeights w{estimator, components, offset, column, T(0), T(0), T(0)};
    if (column) return w;
    if (estimator == Estimator::uniform) w.ordinary = T(-std::log(n));
    if (estimator == Estimator::mws) w.ordinary = T(-std::log(n) - std::log(size));
    if (!w.stratified()) return w;
    w.ordinary = T(-std::log(m));
    w.own = T(-std::log(size));
    w.next = T(std::log((size - m) / size / m));
    return w;
  }

  DX_INLINE bool stratified() const {
    return !column && (estimator == Estimator::mss || estimator == Estimator::mss_legacy);
  }

  // The two exceptional components of query i, and their weights. The legacy form keeps the misplaced weights of the
  // public codes: a stride of B over the flattened matrix fills column 0 where the diagonal was meant.
  DX_INLINE void exceptions(int64_t i, int64_t (&j)[2], T (&weight)[2]) const {
    const int64_t global = offset + i;
    if (estimator == Estimator::mss) {
      j[0] = global, weight[0] = own;
      j[1] = global + 1 == components ? 0 : global + 1, weight[1] = next;
    } else {
      j[0] = 0, weight[0] = global == components - 2 ? next : own;
      j[1] = 1, weight[1] = next;
    }
  }

  DX_INLINE T operator()(int64_t i, int64_t j) const {
    if (column) return column[j];
    if (stratified()) {
      int64_t at[2];
      T weight[2];
      exceptions(i, at, weight);
      if (j == at[0]) return weight[0];
      if (j == at[1]) return weight[1];
    }
    return ordinary;
  }
};

}  // namespace disentangle_ext

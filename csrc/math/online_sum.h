// The streaming log-sum-exp, in base 2.
#pragma once

#include <cmath>

#include "math/exponential.h"

namespace disentangle_ext {

// A sum of 2^x_j, kept as sum * 2^max: pairs (sum, max), which form a commutative monoid.
//     identity  (0, lowest)
//     push x    merge with (1, x)
//     merge     (a, m) + (b, n) = (a 2^(m - M) + b 2^(n - M), M),   M = max(m, n)
//     value     max + log2(sum), and -inf where the sum is zero
// Every exponent is at most zero, so nothing overflows, and the term of the maximum keeps the sum from underflow. The
// identity's maximum is finite: -inf less itself would make a NaN of sums of nothing but zeros. A NaN that is pushed
// does not move the maximum, since no comparison sees it, and stays in the sum. `Sum` may be wider than T.
template <typename T, typename Sum = T>
struct OnlineSum {
  Sum sum = 0;
  T max = kLowest<T>;

  // The same sum around a maximum that is not smaller.
  DX_INLINE void raise(T top) {
    sum *= Sum(exp2(max - top));
    max = top;
  }

  DX_INLINE void push(T x) {
    if (x > max) raise(x);
    sum += Sum(exp2(x - max));
  }

  DX_INLINE void merge(const OnlineSum& other) {
    if (other.max > max) raise(other.max);
    sum += other.sum * Sum(exp2(other.max - max));
  }

  // In bits.
  DX_INLINE Sum value() const {
    if (sum == Sum(0)) return -kInfinity<Sum>;
    if constexpr (sizeof(Sum) == sizeof(double)) return Sum(max) + std::log2(sum);
    return Sum(max) + Sum(kLog2e) * log(sum);  // few instructions, for a GPU
  }
};

}  // namespace disentangle_ext

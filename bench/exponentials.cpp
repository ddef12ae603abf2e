// How many exponentials a core can add up at most: the exp2 of the kernels, on numbers that stay
// in the first-level cache.
#include "cpu/simd.h"
#include "math/exponential.h"

namespace {

constexpr int kCount = 512;

// Four sums, as the kernels have: one alone would wait for its last addition.
DX_CLONES float sum_exponentials(const float* x, int rounds) {
  float a0 = 0, a1 = 0, a2 = 0, a3 = 0;
  const float *x0 = x, *x1 = x + kCount, *x2 = x1 + kCount, *x3 = x2 + kCount;
  for (int round = 0; round < rounds; ++round) {
    DX_SIMD_SUM(a0, a1, a2, a3)
    for (int j = 0; j < kCount; ++j) {
      a0 += disentangle_ext::exp2(x0[j]), a1 += disentangle_ext::exp2(x1[j]);
      a2 += disentangle_ext::exp2(x2[j]), a3 += disentangle_ext::exp2(x3[j]);
    }
    asm volatile("" ::: "memory");  // each round anew
  }
  return (a0 + a1) + (a2 + a3);
}

}  // namespace

// A round is 2048 exponentials of x [2048].
extern "C" float run_exponentials(const float* x, int rounds) { return sum_exponentials(x, rounds); }

// Philox4x32-10, the counter-based generator of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
#pragma once

#include "math/portable.h"

namespace disentangle_ext {

struct PhiloxKey {
  uint64_t seed, offset;  // the Philox key, and the high half of the counter
};

// A word of 32 bits. On a host it sits in the low half of 64, where a vector unit has the product of two words in one
// instruction; what the high half holds does not matter. A GPU has instructions for either half of a product.
#if defined(__CUDA_ARCH__)
using Word = uint32_t;
#else
using Word = uint64_t;
#endif

// Returns the low word of a product.
DX_INLINE Word multiply_wide(Word a, uint32_t b, Word& high) {
#if defined(__CUDA_ARCH__)
  high = __umulhi(a, b);
  return a * b;
#else
  const Word product = Word(uint32_t(a)) * b;
  high = product >> 32;
  return product;
#endif
}

// Writes the four 32-bit lanes of counter (low: index, high: key.offset).
DX_INLINE void philox(PhiloxKey key, uint64_t index, uint32_t& x0, uint32_t& x1, uint32_t& x2, uint32_t& x3) {
  uint32_t k0 = uint32_t(key.seed), k1 = uint32_t(key.seed >> 32);
  Word w0 = Word(index), w1 = Word(index >> 32), w2 = Word(key.offset), w3 = Word(key.offset >> 32);
  DX_UNROLL
  for (int round = 0; round < 10; ++round) {
    Word high0, high1;
    const Word low0 = multiply_wide(w0, 0xD2511F53u, high0), low1 = multiply_wide(w2, 0xCD9E8D57u, high1);
    w0 = high1 ^ w1 ^ k0, w2 = high0 ^ w3 ^ k1;
    w1 = low1, w3 = low0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  x0 = uint32_t(w0), x1 = uint32_t(w1), x2 = uint32_t(w2), x3 = uint32_t(w3);
}

}  // namespace disentangle_ext

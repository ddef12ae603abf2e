// Philox4x32-10, the counter-based generator of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
#pragma once

#include "math/portable.h"

namespace disentangle_ext {

struct PhiloxKey {
  uint64_t seed, offset;  // the Philox key, and the high half of the counter
};

// The low and the high word of a product. nvcc makes an addition of every shift by 32 bits.
DX_INLINE uint32_t multiply_wide(uint32_t a, uint32_t b, uint32_t& high) {
#if defined(__CUDA_ARCH__)
  high = __umulhi(a, b);
  return a * b;
#else
  const uint64_t product = uint64_t(a) * b;
  high = uint32_t(product >> 32);
  return uint32_t(product);
#endif
}

// Writes the four 32-bit lanes of counter (low: index, high: key.offset).
DX_INLINE void philox(PhiloxKey key, uint64_t index, uint32_t& x0, uint32_t& x1, uint32_t& x2, uint32_t& x3) {
  uint32_t k0 = uint32_t(key.seed), k1 = uint32_t(key.seed >> 32);
  x0 = uint32_t(index), x1 = uint32_t(index >> 32), x2 = uint32_t(key.offset), x3 = uint32_t(key.offset >> 32);
  DX_UNROLL
  for (int round = 0; round < 10; ++round) {
    uint32_t high0, high1;
    const uint32_t low0 = multiply_wide(x0, 0xD2511F53u, high0), low1 = multiply_wide(x2, 0xCD9E8D57u, high1);
    x0 = high1 ^ x1 ^ k0, x2 = high0 ^ x3 ^ k1;
    x1 = low1, x3 = low0;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
}

}  // namespace disentangle_ext

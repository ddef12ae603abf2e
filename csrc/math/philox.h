// Philox4x32-10, the counter-based generator of Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
#pragma once

#include "math/portable.h"

namespace disentangle_ext {

struct PhiloxKey {
  uint64_t seed, offset;  // the Philox key, and the high half of the counter
};

// Writes the four 32-bit lanes of counter (low: index, high: key.offset).
DX_INLINE void philox(PhiloxKey key, uint64_t index, uint32_t& x0, uint32_t& x1, uint32_t& x2, uint32_t& x3) {
  uint32_t k0 = uint32_t(key.seed), k1 = uint32_t(key.seed >> 32);
  x0 = uint32_t(index), x1 = uint32_t(index >> 32), x2 = uint32_t(key.offset), x3 = uint32_t(key.offset >> 32);
  DX_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t(x0) * 0xD2511F53u, p1 = uint64_t(x2) * 0xCD9E8D57u;
    x0 = uint32_t(p1 >> 32) ^ x1 ^ k0, x2 = uint32_t(p0 >> 32) ^ x3 ^ k1;
    x1 = uint32_t(p1), x3 = uint32_t(p0);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
}

}  // namespace disentangle_ext

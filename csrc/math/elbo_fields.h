// What elbo_decomposition returns.
#pragma once

#include <cstdint>

namespace disentangle_ext {

inline constexpr int kFields = 7;  // MI, TC, dimension-wise KL, log q(z|x), log q(z), sum_d log q(z_d), log p(z)

enum class Reduction : int64_t { none = 0, mean = 1, sum = 2 };  // of a field, over the rows of a problem

}  // namespace disentangle_ext

// Arguments of mmd, checked and made contiguous in the type of the computation.
#pragma once

#include "common/problems_host.h"
#include "math/mmd_functions.h"

namespace disentangle_ext {

struct MmdInputs {
  at::ScalarType type;
  at::Tensor x, y, bandwidth;
  Shape xs, ys;
  int64_t K, problems_each;  // bandwidths of a problem, and problems that share them

  MmdInputs(const at::Tensor& x_, const at::Tensor& y_, const at::Tensor& bandwidth_, int64_t function)
      : type(compute_type(x_)), xs((check_components(x_, y_, y_, "mmd"), x_)), ys(y_) {
    TORCH_CHECK(function >= int64_t(MmdFunction::rbf) && function <= int64_t(MmdFunction::energy),
                "mmd: kernel must be from ", int64_t(MmdFunction::rbf), " to ", int64_t(MmdFunction::energy), ", got ",
                function);
    const int64_t own = bandwidth_.dim() - 1;
    TORCH_CHECK(own >= 0 && bandwidth_.size(-1) > 0 && own <= x_.dim() - 2 &&
                    bandwidth_.sizes().slice(0, own) == x_.sizes().slice(0, own),
                "mmd: bandwidth must be [K], or [.., K] with leading dimensions of x, got ", bandwidth_.sizes());
    TORCH_CHECK(x_.device() == y_.device() && x_.device() == bandwidth_.device(),
                "mmd: x, y and bandwidth must be on one device, got ", x_.device(), ", ", y_.device(), " and ",
                bandwidth_.device());
    x = prepare(x_, type), y = prepare(y_, type), bandwidth = prepare(bandwidth_, at::kDouble);
    K = bandwidth.size(-1);
    problems_each = bandwidth.numel() ? xs.problems / (bandwidth.numel() / K) : 1;
  }
};

}  // namespace disentangle_ext

// What only a second device makes possible: tensors that lie on different ones, which a kernel would read as its own.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

namespace disentangle_ext::cuda {

inline void check_device(const at::Tensor& t, const at::Tensor& like, const char* what) {
  TORCH_CHECK(!t.defined() || t.device() == like.device(), what, " must be on ", like.device(), ", got ", t.device());
}

}  // namespace disentangle_ext::cuda

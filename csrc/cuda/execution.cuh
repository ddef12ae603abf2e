// What lets one kernel source be compiled by nvcc, for a GPU, and by g++, where csrc/testing stands in for the CUDA
// execution model. Launches and dynamic shared memory are the only two things that are spelled differently.
#pragma once

#include "cuda/stream.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>

#define DX_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define DX_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char dx_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(dx_dynamic_shared)
#else
#include "testing/execution_model.h"
#endif

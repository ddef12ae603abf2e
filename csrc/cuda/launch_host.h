// What every host function does around its launches: the device of its tensors, the current stream, the check.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>

namespace disentangle_ext::cuda {

struct Launch {
  c10::cuda::CUDAGuard guard;
  cudaStream_t stream;

  explicit Launch(const at::Tensor& t)
      : guard(t.device()), stream(c10::cuda::getCurrentCUDAStream(t.get_device()).stream()) {}

  // A launch that was refused says so here; a kernel that fails says so at the next sync.
  ~Launch() noexcept(false) {
    if (std::uncaught_exceptions()) return;
    const bool missing = cudaPeekAtLastError() == cudaErrorNoKernelImageForDevice;
    if (missing) (void)cudaGetLastError();  // the next call is not to blame
    TORCH_CHECK(!missing,
                "disentangle_ext: its kernels are not compiled for this GPU; `python -m disentangle_ext.doctor` says "
                "for which, and what to do");
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

}  // namespace disentangle_ext::cuda

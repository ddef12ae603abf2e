// Outputs so large that the system maps fresh memory for each of them.
#pragma once

#include <ATen/ops/empty.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include <cstdint>

namespace disentangle_ext::cpu {

// at::empty. To fault a large tensor in by pages of 4 KiB takes longer than most kernels need to fill it, so the system
// is asked for huge ones, which it may refuse. Up to 32 MiB, glibc keeps what is freed for the next call.
inline at::Tensor empty_large(at::IntArrayRef sizes, const at::TensorOptions& options) {
  const at::Tensor t = at::empty(sizes, options);
#if defined(MADV_HUGEPAGE)
  constexpr size_t kWorthwhile = size_t(32) << 20;
  if (t.nbytes() >= kWorthwhile) {
    const auto page = uintptr_t(sysconf(_SC_PAGESIZE)), begin = uintptr_t(t.mutable_data_ptr());
    const uintptr_t first = (begin + page - 1) / page * page, last = (begin + t.nbytes()) / page * page;
    madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
  }
#endif
  return t;
}

}  // namespace disentangle_ext::cpu

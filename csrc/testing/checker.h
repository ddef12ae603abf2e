// What the execution model tells the checker, and what tests tell it of their buffers. Without DX_CHECK nobody listens.
#pragma once

#include <cstddef>
#include <string>

namespace disentangle_ext::testing {

#if defined(DX_CHECK)
void checker_begin_launch();
std::string checker_end_launch();  // what it found, empty if nothing
void checker_warp_barrier(unsigned first_thread, unsigned lanes);
void checker_atomic(void* address, size_t bytes, void* caller);
void checker_fence();
// Kernels may access `bytes` from `begin`; outside of the watched buffers they may access nothing. What is `empty` they
// write before they read it.
void watch(const void* begin, size_t bytes, const std::string& name, bool empty = false);
void forget_watched();
// Of shared memory. Off for kernels that load rows with their padding: what they use of it still shows as NaN.
void report_uninitialised(bool on);
#else
inline void checker_begin_launch() {}
inline std::string checker_end_launch() { return {}; }
inline void checker_warp_barrier(unsigned, unsigned) {}
inline void checker_atomic(void*, size_t, void*) {}
inline void checker_fence() {}
inline void watch(const void*, size_t, const std::string&, bool = false) {}
inline void forget_watched() {}
inline void report_uninitialised(bool) {}
#endif

}  // namespace disentangle_ext::testing

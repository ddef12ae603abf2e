// Stackful coroutines for x86-64: save the callee-saved registers on one stack, restore them from another.
#pragma once

#include <algorithm>
#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

extern "C" void dx_switch_stack(void** save, void* to);
asm(R"(
.text
.local dx_switch_stack
.type dx_switch_stack, @function
dx_switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");

namespace disentangle_ext::testing {

// A stack from which the first switch enters `entry`, which must not return.
inline void* fresh_stack_pointer(char* begin, size_t bytes, void (*entry)()) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(begin, bytes);  // an abandoned fiber leaves its frames' red zones behind
#endif
  constexpr int saved_registers = 6;
  void** top = reinterpret_cast<void**>(begin + bytes);
  *--top = nullptr;  // the return address of entry, which also aligns its frame
  *--top = reinterpret_cast<void*>(entry);
  top -= saved_registers;
  std::fill_n(top, saved_registers, nullptr);
  return top;
}

#if defined(__SANITIZE_ADDRESS__)
inline void announce_switch(void** fake_stack, const void* bottom, size_t bytes) {
  __sanitizer_start_switch_fiber(fake_stack, bottom, bytes);
}
inline void announce_arrival(void* fake_stack, const void** bottom, size_t* bytes) {
  __sanitizer_finish_switch_fiber(fake_stack, bottom, bytes);
}
#else
inline void announce_switch(void**, const void*, size_t) {}
inline void announce_arrival(void*, const void**, size_t*) {}
#endif

}  // namespace disentangle_ext::testing

// Instruction sets: a function marked DX_CLONES is compiled once per x86-64 level and the dynamic loader picks the
// best one the machine has. Elsewhere the compiler's baseline is what there is (NEON on aarch64).
#pragma once

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define DX_CLONES __attribute__((noinline, target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define DX_HAS_CLONES 1
#else
#define DX_CLONES __attribute__((noinline))
#define DX_HAS_CLONES 0
#endif

#define DX_PRAGMA(text) _Pragma(#text)
#define DX_SIMD DX_PRAGMA(omp simd)
#define DX_SIMD_SUM(...) DX_PRAGMA(omp simd reduction(+ : __VA_ARGS__))
#define DX_SIMD_MAX(...) DX_PRAGMA(omp simd reduction(max : __VA_ARGS__))

namespace disentangle_ext::cpu {

// Rows of scratch memory start on a cache line and are a multiple of it.
inline constexpr int kCacheLine = 64;

inline const char* simd_level() {
#if DX_HAS_CLONES
  if (__builtin_cpu_supports("x86-64-v4")) return "x86-64-v4 (AVX-512)";
  if (__builtin_cpu_supports("x86-64-v3")) return "x86-64-v3 (AVX2)";
  return "x86-64 (SSE2)";
#elif defined(__aarch64__)
  return "aarch64 (NEON)";
#else
  return "compiler baseline";
#endif
}

}  // namespace disentangle_ext::cpu

// The words of CUDA C++ that g++ lacks: qualifiers and vector types.
#pragma once

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

// Fibers share one OS thread, so thread_local is as good as static, and puts all shared arrays of a library into one
// known range of memory. AddressSanitizer guards plain statics only.
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

#define DX_VECTOR_TYPES(T, name, align2, align4)                     \
  struct alignas(align2) name##2 { T x, y; };                        \
  struct name##3 { T x, y, z; };                                     \
  struct alignas(align4) name##4 { T x, y, z, w; };                  \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }         \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; } \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

DX_VECTOR_TYPES(unsigned char, uchar, 2, 4)
DX_VECTOR_TYPES(short, short, 4, 8)
DX_VECTOR_TYPES(unsigned short, ushort, 4, 8)
DX_VECTOR_TYPES(int, int, 8, 16)
DX_VECTOR_TYPES(unsigned, uint, 8, 16)
DX_VECTOR_TYPES(long long, longlong, 16, 16)
DX_VECTOR_TYPES(unsigned long long, ulonglong, 16, 16)
DX_VECTOR_TYPES(float, float, 8, 16)
DX_VECTOR_TYPES(double, double, 16, 16)
#undef DX_VECTOR_TYPES

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

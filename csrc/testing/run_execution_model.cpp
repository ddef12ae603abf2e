// Small kernels, right and wrong, whose outcome is known: tests of the execution model and of its checker.
#include "cuda/execution.cuh"
#include "testing/entry.h"

namespace {

// ---- right ----

__global__ void shuffles(int* out) {
  const int t = threadIdx.x, value = 100 + t;
  const int results[8] = {
      __shfl_xor_sync(~0u, value, 5),   __shfl_down_sync(~0u, value, 3),   __shfl_up_sync(~0u, value, 2),
      __shfl_sync(~0u, value, 7),       __shfl_xor_sync(~0u, value, 4, 8), __shfl_down_sync(~0u, value, 3, 8),
      __shfl_up_sync(~0u, value, 2, 8), __shfl_sync(~0u, value, 9, 8),
  };
  for (int i = 0; i < 8; ++i) out[i * 64 + t] = results[i];
}

__global__ void wide_shuffle(double* out) { out[threadIdx.x] = __shfl_xor_sync(~0u, 1.0 / (1 + threadIdx.x), 16); }

__global__ void votes(int* out) {
  const int t = threadIdx.x;
  const int results[7] = {
      static_cast<int>(__ballot_sync(~0u, t % 3 == 0)),
      __syncthreads_count(t < 10),
      __syncthreads_or(t == 47),
      __syncthreads_or(t == 48),
      __syncthreads_and(t < 48),
      __syncthreads_and(t < 47),
      __any_sync(~0u, t == 40) + 2 * __all_sync(~0u, t < 32),
  };
  if (t % 32 == 0)
    for (int i = 0; i < 7; ++i) out[t / 32 * 7 + i] = results[i];
}

// Half warps on their own; then some threads exit and the rest still shuffle with the full mask.
__global__ void partial_warps(float* out) {
  __shared__ float s[32];
  const int t = threadIdx.x;
  float v = t;
  if (t < 16) {
    v += __shfl_xor_sync(0xffffu, v, 1);
    s[t] = v;
    __syncwarp(0xffffu);
    v = s[t ^ 1];
  } else {
    v += __shfl_xor_sync(0xffff0000u, v, 2);
    v += __shfl_xor_sync(0xffff0000u, v, 4);
  }
  out[t] = v;
  if (t >= 24) return;
  out[t] += __shfl_sync(~0u, v, 3);
}

// The block that arrives last reads what all others wrote.
__global__ void last_block_sums(const float* x, float* parts, unsigned* counter, float* out) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = x[blockIdx.x];
    __threadfence();
    last = atomicAdd(counter, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last || threadIdx.x != 0) return;
  float sum = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  *out = sum;
}

__global__ void three_dimensions(int* counts) {
  const int b = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int t = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  atomicAdd(&counts[b * 24 + t], 1);
}

// Reverses each block's 64 elements through dynamic shared memory.
__global__ void reverse(const float* x, float* out, int n) {
  DX_DYNAMIC_SHARED(float, tile);
  const int t = threadIdx.x, i = blockIdx.x * 64 + t;
  tile[t] = i < n ? x[i] : 0.0f;
  __syncthreads();
  if (i < n) out[i] = tile[63 - t];
}

__global__ void static_and_dynamic(float* x) {
  __shared__ float own[64];
  DX_DYNAMIC_SHARED(float, tile);
  const int t = threadIdx.x;
  own[t] = tile[t] = x[t];
  __syncthreads();
  x[t] = own[63 - t] + tile[63 - t];
}

__global__ void bits(unsigned* out) {
  out[0] = __brev(1u) + __popc(0xf0u) + __popcll(~0ull);
  out[1] = __umulhi(0x80000000u, 6u) + __clz(1) + __clzll(1) + __ffs(8) + __ffsll(1ll << 40);
  out[2] = __funnelshift_l(0x80000000u, 1u, 1);
  out[3] = __funnelshift_r(0u, 1u, 1);
  out[4] = static_cast<unsigned>(__umul64hi(1ull << 63, 6ull)) + static_cast<unsigned>(__brevll(1ull) >> 63);
}

// ---- wrong ----

__global__ void missing_barrier(float* out) {
  __shared__ float s[64];
  s[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = s[63 - threadIdx.x];
}

__global__ void missing_warp_barrier(float* out) {
  __shared__ float s[32];
  s[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = s[31 - threadIdx.x];
}

// A shuffle makes the lanes meet, but orders no memory.
__global__ void shuffle_as_barrier(float* out) {
  __shared__ float s[32];
  s[threadIdx.x] = threadIdx.x;
  const float sum = __shfl_xor_sync(~0u, 1.0f, 1);
  out[threadIdx.x] = sum + s[31 - threadIdx.x];
}

// The next round overwrites what slower warps still read.
__global__ void missing_second_barrier(float* out) {
  __shared__ float s[64];
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    s[threadIdx.x] = round;
    __syncthreads();
    sum += s[63 - threadIdx.x];
  }
  out[threadIdx.x] = sum;
}

__global__ void blocks_race(float* out) {
  if (threadIdx.x == 0) *out += 1.0f;
}

__global__ void uninitialised(float* out) {
  __shared__ float s[4];
  if (threadIdx.x == 1) s[1] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}

__global__ void read_past_end(const float* x, float* out, int n) { out[0] = x[n]; }
__global__ void write_before_begin(float* out) { out[-1] = 0.0f; }
__global__ void misaligned(const float* x, float4* out) { *out = *reinterpret_cast<const float4*>(x + 1); }

// The index is not a constant for the compiler, which would warn.
__global__ void shared_past_end(float* out, int n) {
  __shared__ float s[64];
  s[threadIdx.x + n] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x + n];
}

__global__ void dynamic_past_end(float* out, int n) {
  DX_DYNAMIC_SHARED(float, s);
  s[threadIdx.x + n] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x + n];
}

__global__ void missed_barrier(int rounds) {
  for (int i = 0; i < rounds + static_cast<int>(threadIdx.x == 0); ++i) __syncthreads();
}

__global__ void divergent_barrier() {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void lane_not_in_mask() { __syncwarp(0x0fu); }

__global__ void masks_disagree() {
  if (threadIdx.x < 16)
    __syncwarp(0x1ffffu);
  else
    __syncwarp(~0u);
}

__global__ void deadlock() {
  if (threadIdx.x < 16) {
    __shfl_sync(~0u, 1, 0);
  } else {
    __syncthreads();
  }
}

__global__ void nothing() {}

__global__ void divide(int* out, int zero) { out[0] = 1 / zero; }
__global__ void shift(int* out, int by) { out[0] = 1 << by; }

}  // namespace

DX_ENTRY(shuffles, int* out) { DX_LAUNCH(shuffles, 1, 64, 0, nullptr, out); }
DX_ENTRY(wide_shuffle, double* out) { DX_LAUNCH(wide_shuffle, 1, 32, 0, nullptr, out); }
DX_ENTRY(votes, int* out) { DX_LAUNCH(votes, 1, 48, 0, nullptr, out); }
DX_ENTRY(partial_warps, float* out) { DX_LAUNCH(partial_warps, 1, 32, 0, nullptr, out); }
DX_ENTRY(last_block_sums, const float* x, float* parts, unsigned* counter, float* out, int64_t blocks) {
  DX_LAUNCH(last_block_sums, static_cast<unsigned>(blocks), 64, 0, nullptr, x, parts, counter, out);
}
DX_ENTRY(three_dimensions, int* counts) {
  DX_LAUNCH(three_dimensions, dim3(2, 3, 4), dim3(4, 3, 2), 0, nullptr, counts);
}
DX_ENTRY(reverse, const float* x, float* out, int n, int64_t shared_bytes) {
  DX_LAUNCH(reverse, static_cast<unsigned>((n + 63) / 64), 64, static_cast<size_t>(shared_bytes), nullptr, x, out, n);
}
DX_ENTRY(bits, unsigned* out) { DX_LAUNCH(bits, 1, 1, 0, nullptr, out); }
DX_ENTRY(through_workspace, const float* x, float* out) {
  const disentangle_ext::testing::Workspace<float> between(64);
  DX_LAUNCH(reverse, 1, 64, 256, nullptr, x, between.get(), 64);
  DX_LAUNCH(reverse, 1, 64, 256, nullptr, between.get(), out, 64);
}
DX_ENTRY(static_and_dynamic, float* x, int64_t shared_bytes) {
  DX_LAUNCH(static_and_dynamic, 1, 64, static_cast<size_t>(shared_bytes), nullptr, x);
}
DX_ENTRY(half_a_workspace, float* x) {
  const disentangle_ext::testing::Workspace<float> between(64);
  DX_LAUNCH(reverse, 1, 64, 256, nullptr, x, between.get(), 32);
  DX_LAUNCH(reverse, 1, 64, 256, nullptr, between.get(), x, 64);
}

DX_ENTRY(missing_barrier, float* out) { DX_LAUNCH(missing_barrier, 1, 64, 0, nullptr, out); }
DX_ENTRY(missing_warp_barrier, float* out) { DX_LAUNCH(missing_warp_barrier, 1, 32, 0, nullptr, out); }
DX_ENTRY(shuffle_as_barrier, float* out) { DX_LAUNCH(shuffle_as_barrier, 1, 32, 0, nullptr, out); }
DX_ENTRY(missing_second_barrier, float* out) { DX_LAUNCH(missing_second_barrier, 1, 64, 0, nullptr, out); }
DX_ENTRY(blocks_race, float* out) { DX_LAUNCH(blocks_race, 4, 32, 0, nullptr, out); }
DX_ENTRY(uninitialised, float* out) { DX_LAUNCH(uninitialised, 1, 4, 0, nullptr, out); }
DX_ENTRY(read_past_end, const float* x, float* out, int n) { DX_LAUNCH(read_past_end, 1, 1, 0, nullptr, x, out, n); }
DX_ENTRY(write_before_begin, float* out) { DX_LAUNCH(write_before_begin, 1, 1, 0, nullptr, out); }
DX_ENTRY(misaligned, const float* x, float* out) {
  DX_LAUNCH(misaligned, 1, 1, 0, nullptr, x, reinterpret_cast<float4*>(out));
}
DX_ENTRY(shared_past_end, float* out, int n) { DX_LAUNCH(shared_past_end, 1, 64, 0, nullptr, out, n); }
DX_ENTRY(dynamic_past_end, float* out, int n) { DX_LAUNCH(dynamic_past_end, 1, 64, 256, nullptr, out, n); }
DX_ENTRY(missed_barrier, int rounds) { DX_LAUNCH(missed_barrier, 1, 64, 0, nullptr, rounds); }
DX_ENTRY(divergent_barrier, int64_t) { DX_LAUNCH(divergent_barrier, 1, 64, 0, nullptr); }
DX_ENTRY(lane_not_in_mask, int64_t) { DX_LAUNCH(lane_not_in_mask, 1, 32, 0, nullptr); }
DX_ENTRY(masks_disagree, int64_t) { DX_LAUNCH(masks_disagree, 1, 32, 0, nullptr); }
DX_ENTRY(deadlock, int64_t) { DX_LAUNCH(deadlock, 1, 32, 0, nullptr); }
DX_ENTRY(launch_nothing, int64_t blocks, int64_t threads, int64_t shared_bytes) {
  DX_LAUNCH(nothing, static_cast<unsigned>(blocks), static_cast<unsigned>(threads), static_cast<size_t>(shared_bytes),
            nullptr);
}
DX_ENTRY(divide, int* out, int zero) { DX_LAUNCH(divide, 1, 1, 0, nullptr, out, zero); }
DX_ENTRY(shift, int* out, int by) { DX_LAUNCH(shift, 1, 1, 0, nullptr, out, by); }
DX_ENTRY(takes_numbers, double* out, double a, float b, int64_t c, bool d) {
  *out = a + b + static_cast<double>(c) + d;
}

// What the arithmetic of a GPU can do at most, measured: 2^x by its special function units, and multiply-adds. Eight
// chains in each thread keep the units busy while each chain waits for its last result.
#include <cuda_runtime.h>

namespace {

constexpr int kChains = 8;

struct Exponential {
  static __device__ float apply(float x) {
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(x) : "f"(-x));  // converges to 0.64: no overflow on the way
    return x;
  }
};

struct MultiplyAdd {
  static __device__ float apply(float x) { return fmaf(x, 0.999f, 0.001f); }
};

template <typename Operation>
__global__ void chains(float* out, int rounds) {
  float x[kChains];
  for (int c = 0; c < kChains; ++c) x[c] = float(threadIdx.x + c) * 1e-3f;
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int repeat = 0; repeat < 16; ++repeat)
#pragma unroll
      for (int c = 0; c < kChains; ++c) x[c] = Operation::apply(x[c]);
  }
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += x[c];
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}

}  // namespace

// Each thread does 128 operations in a round. Returns the error of the launch, 0 if there is none.
extern "C" int run_chains(int multiply_adds, float* out, int blocks, int threads, int rounds, cudaStream_t stream) {
  if (multiply_adds)
    chains<MultiplyAdd><<<blocks, threads, 0, stream>>>(out, rounds);
  else
    chains<Exponential><<<blocks, threads, 0, stream>>>(out, rounds);
  return int(cudaGetLastError());
}

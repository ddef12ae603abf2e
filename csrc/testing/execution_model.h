// Runs CUDA kernels on the CPU, from the source that nvcc compiles: one fiber per thread, blocks one after another.
//
// An error, not undefined behaviour, are: a barrier that some threads miss or meet at another line, a deadlock,
// warp operations whose lanes disagree, a launch that a GPU would refuse. Shared memory starts each block as NaN
// (all bits set). The environment variable DX_ORDER (fwd, rev, or the seed of a shuffle) changes the order of
// threads and blocks. checker.cpp adds data races, uninitialised shared memory and workspaces, and out-of-bounds
// accesses, whatever the order.
//
// It cannot see speed, weak memory ordering, or what a GPU rounds differently.
#pragma once

#if !defined(__x86_64__) || !defined(__linux__)
#error "the stand-in for the CUDA execution model switches fibers on x86-64 Linux only"
#endif

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <tuple>
#include <utility>

#include "cuda/stream.h"
#include "testing/execution_types.h"

namespace disentangle_ext::testing {

using Place = std::source_location;

// Where the running fiber is; `linear` numbers the threads of a block.
struct Coordinates {
  uint3 thread, block;
  dim3 block_size, grid_size;
  unsigned linear;
};
extern Coordinates here;
extern unsigned char* dynamic_shared;

enum class WarpOperation { synchronise, shuffle, vote };

struct WarpVote {
  unsigned lanes, ballot;  // who took part, and who of them voted yes
};

// Barrier of the block; returns how many threads came with a true predicate.
int block_barrier(bool predicate, const Place& place);
void warp_barrier(unsigned mask, const Place& place);
WarpVote warp_vote(unsigned mask, bool predicate, const Place& place);
uint64_t warp_shuffle(unsigned mask, uint64_t value, int source_lane, const Place& place);

// A kernel with its arguments, type-erased. The checker has to know where the arguments lie: kernels read them.
struct Call {
  void (*invoke)(const void* call);
  const void* data;
  size_t bytes;
};
void run(dim3 grid, dim3 block, size_t shared_bytes, const Call& call);

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
            Arguments&&... arguments) {
  struct Bound {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  };
  const Bound bound{kernel, std::tuple<Parameters...>(std::forward<Arguments>(arguments)...)};
  const auto invoke = [](const void* call) {
    const auto* b = static_cast<const Bound*>(call);
    std::apply(b->kernel, b->arguments);
  };
  run(grid, block, shared_bytes, {invoke, &bound, sizeof(bound)});
}

}  // namespace disentangle_ext::testing

#define DX_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ::disentangle_ext::testing::launch(kernel, grid, block, shared_bytes, stream __VA_OPT__(, ) __VA_ARGS__)
#define DX_DYNAMIC_SHARED(T, name) T* const name = reinterpret_cast<T*>(::disentangle_ext::testing::dynamic_shared)

#include "testing/execution_intrinsics.h"

// The launch in progress, for the execution model and its checker.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "testing/execution_model.h"

namespace disentangle_ext::testing {

// Of a block; more of it, dynamic, would need a call that the launchers do not make.
inline constexpr size_t kMostSharedBytes = 48 * 1024;

enum class State { running, at_block_barrier, at_warp_operation, exited };

struct Range {
  const char* begin = nullptr;
  size_t bytes = 0;
  bool contains(const void* address) const {
    return static_cast<size_t>(static_cast<const char*>(address) - begin) < bytes;
  }
};

struct Thread {
  uint3 index;
  unsigned linear;
  unsigned interval;  // block barriers it has passed
  State state;
  Place place;  // of the last barrier or warp operation

  WarpOperation operation;
  unsigned mask;
  int source_lane;
  uint64_t value, result;
  WarpVote vote;

  Range stack;
  void* stack_pointer;
};

struct Warp {
  unsigned alive, waiting;
};

struct Grid {
  unsigned launch_number = 0, block_number, block_count;
  unsigned threads_per_block, live, at_barrier;
  int votes, counted_votes;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Range static_shared, dynamic_shared;
  Call call;
  std::string error;

  bool is_shared(const void* address) const {
    return static_shared.contains(address) || dynamic_shared.contains(address);
  }
};

extern Grid grid;
extern Thread* current;
// False while the model, the checker or the host run: what they access is none of the checker's business.
extern bool in_kernel;

// Ends the launch with an error. On a fiber it does not return.
void fail(const std::string& message);

}  // namespace disentangle_ext::testing

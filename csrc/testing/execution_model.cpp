#include "testing/execution_model.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <memory>
#include <new>
#include <numeric>
#include <random>
#include <stdexcept>

#include "testing/execution_state.h"
#include "testing/fiber.h"

namespace disentangle_ext::testing {

Coordinates here{};
unsigned char* dynamic_shared = nullptr;
Grid grid;
Thread* current = nullptr;
bool in_kernel = false;

namespace {

// ---- switching between the scheduler and the fibers ----

constexpr size_t kStackBytes = 256 * 1024;

struct Scheduler {
  void* stack_pointer = nullptr;
  const void* stack_bottom = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;
} scheduler;

void suspend(bool for_good = false) {
  void* fake_stack = nullptr;
  announce_switch(for_good ? nullptr : &fake_stack, scheduler.stack_bottom, scheduler.stack_bytes);
  dx_switch_stack(&current->stack_pointer, scheduler.stack_pointer);
  announce_arrival(fake_stack, &scheduler.stack_bottom, &scheduler.stack_bytes);
}

void resume(Thread& thread) {
  current = &thread;
  here.thread = thread.index;
  here.linear = thread.linear;
  announce_switch(&scheduler.fake_stack, thread.stack.begin, thread.stack.bytes);
  dx_switch_stack(&scheduler.stack_pointer, thread.stack_pointer);
  announce_arrival(scheduler.fake_stack, nullptr, nullptr);
  current = nullptr;
}

// ---- messages ----

std::string describe(const uint3& p) {
  return "(" + std::to_string(p.x) + "," + std::to_string(p.y) + "," + std::to_string(p.z) + ")";
}

std::string describe(const Thread& thread) {
  std::string text = "block " + describe(here.block) + " thread " + describe(thread.index);
  if (!thread.place.line()) return text;
  const std::string file = thread.place.file_name();
  return text + " at " + file.substr(file.rfind('/') + 1) + ":" + std::to_string(thread.place.line());
}

bool same_line(const Place& a, const Place& b) {
  return a.line() == b.line() && !std::strcmp(a.file_name(), b.file_name());
}

// ---- warp operations: the last lane to arrive completes the operation for all of them ----

Thread* lane_zero(const Thread& thread) { return &grid.threads[thread.linear & ~31u]; }
Warp& warp_of(const Thread& thread) { return grid.warps[thread.linear / 32]; }

template <class Visit>
void for_each_lane(unsigned lanes, Visit visit) {
  for (; lanes; lanes &= lanes - 1) visit(std::countr_zero(lanes));
}

void complete_warp_operation(const Thread& first) {
  Warp& warp = warp_of(first);
  Thread* const lanes = lane_zero(first);
  WarpVote vote{first.mask & warp.alive, 0};
  for_each_lane(vote.lanes, [&](int lane) {
    const Thread& thread = lanes[lane];
    if (thread.mask != first.mask || thread.operation != first.operation)
      fail("warp operation with different masks or kinds: " + describe(first) + " and " + describe(thread));
    if (thread.value) vote.ballot |= 1u << lane;
  });
  for_each_lane(vote.lanes, [&](int lane) {
    Thread& thread = lanes[lane];
    const bool source_takes_part = vote.lanes >> thread.source_lane & 1;
    thread.result = source_takes_part ? lanes[thread.source_lane].value : ~uint64_t{0};  // undefined on a GPU: poison
    thread.vote = vote;
    thread.state = State::running;
  });
  warp.waiting &= ~vote.lanes;
  if (first.operation == WarpOperation::synchronise)
    checker_warp_barrier(lanes->linear, vote.lanes);  // the others do not order memory
}

bool all_lanes_arrived(const Thread& thread) {
  const Warp& warp = warp_of(thread);
  return !(thread.mask & warp.alive & ~warp.waiting);
}

Thread& warp_operation(WarpOperation operation, unsigned mask, uint64_t value, int source_lane, const Place& place) {
  in_kernel = false;
  Thread& thread = *current;
  thread.operation = operation, thread.mask = mask, thread.value = value, thread.source_lane = source_lane,
  thread.place = place;
  const unsigned lane = thread.linear & 31;
  if (!(mask >> lane & 1)) fail("warp operation whose mask lacks the calling lane: " + describe(thread));
  thread.state = State::at_warp_operation;
  warp_of(thread).waiting |= 1u << lane;
  if (all_lanes_arrived(thread))
    complete_warp_operation(thread);
  else
    suspend();
  in_kernel = true;
  return thread;
}

// ---- block barrier and exit ----

void release_block() {
  const Thread* first = nullptr;
  for (Thread& thread : grid.threads) {
    if (thread.state != State::at_block_barrier) continue;
    if (!first) first = &thread;
    if (!same_line(thread.place, first->place))
      return fail("divergent __syncthreads: " + describe(*first) + " and " + describe(thread));
    thread.state = State::running;
    ++thread.interval;
  }
  const unsigned exited = grid.threads_per_block - grid.live;
  if (first && exited)
    fail("__syncthreads after " + std::to_string(exited) + " of " + std::to_string(grid.threads_per_block) +
         " threads exited: " + describe(*first));
  grid.at_barrier = 0;
  grid.counted_votes = grid.votes;
  grid.votes = 0;
}

void leave_block() {
  Thread& thread = *current;
  Warp& warp = warp_of(thread);
  thread.state = State::exited;
  warp.alive &= ~(1u << (thread.linear & 31));
  for (unsigned lanes = warp.waiting; lanes;
       lanes &= warp.waiting & (lanes - 1)) {  // operations that waited only for this lane
    const Thread& other = lane_zero(thread)[std::countr_zero(lanes)];
    if (all_lanes_arrived(other)) complete_warp_operation(other);
  }
  --grid.live;
  if (grid.live && grid.at_barrier == grid.live) release_block();
}

void fiber_main() {
  announce_arrival(nullptr, &scheduler.stack_bottom, &scheduler.stack_bytes);
  in_kernel = true;
  grid.call.invoke(grid.call.data);
  in_kernel = false;
  leave_block();
  suspend(true);
  __builtin_trap();
}

// ---- shared memory ----

thread_local volatile char tls_anchor;  // touched, as the block is allocated at the first access

// The block of this library's thread_local variables: its shared arrays, and of the model itself only the anchor.
Range find_static_shared() {
  Range found;
#if !defined(__SANITIZE_ADDRESS__)
  tls_anchor = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* image, size_t, void* result) {
        bool ours = false;
        size_t bytes = 0;
        for (int i = 0; i < image->dlpi_phnum; ++i) {
          const auto& header = image->dlpi_phdr[i];
          const size_t offset = reinterpret_cast<uintptr_t>(&grid) - image->dlpi_addr - header.p_vaddr;
          ours |= header.p_type == PT_LOAD && offset < header.p_memsz;
          if (header.p_type == PT_TLS) bytes = header.p_memsz;
        }
        if (ours && image->dlpi_tls_data)
          *static_cast<Range*>(result) = {static_cast<char*>(image->dlpi_tls_data), bytes};
        return static_cast<int>(ours);
      },
      &found);
#endif
  return found;
}

void poison(const Range& memory) {
  if (memory.bytes)
    std::memset(const_cast<char*>(memory.begin), 0xff, memory.bytes);  // NaN as a float, -1 as an integer
}

// ---- stacks ----

constexpr char kCanary[] = "end of the stack";

char* all_stacks(unsigned count) {
  static char* stacks = nullptr;
  static unsigned available = 0;
  if (available < count) {
    if (stacks) munmap(stacks, available * kStackBytes);
    void* memory =
        mmap(nullptr, count * kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    stacks = static_cast<char*>(memory);
    available = count;
  }
  return stacks;
}

void assign_stacks() {
  char* const stacks = all_stacks(grid.threads_per_block);
  for (unsigned i = 0; i < grid.threads_per_block; ++i) {
    grid.threads[i].stack = {stacks + i * kStackBytes, kStackBytes};
    std::memcpy(stacks + i * kStackBytes, kCanary, sizeof(kCanary));
  }
}

void check_stacks() {
  for (const Thread& thread : grid.threads)
    if (grid.error.empty() && std::memcmp(thread.stack.begin, kCanary, sizeof(kCanary)))
      grid.error = "a kernel overran its stack";
}

// ---- launch ----

// The order in which blocks and threads take their turns.
class Order {
 public:
  Order(unsigned blocks, unsigned threads) : blocks_(blocks), threads_(threads) {
    std::iota(blocks_.begin(), blocks_.end(), 0u);
    std::iota(threads_.begin(), threads_.end(), 0u);
    const char* const variable = std::getenv("DX_ORDER");
    const std::string order = variable ? variable : "fwd";
    if (order == "fwd") return;
    shuffled_ = order != "rev";
    if (shuffled_) {
      if (order.empty() || order.find_first_not_of("0123456789") != std::string::npos)
        throw std::runtime_error("DX_ORDER is fwd, rev or a number, got " + order);
      random_.seed(static_cast<unsigned>(std::stoul(order)));
      std::shuffle(blocks_.begin(), blocks_.end(), random_);
    } else {
      std::reverse(blocks_.begin(), blocks_.end());
      std::reverse(threads_.begin(), threads_.end());
    }
  }
  const std::vector<unsigned>& blocks() const { return blocks_; }
  const std::vector<unsigned>& threads_of_next_round() {
    if (shuffled_) std::shuffle(threads_.begin(), threads_.end(), random_);
    return threads_;
  }

 private:
  std::vector<unsigned> blocks_, threads_;
  std::mt19937 random_;
  bool shuffled_ = false;
};

// What is static the checker counts, from what a kernel touches.
void check_configuration(dim3 size, dim3 block, size_t shared_bytes) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z, blocks = uint64_t{size.x} * size.y * size.z;
  if (!threads || threads > 1024 || block.z > 64)
    throw std::runtime_error("invalid launch: " + std::to_string(threads) + " threads a block");
  if (!blocks || size.x > 0x7fffffffu || size.y > 65535 || size.z > 65535)
    throw std::runtime_error("invalid launch: grid " + describe(uint3{size.x, size.y, size.z}));
  if (shared_bytes > kMostSharedBytes)
    throw std::runtime_error("invalid launch: " + std::to_string(shared_bytes) + " bytes of shared memory");
  if (blocks > 1u << 24) throw std::runtime_error("too many blocks for a host run: " + std::to_string(blocks));
}

uint3 unflatten(unsigned i, const dim3& size) { return {i % size.x, i / size.x % size.y, i / (size.x * size.y)}; }

void begin_grid(dim3 size, dim3 block, const Call& call) {
  here.block_size = block;
  here.grid_size = size;
  ++grid.launch_number;
  grid.call = call;
  grid.error.clear();
  grid.threads_per_block = block.x * block.y * block.z;
  grid.block_count = size.x * size.y * size.z;
  grid.threads.assign(grid.threads_per_block, Thread{});
  grid.warps.assign((grid.threads_per_block + 31) / 32, Warp{});
  assign_stacks();
}

void begin_block(unsigned number) {
  grid.block_number = number;
  here.block = unflatten(number, here.grid_size);
  grid.live = grid.threads_per_block;
  grid.at_barrier = 0;
  grid.votes = 0;
  for (unsigned i = 0; i < grid.warps.size(); ++i) {
    const unsigned lanes = std::min(32u, grid.threads_per_block - i * 32);
    grid.warps[i] = {~0u >> (32 - lanes), 0};
  }
  for (unsigned i = 0; i < grid.threads_per_block; ++i) {
    Thread& thread = grid.threads[i];
    thread.index = unflatten(i, here.block_size);
    thread.linear = i;
    thread.interval = 0;
    thread.state = State::running;
    thread.place = {};
    thread.stack_pointer = fresh_stack_pointer(const_cast<char*>(thread.stack.begin), thread.stack.bytes, fiber_main);
  }
  poison(grid.static_shared);
  poison(grid.dynamic_shared);
}

std::string describe_deadlock() {
  std::string text = "deadlock; waiting are";
  for (const Thread& thread : grid.threads)
    if (thread.state != State::exited && text.size() < 600)
      text += std::string("\n  ") + (thread.state == State::at_block_barrier ? "__syncthreads: " : "warp operation: ") +
              describe(thread);
  return text;
}

void run_block(unsigned number, Order& order) {
  begin_block(number);
  while (grid.live && grid.error.empty()) {
    bool moved = false;
    for (unsigned i : order.threads_of_next_round()) {
      Thread& thread = grid.threads[i];
      if (thread.state != State::running || !grid.error.empty()) continue;
      moved = true;
      resume(thread);
    }
    if (!moved && grid.error.empty()) grid.error = describe_deadlock();
  }
}

}  // namespace

void fail(const std::string& message) {
  if (grid.error.empty()) grid.error = message;
  if (!current) return;
  suspend();
  __builtin_trap();
}

int block_barrier(bool predicate, const Place& place) {
  in_kernel = false;
  current->place = place;
  current->state = State::at_block_barrier;
  grid.votes += predicate;
  if (++grid.at_barrier == grid.live)
    release_block();
  else
    suspend();
  in_kernel = true;
  return grid.counted_votes;
}

void warp_barrier(unsigned mask, const Place& place) { warp_operation(WarpOperation::synchronise, mask, 0, 0, place); }

WarpVote warp_vote(unsigned mask, bool predicate, const Place& place) {
  return warp_operation(WarpOperation::vote, mask, predicate, 0, place).vote;
}

uint64_t warp_shuffle(unsigned mask, uint64_t value, int source_lane, const Place& place) {
  return warp_operation(WarpOperation::shuffle, mask, value, source_lane, place).result;
}

void run(dim3 size, dim3 block, size_t shared_bytes, const Call& call) {
  check_configuration(size, block, shared_bytes);
  const std::unique_ptr<void, void (*)(void*)> shared(std::malloc(shared_bytes),
                                                      std::free);  // AddressSanitizer guards its ends
  dynamic_shared = static_cast<unsigned char*>(shared.get());
  begin_grid(size, block, call);
  grid.static_shared = find_static_shared();
  grid.dynamic_shared = {reinterpret_cast<const char*>(dynamic_shared), shared_bytes};
  Order order(grid.block_count, grid.threads_per_block);
  checker_begin_launch();
  for (unsigned number : order.blocks()) {
    run_block(number, order);
    if (!grid.error.empty()) break;
  }
  check_stacks();
  const std::string found = checker_end_launch();
  if (!found.empty()) grid.error += (grid.error.empty() ? "" : "\n") + found;
  if (!grid.error.empty()) throw std::runtime_error(grid.error);
}

}  // namespace disentangle_ext::testing

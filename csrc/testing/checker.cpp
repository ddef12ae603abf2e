// Data races, uninitialised shared memory and workspaces, and accesses outside of the watched buffers,
// found whatever the schedule.
//
// The kernels are compiled with g++ -fsanitize=thread, which calls __tsan_read4(address) and its kin at every access.
// This file answers those calls (libtsan is not linked, so the library loads into any program). Two accesses of one
// place, not both reads and not both atomic, are a race unless barriers order them:
//   in one block     by __syncthreads, or by __syncwarp within a warp
//   across blocks    only by __threadfence and then an atomic, before an atomic of the later block
#include "testing/checker.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "testing/execution_state.h"

namespace disentangle_ext::testing {
namespace {

enum class Kind : uint8_t { read, write, atomic };

struct Access {
  unsigned launch = 0, block = 0, interval = 0, clock = 0;
  uint16_t thread = 0;
  uint8_t bytes = 0;  // which of the word's four
  Kind kind = Kind::read;
  void* caller = nullptr;
};

// What is remembered of four bytes. Three readers are enough to meet any unordered writer of another warp or block.
struct Word {
  Access write, reads[3];
  unsigned initialised_launch = 0, initialised_block = 0;
  uint8_t initialised = 0;
};

// The words that kernels have touched, in pages.
class Memory {
 public:
  Word& word(uintptr_t address) {
    const uintptr_t number = address / 4, key = number / kPageWords;
    if (!last_page_ || key != last_key_) {
      auto& page = pages_[key];
      if (!page) page = std::make_unique<Page>();
      last_page_ = page.get(), last_key_ = key;
    }
    return last_page_->word[number % kPageWords];
  }

  // Between launches nothing has to be remembered. Pages are kept, as long as they are few, to save making them anew.
  void trim() {
    constexpr size_t most = 4096;  // 150 MB
    if (pages_.size() <= most) return;
    pages_.clear();
    last_page_ = nullptr;
  }

 private:
  static constexpr int kPageWords = 256;
  struct Page {
    Word word[kPageWords];
  };
  std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages_;
  uintptr_t last_key_ = 0;
  Page* last_page_ = nullptr;
};

struct Watched {
  Range range;
  std::string name;
  std::vector<bool> written;  // words of a workspace that kernels have written; empty for what the host filled
};

struct Findings {
  std::set<std::pair<void*, void*>> seen;
  unsigned count = 0;
  std::string text;
};

// Words of static shared memory that a launch touched: the kernel's own, for arrays of all
// kernels lie side by side here.
struct StaticShared {
  std::vector<bool> touched;
  size_t words = 0;

  void touch(uintptr_t address) {
    auto word = touched[(address - reinterpret_cast<uintptr_t>(grid.static_shared.begin)) / 4];
    words += !word;
    word = true;
  }
};

Memory memory;
StaticShared static_shared;
std::vector<Watched> watched;
std::vector<unsigned> clocks;  // thread x lane: what each thread knows of the clocks of its warp
std::vector<char> fenced;      // threads that executed a fence
std::vector<char> published;   // blocks that then did an atomic
unsigned acquiring_block = ~0u;
Findings findings;
bool uninitialised_is_bad = true;
Range image;  // constants and statics of this library

// While the checker works, nothing that it calls may report back to it.
struct Silence {
  Silence() { in_kernel = false; }
  ~Silence() { in_kernel = true; }
};

Watched* find_watched(const void* address, size_t bytes) {
  static size_t last = 0;
  const char* const end = static_cast<const char*>(address) + bytes - 1;
  const auto holds = [&](const Watched& w) { return w.range.contains(address) && w.range.contains(end); };
  if (last < watched.size() && holds(watched[last])) return &watched[last];
  const auto it = std::find_if(watched.begin(), watched.end(), holds);
  if (it == watched.end()) return nullptr;
  last = static_cast<size_t>(it - watched.begin());
  return &*it;
}

// ---- reports ----

std::string source_line(void* caller) {
  Dl_info info{};
  if (!caller || !dladdr(caller, &info) || !info.dli_fname) return "?";
  char command[700], line[2000] = "";
  const auto offset = static_cast<const char*>(caller) - 1 - static_cast<const char*>(info.dli_fbase);
  std::snprintf(command, sizeof(command), "addr2line -e '%s' %#tx 2>/dev/null", info.dli_fname, offset);
  if (FILE* pipe = popen(command, "r")) {
    if (std::fgets(line, sizeof(line), pipe)) line[std::strcspn(line, " \n")] = 0;
    pclose(pipe);
  }
  const char* slash = std::strrchr(line, '/');
  return slash ? slash + 1 : line;
}

const char* name_of(Kind kind) { return kind == Kind::read ? "read" : kind == Kind::write ? "write" : "atomic"; }

std::string describe(const Access& access) {
  const std::string thread = " by block " + std::to_string(access.block) + " thread " + std::to_string(access.thread);
  return name_of(access.kind) + thread + " at " + source_line(access.caller);
}

// Also for an address a little outside of a buffer, so that the message says by how much.
std::string name_of(uintptr_t address) {
  if (grid.is_shared(reinterpret_cast<void*>(address))) return "shared memory";
  constexpr ptrdiff_t outside = 256;
  for (const Watched& w : watched) {
    const auto offset = static_cast<ptrdiff_t>(address - reinterpret_cast<uintptr_t>(w.range.begin));
    const auto bytes = static_cast<ptrdiff_t>(w.range.bytes);
    if (offset > -outside && offset < bytes + outside)
      return w.name + ", byte " + std::to_string(offset) + " of " + std::to_string(bytes);
  }
  return "an unknown place";
}

void report(const char* what, uintptr_t address, const Access& access, const Access* earlier = nullptr) {
  constexpr size_t most = 20;
  ++findings.count;
  if (findings.seen.size() >= most ||
      !findings.seen.insert({earlier ? earlier->caller : nullptr, access.caller}).second)
    return;
  findings.text += std::string("\n  ") + what + " in " + name_of(address) + ": " + describe(access);
  if (earlier) findings.text += ", unordered with " + describe(*earlier);
}

// ---- the happens-before relation ----

bool current_launch(const Access& access, bool shared) {
  return access.launch == grid.launch_number && (!shared || access.block == grid.block_number);
}

bool ordered_before_now(const Access& access) {
  if (access.block != grid.block_number) return published[access.block] && acquiring_block == grid.block_number;
  if (access.thread == current->linear || access.interval != current->interval) return true;
  return access.thread / 32 == current->linear / 32 &&
         access.clock <= clocks[current->linear * 32 + access.thread % 32];
}

bool races(const Access& earlier, const Access& now, bool shared) {
  if (!(earlier.bytes & now.bytes) || !current_launch(earlier, shared)) return false;
  return !(earlier.kind == Kind::atomic && now.kind == Kind::atomic) && !ordered_before_now(earlier);
}

void check_race(const Word& word, uintptr_t address, const Access& now, bool shared) {
  if (races(word.write, now, shared)) report("data race", address, now, &word.write);
  if (now.kind == Kind::read) return;
  for (const Access& read : word.reads)
    if (races(read, now, shared)) return report("data race", address, now, &read);
}

// Marks the bytes as initialised from here on, and returns which of them were.
uint8_t initialise(Word& word, const Access& now) {
  if (word.initialised_launch != grid.launch_number || word.initialised_block != grid.block_number) {
    word.initialised_launch = grid.launch_number, word.initialised_block = grid.block_number;
    word.initialised = 0;
  }
  const auto before = static_cast<uint8_t>(word.initialised & now.bytes);
  word.initialised |= now.bytes;
  return before;
}

void remember(Word& word, const Access& now, bool shared) {
  if (now.kind != Kind::read) {
    word.write = now;
    return;
  }
  Access& latest = word.reads[0];
  if (current_launch(latest, shared) && (latest.thread != now.thread || latest.block != now.block)) {
    const bool same_warp = latest.block == now.block && latest.thread / 32 == now.thread / 32;
    word.reads[same_warp ? 1 : 2] = latest;
  }
  latest = now;
}

// ---- one access of any size ----

Access describe_access(Kind kind, void* caller) {
  const unsigned thread = current->linear;
  const unsigned clock = clocks[thread * 32 + thread % 32];
  return {
      grid.launch_number, grid.block_number, current->interval, clock, static_cast<uint16_t>(thread), 0, kind, caller};
}

bool is_private(const void* address) {
  const Range arguments{static_cast<const char*>(grid.call.data), grid.call.bytes};
  return current->stack.contains(address) || image.contains(address) || arguments.contains(address);
}

void access(void* address, size_t bytes, Kind kind, void* caller, bool must_be_aligned = false) {
  if (!in_kernel) return;
  const Silence silence;
  const bool shared = grid.is_shared(address);
  if (!shared && is_private(address)) return;
  const auto begin = reinterpret_cast<uintptr_t>(address);
  Access now = describe_access(kind, caller);
  Watched* const buffer = shared ? nullptr : find_watched(address, bytes);
  const bool inside = shared ? grid.is_shared(static_cast<char*>(address) + bytes - 1) : buffer != nullptr;
  if (!inside || (must_be_aligned && begin % bytes)) {
    report(inside ? "misaligned access" : "out of bounds", begin, now);
    fail("the kernel was stopped before a bad access");
  }
  bool some_missing = false, some_there = false, never_written = false;
  for (uintptr_t at = begin; at < begin + bytes;) {
    const unsigned offset = at % 4, count = static_cast<unsigned>(std::min<uintptr_t>(4 - offset, begin + bytes - at));
    now.bytes = static_cast<uint8_t>(((1u << count) - 1) << offset);
    Word& word = memory.word(at);
    check_race(word, at, now, shared);
    if (shared) {
      if (grid.static_shared.contains(address)) static_shared.touch(at);
      const uint8_t initialised = initialise(word, now);
      some_missing |= initialised != now.bytes;
      some_there |= initialised != 0;
    } else if (buffer->written.size()) {
      auto written = buffer->written[(at - reinterpret_cast<uintptr_t>(buffer->range.begin)) / 4];
      never_written |= !written;
      if (kind != Kind::read) written = true;
    }
    remember(word, now, shared);
    at += count;
  }
  const bool padded_vector =
      bytes > sizeof(double) && some_there;  // one load of elements and of the padding behind them
  if (uninitialised_is_bad && kind != Kind::write && some_missing && !padded_vector)
    report("uninitialised value", begin, now);
  if (kind == Kind::read && never_written) report("uninitialised value", begin, now);
}

Range find_image() {
  Range found;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        uintptr_t begin = ~uintptr_t{0}, end = 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          begin = std::min<uintptr_t>(begin, info->dlpi_addr + header.p_vaddr);
          end = std::max<uintptr_t>(end, info->dlpi_addr + header.p_vaddr + header.p_memsz);
        }
        const Range range{reinterpret_cast<const char*>(begin), end - begin};
        if (!range.contains(&grid)) return 0;
        *static_cast<Range*>(result) = range;
        return 1;
      },
      &found);
  return found;
}

}  // namespace

void checker_begin_launch() {
  clocks.assign(grid.threads_per_block * 32, 0);
  for (unsigned thread = 0; thread < grid.threads_per_block; ++thread) clocks[thread * 32 + thread % 32] = 1;
  fenced.assign(grid.threads_per_block, 0);
  published.assign(grid.block_count, 0);
  acquiring_block = ~0u;
  findings = {};
  static_shared = {std::vector<bool>(grid.static_shared.bytes / 4 + 1), 0};
  memory.trim();
  if (!image.bytes) image = find_image();
}

std::string checker_end_launch() {
  if (findings.count) return std::to_string(findings.count) + " bad accesses" + findings.text;
  const size_t own = 4 * static_shared.words, dynamic = grid.dynamic_shared.bytes;
  return own + dynamic <= kMostSharedBytes ? ""
                                           : "invalid launch: " + std::to_string(own) + " static and " +
                                                 std::to_string(dynamic) + " bytes of shared memory";
}

// Every lane learns what any of them knew, and starts a new interval of its own.
void checker_warp_barrier(unsigned first_thread, unsigned lanes) {
  unsigned joined[32] = {};
  for (unsigned left = lanes; left; left &= left - 1) {
    const unsigned* const known = &clocks[(first_thread + static_cast<unsigned>(std::countr_zero(left))) * 32];
    std::transform(joined, joined + 32, known, joined, [](unsigned a, unsigned b) { return std::max(a, b); });
  }
  for (unsigned left = lanes; left; left &= left - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(left));
    unsigned* const known = &clocks[(first_thread + lane) * 32];
    std::copy(joined, joined + 32, known);
    ++known[lane];
  }
}

void checker_atomic(void* address, size_t bytes, void* caller) {
  access(address, bytes, Kind::atomic, caller);
  if (!current) return;
  if (fenced[current->linear]) published[grid.block_number] = 1;
  acquiring_block = grid.block_number;
}

void checker_fence() {
  if (current) fenced[current->linear] = 1;
}

void watch(const void* begin, size_t bytes, const std::string& name, bool empty) {
  watched.push_back({{static_cast<const char*>(begin), bytes}, name, std::vector<bool>(empty ? (bytes + 3) / 4 : 0)});
}

void forget_watched() { watched.clear(); }

void report_uninitialised(bool on) { uninitialised_is_bad = on; }

}  // namespace disentangle_ext::testing

// ---- what g++ -fsanitize=thread calls ----

using disentangle_ext::testing::access;
using disentangle_ext::testing::Kind;

#define DX_TSAN extern "C" __attribute__((visibility("hidden"))) void
#define DX_CALLER __builtin_return_address(0)

DX_TSAN __tsan_init() {}
DX_TSAN __tsan_func_entry(void*) {}
DX_TSAN __tsan_func_exit() {}
DX_TSAN __tsan_vptr_update(void*, void*) {}
DX_TSAN __tsan_vptr_read(void*) {}
DX_TSAN __tsan_read_range(void* p, size_t bytes) { access(p, bytes, Kind::read, DX_CALLER); }
DX_TSAN __tsan_write_range(void* p, size_t bytes) { access(p, bytes, Kind::write, DX_CALLER); }

// A volatile access is as strong as an atomic one here: it is what a kernel polls a flag with.
#define DX_TSAN_SIZE(N)                                                                \
  DX_TSAN __tsan_read##N(void* p) { access(p, N, Kind::read, DX_CALLER, true); }       \
  DX_TSAN __tsan_write##N(void* p) { access(p, N, Kind::write, DX_CALLER, true); }     \
  DX_TSAN __tsan_unaligned_read##N(void* p) { access(p, N, Kind::read, DX_CALLER); }   \
  DX_TSAN __tsan_unaligned_write##N(void* p) { access(p, N, Kind::write, DX_CALLER); } \
  DX_TSAN __tsan_volatile_read##N(void* p) { access(p, N, Kind::atomic, DX_CALLER); }  \
  DX_TSAN __tsan_volatile_write##N(void* p) { access(p, N, Kind::atomic, DX_CALLER); }
DX_TSAN_SIZE(1)
DX_TSAN_SIZE(2)
DX_TSAN_SIZE(4)
DX_TSAN_SIZE(8)
DX_TSAN_SIZE(16)

// Threads: work is cut into tasks by shape alone, so results do not depend on how many threads run them.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>

namespace disentangle_ext::cpu {

// Calls run(task) for tasks 0 .. count - 1. A thread is woken only for work that outlasts the waking.
template <typename F>
void run_tasks(int64_t count, double nanoseconds_each, const F& run) {
  constexpr double kWorthwhile = 20000;  // nanoseconds a thread should have to do
  const auto grain = static_cast<int64_t>(std::clamp(kWorthwhile / std::max(nanoseconds_each, 1.0), 1.0, 1e9));
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) run(task);
  });
}

}  // namespace disentangle_ext::cpu

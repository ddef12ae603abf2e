// Entries for the kernels of permute_dims. A run of zero stands for the one that the shape would get; others
// force merges on small inputs.
#include "cuda/permute_dims.cuh"
#include "testing/entry.h"

namespace disentangle_ext::cuda {
namespace {

using testing::Workspace;

DX_ENTRY(permute_dims, int64_t problems, int64_t rows, int64_t D, int64_t columns_per_key, int64_t run, bool inverse,
         int64_t element_size, const int64_t* key, const void* in, void* out) {
  const PermuteDims a{problems, rows, D, columns_per_key, key, inverse, element_size, in, out};
  const PermutePlan plan = run ? PermutePlan::of(rows, run) : permute_plan(rows);
  const int64_t sorted = plan.merges() ? a.columns() * rows : 0;
  const Workspace<uint64_t> keys(sorted), other_keys(sorted);
  const Workspace<uint32_t> places(sorted), other_places(sorted);
  launch_permute_dims(a, plan, {{keys.get(), other_keys.get()}, {places.get(), other_places.get()}}, nullptr);
}

// One pass over keys that Philox would not give.
DX_ENTRY(merge_runs, int64_t columns, int64_t rows, int64_t run, const uint64_t* keys, const uint32_t* places,
         uint64_t* merged_keys, uint32_t* merged_places) {
  const int64_t blocks = (rows + kMergeThreads - 1) / kMergeThreads;
  DX_LAUNCH(merge_runs, unsigned(columns * blocks), kMergeThreads, 0, nullptr, keys, places, merged_keys, merged_places,
            uint32_t(rows), uint32_t(run), uint32_t(blocks));
}

}  // namespace
}  // namespace disentangle_ext::cuda

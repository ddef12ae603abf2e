#include "cuda/mmd.cuh"
#include "testing/entry.h"

namespace {

using namespace disentangle_ext;
using testing::Type;

// rbf in all widths, the other functions in one of them and without: all of them would take a minute to build.
template <typename T, MmdFunction function>
void launch(const cuda::MmdArguments<T>& a, const cuda::MmdPlan& plan) {
  if constexpr (function == MmdFunction::rbf)
    cuda::launch_mmd_width<T, function>(a, plan, nullptr);
  else if (a.D <= 10)
    cuda::launch_mmd_pairs<T, function, 10>(a, plan, nullptr);
  else
    cuda::launch_mmd_wide<T, function>(a, plan, nullptr);
}

template <typename T>
void forward(cuda::MmdArguments<T> a, const cuda::MmdPlan& plan) {
  const testing::Workspace<double> sums(a.problems * plan.items());
  const testing::Workspace<T> pulls(a.grad_x ? a.problems * plan.tiles() * (a.M + a.N) * a.D : 0);
  a.sums = sums.get();
  a.pulls = a.grad_x ? pulls.get() : nullptr;
  switch (a.function) {
    case MmdFunction::rbf: launch<T, MmdFunction::rbf>(a, plan); break;
    case MmdFunction::rq: launch<T, MmdFunction::rq>(a, plan); break;
    case MmdFunction::imq: launch<T, MmdFunction::imq>(a, plan); break;
    case MmdFunction::laplacian: launch<T, MmdFunction::laplacian>(a, plan); break;
    case MmdFunction::energy: launch<T, MmdFunction::energy>(a, plan); break;
  }
  cuda::launch_mmd_merge(a, plan, nullptr);
}

}  // namespace

// Tiles of `rows` rows; 0 takes the plan of the op.
DX_ENTRY(mmd_forward, const void* x, const void* y, const double* bandwidth, void* value, void* grad_x, void* grad_y,
         int64_t type, int64_t problems, int64_t M, int64_t N, int64_t D, int64_t K, int64_t problems_each,
         int64_t function, double exponent, int64_t biased, int64_t rows) {
  const cuda::MmdPlan plan = rows ? cuda::MmdPlan::of(M, N, rows) : cuda::mmd_plan(M, N);
  const auto run = [&]<typename T>(T) {
    cuda::MmdArguments<T> a{};
    a.x = static_cast<const T*>(x), a.y = static_cast<const T*>(y), a.bandwidth = bandwidth,
    a.value = static_cast<T*>(value);
    a.grad_x = static_cast<T*>(grad_x), a.grad_y = static_cast<T*>(grad_y);
    a.problems = problems, a.M = M, a.N = N, a.D = D, a.K = K, a.problems_each = problems_each;
    a.function = MmdFunction(function), a.exponent = exponent, a.biased = biased != 0;
    forward(a, plan);
  };
  Type(type) == Type::float32 ? run(0.0f) : run(0.0);
}

DX_ENTRY(mmd_plan, int64_t M, int64_t N, int64_t* out) {
  const cuda::MmdPlan plan = cuda::mmd_plan(M, N);
  out[0] = plan.rows, out[1] = plan.tiles(), out[2] = plan.items();
}

#include "cuda/mmd.cuh"
#include "testing/entry.h"

namespace {

using namespace disentangle_ext;
using testing::Type;

template <typename T>
void forward(cuda::MmdArguments<T> a, const void* x, const void* y, void* value, void* grad_x, void* grad_y, int64_t rows) {
  const cuda::MmdPlan plan = rows ? cuda::MmdPlan::of(a.M, a.N, rows) : cuda::mmd_plan(a.M, a.N);
  a.x = static_cast<const T*>(x), a.y = static_cast<const T*>(y), a.value = static_cast<T*>(value);
  a.grad_x = static_cast<T*>(grad_x), a.grad_y = static_cast<T*>(grad_y);
  const testing::Workspace<double> sums(a.problems * plan.items());
  const testing::Workspace<T> pulls(grad_x ? a.problems * plan.tiles() * (a.M + a.N) * a.D : 0);
  a.sums = sums.get();
  a.pulls = grad_x ? pulls.get() : nullptr;
  cuda::launch_mmd(a, plan, nullptr);
}

template <typename T>
cuda::MmdArguments<T> arguments(int64_t problems, int64_t M, int64_t N, int64_t D, const double* bandwidth, int64_t K, int64_t problems_each,
                                int64_t kernel, double exponent, bool biased) {
  return {nullptr, nullptr, problems, M, N, D, bandwidth, K, problems_each, MmdKernel(kernel), exponent, biased, nullptr, nullptr, nullptr, nullptr, nullptr};
}

}  // namespace

// Tiles of `rows` rows; 0 takes the plan of the op.
DX_ENTRY(mmd_forward, const void* x, const void* y, const double* bandwidth, void* value, void* grad_x, void* grad_y, int64_t type, int64_t problems,
         int64_t M, int64_t N, int64_t D, int64_t K, int64_t problems_each, int64_t kernel, double exponent, int64_t biased, int64_t rows) {
  if (Type(type) == Type::float32)
    forward(arguments<float>(problems, M, N, D, bandwidth, K, problems_each, kernel, exponent, biased != 0), x, y, value, grad_x, grad_y, rows);
  else
    forward(arguments<double>(problems, M, N, D, bandwidth, K, problems_each, kernel, exponent, biased != 0), x, y, value, grad_x, grad_y, rows);
}

DX_ENTRY(mmd_plan, int64_t M, int64_t N, int64_t* out) {
  const cuda::MmdPlan plan = cuda::mmd_plan(M, N);
  out[0] = plan.rows, out[1] = plan.tiles(), out[2] = plan.items();
}

// Entries for the kernels of rsample_kl and for the conversions of the half types. A tile size of zero stands for the
// plan that the shape would get; others force several tiles on small inputs.
#include "cuda/rsample_kl.cuh"
#include "testing/entry.h"

namespace disentangle_ext::cuda {
namespace {

using testing::Type;

template <typename F>
void with_storage(Type type, const F& f) {
  switch (type) {
    case Type::half: return f(Half{});
    case Type::bfloat16: return f(BFloat16{});
    case Type::float32: return f(float{});
    case Type::float64: return f(double{});
  }
}

struct Sizes {
  int64_t problems, rows, D, tile;

  template <typename S>
  RsamplePlan plan() const {
    constexpr int group = kRsampleGroup<S>;
    return tile ? RsamplePlan::of(rows, D, group, int(tile)) : rsample_plan(problems, rows, D, group);
  }
};

template <typename S>
const S* input(const void* p) {
  return static_cast<const S*>(p);
}

template <typename S>
S* output(void* p) {
  return static_cast<S*>(p);
}

DX_ENTRY(rsample_kl, int64_t type, int64_t problems, int64_t rows, int64_t D, int64_t tile, bool per_dimension,
         const int64_t* key, const void* mu, const void* logvar, void* z, void* kl) {
  with_storage(Type(type), [&](auto storage) {
    using S = decltype(storage);
    const RsampleKl<S> a{problems, rows, D, key, input<S>(mu), input<S>(logvar), output<S>(z), output<Compute<S>>(kl)};
    launch_rsample_kl(a, Sizes{problems, rows, D, tile}.plan<S>(), per_dimension, nullptr);
  });
}

DX_ENTRY(rsample_kl_backward, int64_t type, int64_t problems, int64_t rows, int64_t D, int64_t tile, bool per_dimension,
         const int64_t* key, const void* mu, const void* logvar, const void* grad_z, const void* grad_kl, void* grad_mu,
         void* grad_logvar) {
  with_storage(Type(type), [&](auto storage) {
    using S = decltype(storage);
    RsampleKlBackward<S> a{
        problems, rows,   D, key, input<S>(mu), input<S>(logvar), input<S>(grad_z), input<Compute<S>>(grad_kl),
        nullptr,  nullptr};
    a.grad_mu = output<S>(grad_mu), a.grad_logvar = output<S>(grad_logvar);
    launch_rsample_kl_backward(a, Sizes{problems, rows, D, tile}.plan<S>(), per_dimension, nullptr);
  });
}

// The conversions are plain functions: no kernel runs.
DX_ENTRY(narrow, int64_t type, int64_t n, const float* from, void* to) {
  for (int64_t i = 0; i < n; ++i) {
    if (Type(type) == Type::half) output<Half>(to)[i] = disentangle_ext::cuda::narrow<Half>(from[i]);
    if (Type(type) == Type::bfloat16) output<BFloat16>(to)[i] = disentangle_ext::cuda::narrow<BFloat16>(from[i]);
  }
}

DX_ENTRY(widen, int64_t type, int64_t n, const void* from, float* to) {
  for (int64_t i = 0; i < n; ++i)
    to[i] = Type(type) == Type::half ? disentangle_ext::cuda::widen(input<Half>(from)[i])
                                     : disentangle_ext::cuda::widen(input<BFloat16>(from)[i]);
}

}  // namespace
}  // namespace disentangle_ext::cuda

// Shapes and dtypes shared by the host functions of every device. Leading dimensions are independent problems.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <optional>

namespace disentangle_ext {

// [.., rows, D] as problems x rows x D.
struct Shape {
  int64_t problems, rows, D;

  explicit Shape(const at::Tensor& t) : problems(1), rows(t.size(-2)), D(t.size(-1)) {
    for (int64_t i = 0; i + 2 < t.dim(); ++i) problems *= t.size(i);
  }
};

// Half types are computed in float32.
inline at::ScalarType compute_type(const at::Tensor& t) {
  const at::ScalarType type = t.scalar_type();
  return type == at::kHalf || type == at::kBFloat16 ? at::kFloat : type;
}

// Tensor::to, but for the trip through the dispatcher where there is nothing to do.
inline at::Tensor cast(const at::Tensor& t, at::ScalarType type) { return t.scalar_type() == type ? t : t.to(type); }

inline at::Tensor prepare(const at::Tensor& t, at::ScalarType type) { return cast(t, type).contiguous(); }

inline at::Tensor prepare(const std::optional<at::Tensor>& t, at::ScalarType type) {
  return t.has_value() ? prepare(*t, type) : at::Tensor();
}

template <typename T>
const T* pointer(const at::Tensor& t) {
  return t.defined() ? t.const_data_ptr<T>() : nullptr;
}

// The Python wrappers explain bad input; these keep a direct call of the raw op from reading past the end.
inline void check_same(const at::Tensor& a, const at::Tensor& b, const char* op) {
  TORCH_CHECK(a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() && a.device() == b.device(), op,
              ": expected tensors of one shape, dtype and device, got ", a.toString(), " ", a.sizes(), " on ",
              a.device(), " and ", b.toString(), " ", b.sizes(), " on ", b.device());
}

// Tensors on different devices, which only a second GPU makes possible: a kernel would read them as its own.
inline void check_device(const at::Tensor& t, const at::Tensor& like, const char* what) {
  TORCH_CHECK(!t.defined() || t.device() == like.device(), what, " must be on ", like.device(), ", got ", t.device());
}

inline void check_components(const at::Tensor& z, const at::Tensor& mu, const at::Tensor& logvar, const char* op) {
  check_same(mu, logvar, op);
  TORCH_CHECK(z.dim() >= 2 && z.dim() == mu.dim() && z.scalar_type() == mu.scalar_type() && z.size(-1) == mu.size(-1) &&
                  z.sizes().slice(0, z.dim() - 2) == mu.sizes().slice(0, z.dim() - 2),
              op, ": expected z [.., M, D] and components [.., N, D] of one dtype, got ", z.sizes(), " and ",
              mu.sizes());
  TORCH_CHECK(z.device() == mu.device(), op, ": expected z and components on one device, got ", z.device(), " and ",
              mu.device());
}

inline void check_sizes(const at::Tensor& t, at::IntArrayRef sizes, const char* what) {
  TORCH_CHECK(!t.defined() || t.sizes() == sizes, what, " must have the shape ", sizes, ", got ", t.sizes());
}

// Elements of x that share one key [.., 2], whose leading dimensions are the first of x's, all
// but `own` of them at most.
inline int64_t elements_per_key(const at::Tensor& x, const at::Tensor& key, int64_t own, const char* op) {
  TORCH_CHECK(key.scalar_type() == at::kLong && key.dim() >= 1 && key.size(-1) == 2 && key.dim() - 1 <= x.dim() - own &&
                  key.sizes().slice(0, key.dim() - 1) == x.sizes().slice(0, key.dim() - 1),
              op, ": expected key int64 [.., 2] with the leading dimensions of ", x.sizes(), ", got ", key.toString(),
              " ", key.sizes());
  const int64_t keys = key.numel() / 2;
  return keys ? x.numel() / keys : 0;
}

}  // namespace disentangle_ext

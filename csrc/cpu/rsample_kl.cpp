#include <ATen/Dispatch.h>
#include <torch/library.h>

#include <vector>

#include "common/problems_host.h"
#include "cpu/pages_host.h"
#include "cpu/parallel.h"
#include "cpu/rsample_kl_kernels.h"

namespace disentangle_ext::cpu {
namespace {

using at::Tensor;

// The rows [first, last) of a problem, chunk by chunk. A chunk starts at a multiple of four elements, so that no
// counter is shared, and is a few tiles long.
struct Chunks {
  int64_t D, rows_per_key, rows_per_chunk, chunks_per_key, count;

  Chunks(int64_t numel, int64_t D_, int64_t elements_per_key) : D(D_) {
    rows_per_key = D ? elements_per_key / D : 0;
    rows_per_chunk = 4 * std::max<int64_t>(1, kTile / std::max<int64_t>(D, 1));
    chunks_per_key = (rows_per_key + rows_per_chunk - 1) / rows_per_chunk;
    count = elements_per_key ? numel / elements_per_key * chunks_per_key : 0;
  }

  template <typename F>
  void run(double nanoseconds_per_element, const F& f) const {
    run_tasks(count, nanoseconds_per_element * double(rows_per_chunk * D), [&](int64_t task) {
      const int64_t first = task % chunks_per_key * rows_per_chunk;
      f(task / chunks_per_key, first, std::min(first + rows_per_chunk, rows_per_key));
    });
  }
};

PhiloxKey key_at(const int64_t* keys, int64_t i) { return {uint64_t(keys[2 * i]), uint64_t(keys[2 * i + 1])}; }

std::tuple<Tensor, Tensor> rsample_kl_cpu(const Tensor& mu, const Tensor& logvar, const Tensor& key,
                                          bool per_dimension) {
  check_same(mu, logvar, "rsample_kl");
  const int64_t per_key = elements_per_key(mu, key, 1, "rsample_kl"), D = mu.size(-1);
  const at::ScalarType type = compute_type(mu);
  const Tensor m = prepare(mu, type), l = prepare(logvar, type), keys = key.contiguous();
  const Tensor z = empty_large(mu.sizes(), m.options());
  const Tensor kl = empty_large(per_dimension ? mu.sizes() : mu.sizes().slice(0, mu.dim() - 1), m.options());
  if (D == 0) kl.zero_();
  AT_DISPATCH_FLOATING_TYPES(type, "rsample_kl", [&] {
    const scalar_t *pm = m.const_data_ptr<scalar_t>(), *pl = l.const_data_ptr<scalar_t>();
    scalar_t *pz = z.mutable_data_ptr<scalar_t>(), *pk = kl.mutable_data_ptr<scalar_t>();
    Chunks(mu.numel(), D, per_key).run(2.0, [&](int64_t problem, int64_t first, int64_t last) {
      const int64_t at = problem * per_key, row = at / D;
      sample_rows(key_at(keys.const_data_ptr<int64_t>(), problem), first, last, D, pm + at, pl + at, pz + at,
                  per_dimension ? pk + at : pk + row, per_dimension);
    });
  });
  return {cast(z, mu.scalar_type()), kl};
}

// An incoming gradient with what it points to. A missing one is zero everywhere.
template <typename T>
struct GradientTiles {
  std::vector<T> tile;
  Tensor dense;

  explicit GradientTiles(const std::optional<Tensor>& gradient) {
    const bool present = gradient.has_value() && gradient->defined();
    if (present && !is_one_value(*gradient)) {
      dense = prepare(gradient, c10::CppTypeToScalarType<T>::value);
    } else {
      tile.assign(kTile, present && gradient->numel() ? gradient->flatten()[0].template item<T>() : T(0));
    }
  }

  Incoming<T> at(int64_t i) const {
    return dense.defined() ? Incoming<T>{dense.const_data_ptr<T>() + i, false} : Incoming<T>{tile.data(), true};
  }

  static bool is_one_value(const Tensor& t) {
    for (int64_t d = 0; d < t.dim(); ++d)
      if (t.size(d) > 1 && t.stride(d) != 0) return false;
    return true;
  }
};

std::tuple<Tensor, Tensor> rsample_kl_backward_cpu(const std::optional<Tensor>& grad_z,
                                                   const std::optional<Tensor>& grad_kl, const Tensor& mu,
                                                   const Tensor& logvar, const Tensor& key, bool per_dimension) {
  check_same(mu, logvar, "rsample_kl_backward");
  const int64_t per_key = elements_per_key(mu, key, 1, "rsample_kl_backward"), D = mu.size(-1);
  const at::ScalarType type = compute_type(mu);
  const Tensor m = prepare(mu, type), l = prepare(logvar, type), keys = key.contiguous();
  if (grad_z) check_sizes(*grad_z, mu.sizes(), "rsample_kl_backward: grad_z");
  if (grad_kl)
    check_sizes(*grad_kl, per_dimension ? mu.sizes() : mu.sizes().slice(0, mu.dim() - 1),
                "rsample_kl_backward: grad_kl");
  const Tensor grad_mu = empty_large(mu.sizes(), m.options()), grad_logvar = empty_large(mu.sizes(), m.options());
  AT_DISPATCH_FLOATING_TYPES(type, "rsample_kl_backward", [&] {
    const scalar_t *pm = m.const_data_ptr<scalar_t>(), *pl = l.const_data_ptr<scalar_t>();
    const GradientTiles<scalar_t> gz(grad_z), gk(grad_kl);
    scalar_t *pgm = grad_mu.mutable_data_ptr<scalar_t>(), *pgl = grad_logvar.mutable_data_ptr<scalar_t>();
    Chunks(mu.numel(), D, per_key).run(2.0, [&](int64_t problem, int64_t first, int64_t last) {
      const int64_t at = problem * per_key;
      sample_rows_backward(key_at(keys.const_data_ptr<int64_t>(), problem), first, last, D, pm + at, pl + at, gz.at(at),
                           gk.at(per_dimension ? at : at / D), per_dimension, pgm + at, pgl + at);
    });
  });
  return {cast(grad_mu, mu.scalar_type()), cast(grad_logvar, mu.scalar_type())};
}

}  // namespace
}  // namespace disentangle_ext::cpu

TORCH_LIBRARY_IMPL(disentangle_ext, CPU, m) {
  m.impl("rsample_kl", &disentangle_ext::cpu::rsample_kl_cpu);
  m.impl("rsample_kl_backward", &disentangle_ext::cpu::rsample_kl_backward_cpu);
}

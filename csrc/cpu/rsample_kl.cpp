#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "common/problems.h"
#include "cpu/parallel.h"
#include "cpu/rsample_kl_kernels.h"

namespace disentangle_ext::cpu {
namespace {

using at::Tensor;

// The rows [first, last) of a problem, chunk by chunk. A chunk starts at a multiple of four elements, so that no counter
// is shared, and is a few tiles long.
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

std::tuple<Tensor, Tensor> rsample_kl_cpu(const Tensor& mu, const Tensor& logvar, const Tensor& key, bool per_dimension) {
  check_same(mu, logvar, "rsample_kl");
  const int64_t per_key = elements_per_key(mu, key, 1, "rsample_kl"), D = mu.size(-1);
  const at::ScalarType type = compute_type(mu);
  const Tensor m = prepare(mu, type), l = prepare(logvar, type), keys = key.contiguous();
  const Tensor z = at::empty(mu.sizes(), m.options());
  const Tensor kl = at::empty(per_dimension ? mu.sizes() : mu.sizes().slice(0, mu.dim() - 1), m.options());
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

std::tuple<Tensor, Tensor> rsample_kl_backward_cpu(const std::optional<Tensor>& grad_z, const std::optional<Tensor>& grad_kl, const Tensor& mu,
                                                   const Tensor& logvar, const Tensor& key, bool per_dimension) {
  check_same(mu, logvar, "rsample_kl_backward");
  const int64_t per_key = elements_per_key(mu, key, 1, "rsample_kl_backward"), D = mu.size(-1);
  const at::ScalarType type = compute_type(mu);
  const Tensor m = prepare(mu, type), l = prepare(logvar, type), keys = key.contiguous();
  const Tensor gz = prepare(grad_z, type), gk = prepare(grad_kl, type);
  check_sizes(gz, mu.sizes(), "rsample_kl_backward: grad_z");
  check_sizes(gk, per_dimension ? mu.sizes() : mu.sizes().slice(0, mu.dim() - 1), "rsample_kl_backward: grad_kl");
  const Tensor grad_mu = at::empty(mu.sizes(), m.options()), grad_logvar = at::empty(mu.sizes(), m.options());
  AT_DISPATCH_FLOATING_TYPES(type, "rsample_kl_backward", [&] {
    const scalar_t *pm = m.const_data_ptr<scalar_t>(), *pl = l.const_data_ptr<scalar_t>();
    const scalar_t *pgz = pointer<scalar_t>(gz), *pgk = pointer<scalar_t>(gk);
    scalar_t *pgm = grad_mu.mutable_data_ptr<scalar_t>(), *pgl = grad_logvar.mutable_data_ptr<scalar_t>();
    Chunks(mu.numel(), D, per_key).run(2.0, [&](int64_t problem, int64_t first, int64_t last) {
      const int64_t at = problem * per_key, row = at / D;
      const scalar_t* kl = pgk ? pgk + (per_dimension ? at : row) : nullptr;
      sample_rows_backward(key_at(keys.const_data_ptr<int64_t>(), problem), first, last, D, pm + at, pl + at, pgz ? pgz + at : nullptr, kl,
                           per_dimension, pgm + at, pgl + at);
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

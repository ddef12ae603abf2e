// Adds the slices that the blocks of backward leave, in order, and the gradients of log q(z|x) and log p(z).
#pragma once

#include "cuda/aggregate_posterior_common.cuh"

namespace disentangle_ext::cuda {
namespace {

// One element's gradients of log q(z|x) and log p(z), weighted by those that come in.
template <typename T>
struct OwnGradient {
  T z = 0, mu = 0, logvar = 0;

  DX_INLINE OwnGradient(const AggregatePosterior<T>& s, const IncomingGradients<T>& in, const OutgoingGradients<T>& out,
                        int64_t at) {
    const int64_t row = at / s.D, problem = row / s.queries;
    const auto g = [&](int f) { return in.field(f, problem, row); };
    const T g_qzx = qzx_gradient(g), g_pz = pz_gradient(g);
    if (g_qzx == T(0) && g_pz == T(0)) return;  // as where only the total correlation is trained
    density_gradient(s.z[at], out.posterior_mu[at], out.posterior_logvar[at], g_qzx, g_pz, z, mu, logvar);
  }
};

template <typename T>
__device__ __forceinline__ void gather_query(const AggregatePosterior<T>& s, int64_t slices,
                                             const IncomingGradients<T>& in, const T* query,
                                             const OutgoingGradients<T>& out, int64_t at) {
  T dz = T(-2 * kLn2) * strided_sum(query + at, slices, s.rows() * s.D);
  if (out.posterior_mu) {
    const OwnGradient<T> own(s, in, out, at);
    dz += own.z;
    if (out.own_mu) out.own_mu[at] = own.mu, out.own_logvar[at] = own.logvar;
  }
  out.z[at] = dz;
}

template <typename T>
__device__ __forceinline__ void gather_component(const AggregatePosterior<T>& s, const GradientLayout<T>& layout,
                                                 const IncomingGradients<T>& in, const T* component,
                                                 const OutgoingGradients<T>& out, int64_t at) {
  const int width = layout.width(s.D), d = int(at % s.D);
  const int64_t j = at / s.D, stride = s.problems * s.components * width;
  const T* sums = component + j * width;
  T dmu = T(2 * kLn2) * strided_sum(sums + d, layout.component_slices, stride);
  T dlogvar = T(kLn2) * strided_sum(sums + s.D + d, layout.component_slices, stride);
  if (out.posterior_mu && !out.own_mu) {
    const OwnGradient<T> own(s, in, out, at);
    dmu += own.mu, dlogvar += own.logvar;
  }
  out.mu[at] = dmu, out.logvar[at] = dlogvar;
  if (!layout.learned || d > 0) return;
  T total = 0;
  for (int k = 2 * s.D; k < width; ++k) total += strided_sum(sums + k, layout.component_slices, stride);
  out.log_weight[j] = total;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    gather(AggregatePosterior<T> s, GradientLayout<T> layout, IncomingGradients<T> in, GradientSlices<T> slices,
           OutgoingGradients<T> out) {
  const int64_t queries = s.rows() * s.D, all = queries + s.problems * s.components * s.D;
  for (int64_t e = blockIdx.x * int64_t(kThreads) + threadIdx.x; e < all; e += gridDim.x * int64_t(kThreads)) {
    if (e < queries) {
      gather_query(s, layout.query_slices, in, slices.query, out, e);
    } else {
      gather_component(s, layout, in, slices.component, out, e - queries);
    }
  }
}

template <typename T>
void launch_gather(const AggregatePosterior<T>& s, const GradientLayout<T>& layout, const IncomingGradients<T>& in,
                   const GradientSlices<T>& slices, const OutgoingGradients<T>& out, cudaStream_t stream) {
  const int64_t elements = (s.rows() + s.problems * s.components) * s.D;
  const int64_t blocks = std::clamp<int64_t>(ceil_div(elements, kThreads), 1, 1 << 16);
  DX_LAUNCH((gather<T>), unsigned(blocks), kThreads, 0, stream, s, layout, in, slices, out);
}

}  // namespace
}  // namespace disentangle_ext::cuda

// Gradients of log q(z) and log q(z_d) on a CPU: the components' complete, block by block, the queries' in shares.
#pragma once

#include "cpu/aggregate_posterior_block.h"

namespace disentangle_ext::cpu {

// What backward reads and writes. g and h are the gradients of log q(z_i) and log q(z_id); the densities
// come back from the saved log-sum-exps as responsibilities, p_ij = exp(w_ij + sum_d l_ijd - log q(z_i)) and
// r_ijd likewise, both <= 1.
template <typename T>
struct AggregateProblemGradient {
  const T *log_qz, *marginals;  // [queries], [queries, D]
  const T *g, *h;               // [queries], [queries, D]
  T *mu, *logvar;               // [components, D], written
  T* log_weight;                // [components], written, or nullptr
};

namespace {

// Query-side constants of backward, in base 2 and relative to the reference.
template <typename T>
struct Queries {
  std::vector<T> joint_shift, g;     // [queries]
  std::vector<T> marginal_shift, h;  // [queries, D]
  std::vector<int64_t> far;          // queries left out of g and h, in ascending order
  bool finite;                       // whether no squared distance overflows
};

// Queries far from every component are left to float64, and in more than some hundred dimensions all of them.
template <typename T>
bool is_far(const Queries<T>& q, int64_t i, int64_t D) {
  bool far = unresolved(q.joint_shift[i]);
  for (int64_t d = 0; d < D; ++d) far |= unresolved(q.marginal_shift[i * D + d]);
  return far;
}

template <typename T>
DX_CLONES T largest(const T* x, int64_t n) {
  T top = 0;
  DX_SIMD_MAX(top)
  for (int64_t e = 0; e < n; ++e) top = std::abs(x[e]) > top ? std::abs(x[e]) : top;
  return top;
}

// A density of zero (log q = -inf) has zero gradients.
template <typename T>
Queries<T> queries_of(const AggregateProblem<T>& a, const Reference<T>& r, const AggregateProblemGradient<T>& grad) {
  const int64_t M = a.queries, D = a.D;
  Queries<T> q{std::vector<T>(M), std::vector<T>(M), std::vector<T>(M * D), std::vector<T>(M * D), {}, false};
  const auto set = [](double factor, T log_density, T gradient, T& shift, T& out) {
    const bool empty = log_density == -kInfinity<T>;
    shift = empty ? T(0) : T(kLog2e * (factor - double(log_density)));
    out = empty ? T(0) : gradient;
  };
  const Factors<T> factors(r);
  for (int64_t i = 0; i < M; ++i) {
    set(factors.joint, grad.log_qz[i], grad.g[i], q.joint_shift[i], q.g[i]);
    for (int64_t d = 0, at = i * D; d < D; ++d, ++at)
      set(factors.marginal[d], grad.marginals[at], grad.h[at], q.marginal_shift[at], q.h[at]);
    if (!is_far(q, i, D)) continue;
    q.far.push_back(i);
    // Not only the gradients: a sum of so many bits may round to more than the exponential takes.
    q.g[i] = 0, std::fill_n(q.h.begin() + i * D, D, T(0));
    q.joint_shift[i] = -kInfinity<T>, std::fill_n(q.marginal_shift.begin() + i * D, D, -kInfinity<T>);
  }
  constexpr T square_root = sizeof(T) == sizeof(float) ? T(1e18) : T(1e150);  // of what is far from infinite
  const T reach = largest(a.z, M * D) + largest(a.mu, a.components * D);
  q.finite = reach * scale_of(r.narrowest) <= square_root;
  return q;
}

// Queries after which the sums of a component's gradient, in T, are added to those in double: to a sum of many
// thousands of terms alone, T would add the next one with all but its leading bits cut off.
constexpr int64_t kRun = 512;

// Gradient sums of a block's components, transposed like the block: of a run of queries, and of all before it.
template <typename T>
struct BlockGradient {
  std::vector<T> storage;
  std::vector<double> total;
  T *mu, *logvar, *log_weight;  // [D, stride], [D, stride], [stride]

  explicit BlockGradient(const Block<T>& b) : total((2 * b.D + 1) * b.stride) {
    T* p = aligned(storage, int64_t(total.size()));
    mu = p, logvar = mu + b.D * b.stride, log_weight = logvar + b.D * b.stride;
  }
  void clear() {
    std::fill_n(mu, total.size(), T(0));
    std::fill(total.begin(), total.end(), 0.0);
  }
  void end_run() {
    for (size_t e = 0; e < total.size(); ++e) total[e] += double(mu[e]), mu[e] = T(0);
  }
};

// The power of two below which a responsibility counts as zero: they are at most 1 and add up to 1. Products of smaller
// ones with a gradient would be subnormal, on which a processor is slow. A narrow component's are not so small, since
// they are multiplied by its scale.
template <typename T>
T negligible_bits(const Reference<T>& r) {
  constexpr T usual = sizeof(T) == sizeof(float) ? T(-80) : T(-900), scale = 16;
  return std::clamp(usual + scale + T(kHalfNat) * r.narrowest, FloatFormat<T>::min_exponent, usual);
}

enum class Weighting { even, uneven, learned };

// Turns the joint densities of the group into g_i p_ij.
template <typename T, bool kWeighted>
DX_INLINE void joint_responsibilities(Block<T>& b, const T* const* z, const T* g, const T* shift, T negligible) {
  start_joint<kWeighted>(b);
  for (int q = 0; q < kGroup; ++q) {
    T* joint = b.joint + q * b.stride;
    for (int64_t d = 0; d < b.D; ++d) {
      const T *mu = b.mu + d * b.stride, *scale = b.scale + d * b.stride;
      const T zd = z[q][d];
      DX_SIMD
      for (int64_t j = 0; j < b.padded; ++j) {
        const T t = (zd - mu[j]) * scale[j];
        joint[j] -= t * t;
      }
    }
  }
  finish_joint<kWeighted>(b);
  for (int q = 0; q < kGroup; ++q) {
    T* joint = b.joint + q * b.stride;
    DX_SIMD
    for (int64_t j = 0; j < b.padded; ++j) joint[j] = g[q] * exp2_above(log2_share(joint[j] + shift[q]), negligible);
  }
}

// One query against one component in one dimension, with a = g_i p_ij + h_id r_ijd and r = h_id r_ijd. Returns the
// query's share of dz / (-2 ln 2 s_jd).
template <bool kFinite, typename T>
DX_INLINE T gradient_term(T z, T h, T shift, T gp, T m, T s, T peak, T negligible, T& dmu, T& dlogvar, T& r) {
  const T t = (z - m) * s;
  r = h * exp2_above(log2_share(peak + shift - t * t), negligible);
  return add_gradient<kFinite>(gp + r, t, dmu, dlogvar);
}

template <typename T, Weighting kWeighting, bool kFinite>
DX_CLONES void gradient_block(Block<T>& b, BlockGradient<T>& out, const T* const* z, const T* const* h,
                              const T* const* shift, const T* g, const T* joint_shift, T negligible, T* const* dz) {
  constexpr bool kEven = kWeighting == Weighting::even;
  joint_responsibilities<T, !kEven>(b, z, g, joint_shift, negligible);
  const int64_t n = b.padded;
  T *p0 = b.joint, *p1 = p0 + b.stride, *p2 = p1 + b.stride, *p3 = p2 + b.stride;
  const T *w0 = b.log2_weight, *w1 = w0 + b.stride, *w2 = w1 + b.stride, *w3 = w2 + b.stride;
  if (kWeighting == Weighting::learned)
    for (int64_t j = 0; j < n; ++j) out.log_weight[j] += p0[j] + p1[j] + p2[j] + p3[j];
  for (int64_t d = 0; d < b.D; ++d) {
    const T *mu = b.mu + d * b.stride, *scale = b.scale + d * b.stride, *peak = b.peak + d * b.stride;
    T *out_mu = out.mu + d * b.stride, *out_logvar = out.logvar + d * b.stride;
    const T z0 = z[0][d], z1 = z[1][d], z2 = z[2][d], z3 = z[3][d], h0 = h[0][d], h1 = h[1][d], h2 = h[2][d],
            h3 = h[3][d];
    const T b0 = shift[0][d], b1 = shift[1][d], b2 = shift[2][d], b3 = shift[3][d];
    T a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    DX_SIMD_SUM(a0, a1, a2, a3)
    for (int64_t j = 0; j < n; ++j) {
      const T m = mu[j], s = scale[j], p = peak[j], factor = kFinite ? s : finite_factor(s);
      T dmu = 0, dlogvar = 0, r0, r1, r2, r3;
      a0 += factor *
            gradient_term<kFinite>(z0, h0, kEven ? b0 : b0 + w0[j], p0[j], m, s, p, negligible, dmu, dlogvar, r0);
      a1 += factor *
            gradient_term<kFinite>(z1, h1, kEven ? b1 : b1 + w1[j], p1[j], m, s, p, negligible, dmu, dlogvar, r1);
      a2 += factor *
            gradient_term<kFinite>(z2, h2, kEven ? b2 : b2 + w2[j], p2[j], m, s, p, negligible, dmu, dlogvar, r2);
      a3 += factor *
            gradient_term<kFinite>(z3, h3, kEven ? b3 : b3 + w3[j], p3[j], m, s, p, negligible, dmu, dlogvar, r3);
      out_mu[j] += dmu;
      out_logvar[j] += dlogvar;
      if (kWeighting == Weighting::learned) out.log_weight[j] += (r0 + r1) + (r2 + r3);
    }
    const T last = T(-2 * kLn2);
    dz[0][d] += last * a0, dz[1][d] += last * a1, dz[2][d] += last * a2, dz[3][d] += last * a3;
  }
}

template <typename T, bool kFinite>
auto gradient_step(Weighting weighting) {
  switch (weighting) {
    case Weighting::even: return gradient_block<T, Weighting::even, kFinite>;
    case Weighting::uneven: return gradient_block<T, Weighting::uneven, kFinite>;
    default: return gradient_block<T, Weighting::learned, kFinite>;
  }
}

template <typename T>
void store_gradient(const Block<T>& b, const BlockGradient<T>& sums, const AggregateProblemGradient<T>& grad) {
  const double *mu = sums.total.data(), *logvar = mu + b.D * b.stride, *log_weight = logvar + b.D * b.stride;
  for (int64_t j = 0; j < b.count; ++j) {
    for (int64_t d = 0, at = (b.first + j) * b.D; d < b.D; ++d, ++at) {
      grad.mu[at] = T(2 * kLn2) * finite_factor(b.scale[d * b.stride + j]) * T(mu[d * b.stride + j]);
      grad.logvar[at] = T(kLn2 * logvar[d * b.stride + j]);
    }
    if (grad.log_weight) grad.log_weight[b.first + j] = T(log_weight[j]);
  }
}

}  // namespace

// Gradients from components first .. last: complete for these components, their share for the queries (added to dz).
template <typename T>
void log_densities_backward(const AggregateProblem<T>& a, const Reference<T>& r,
                            const AggregateProblemGradient<T>& grad, const Queries<T>& queries, int64_t first,
                            int64_t last, T* dz) {
  const int64_t D = a.D;
  Block<T> block(block_size<T>(last - first, D, 5), D);
  BlockGradient<T> sums(block);
  const T negligible = negligible_bits(r);
  std::vector<T> unused(2 * D, T(0));  // h = 0 and dz of the empty places of a group
  for (int64_t j = first; j < last; j += block.stride) {
    load_block(block, a, r, j, std::min(block.stride, last - j));
    sums.clear();
    for (int64_t i = 0; i < a.queries; i += kGroup) {
      const int count = int(std::min<int64_t>(kGroup, a.queries - i));
      const T *z[kGroup], *h[kGroup], *shift[kGroup];
      T *out[kGroup], g[kGroup], joint_shift[kGroup];
      for (int q = 0; q < kGroup; ++q) {
        const int64_t row = std::min(i + q, a.queries - 1);
        const bool used = q < count;
        z[q] = a.z + row * D;
        h[q] = used ? queries.h.data() + row * D : unused.data();
        shift[q] = queries.marginal_shift.data() + row * D;
        out[q] = used ? dz + row * D : unused.data() + D;
        g[q] = used ? queries.g[row] : T(0);
        joint_shift[q] = queries.joint_shift[row];
      }
      const bool uneven = load_weights(block, a, r, i, count);
      const Weighting weighting = grad.log_weight ? Weighting::learned : uneven ? Weighting::uneven : Weighting::even;
      const auto step = queries.finite ? gradient_step<T, true>(weighting) : gradient_step<T, false>(weighting);
      step(block, sums, z, h, shift, g, joint_shift, negligible, out);
      if ((i + kGroup) % kRun == 0) sums.end_run();
    }
    sums.end_run();
    store_gradient(block, sums, grad);
  }
}

}  // namespace disentangle_ext::cpu

// The aggregate posterior on a CPU: M queries against a mixture of N diagonal Gaussians in D dimensions, D + 1
// log-sum-exps per query, forward and backward. Plain pointers: torch stops at the host functions.
//
// In base 2, with s = sqrt(log2(e) / 2) exp(-logvar / 2) and c = -log2(e) / 2 (log 2 pi + logvar),
//     log2 q(z_d | x_j) = c_jd - t^2,   t = (z_d - mu_jd) s_jd.
// A density never exceeds its peak, so max_j c_jd (plus the largest log-weight) bounds every term of a marginal and is
// known before the sweep: subtracted from the constants once, it leaves a sum of exp2 without a running maximum. A
// marginal whose sum falls near the smallest float is summed again around its true maximum. The joint density is D
// times further below its bound, and only one exponential in D + 1: it takes its reference from each block.
//
// Components go through the first-level cache in blocks, transposed; queries in groups of kGroup share the loads.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "cpu/simd.h"
#include "math/exponential.h"
#include "math/log_weights.h"

namespace disentangle_ext::cpu {

template <typename T>
struct AggregateProblem {
  const T *z, *mu, *logvar;  // [queries, D], [components, D]
  int64_t queries, components, D;
  LogWeights<T> weights;
};

// Upper bounds of the D marginal densities and of the log-weights, in nats.
template <typename T>
struct Reference {
  std::vector<T> min_logvar;  // [D]
  T log_weight;
};

// What a sum relative to the reference is multiplied by, as logarithms in nats.
template <typename T>
struct Bounds {
  double joint;
  std::vector<double> marginal;  // [D]

  explicit Bounds(const Reference<T>& r) : joint(r.log_weight) {
    for (T logvar : r.min_logvar) {
      const double peak = -0.5 * (kLog2Pi + double(logvar));
      marginal.push_back(double(r.log_weight) + peak), joint += peak;
    }
  }
};

namespace {

constexpr int kGroup = 4;
constexpr int64_t kChunk = 64;  // queries that share a pass over the components
constexpr int kLanes = 16;      // a block is padded to this many components

template <typename T>
T* aligned(std::vector<T>& storage, int64_t size) {
  storage.assign(size + kCacheLine / sizeof(T), T(0));
  void* p = storage.data();
  size_t space = storage.size() * sizeof(T);
  return static_cast<T*>(std::align(kCacheLine, size * sizeof(T), p, space));
}

// Components a block holds so that `arrays` rows of D of them stay in a first-level cache of 32 KiB.
template <typename T>
int64_t block_size(int64_t components, int64_t D, int arrays) {
  const int64_t fits = 32768 / (sizeof(T) * std::max<int64_t>(D, 1) * arrays) / kLanes * kLanes;
  const int64_t needed = (components + kLanes - 1) / kLanes * kLanes;
  return std::min(needed, std::clamp<int64_t>(fits, 8 * kLanes, 256));
}

template <typename T>
struct Block {
  int64_t first = 0, count = 0, padded = 0, stride = 0, D = 0;
  std::vector<T> storage;
  T *mu, *scale, *peak;             // [D, stride]
  T* joint_peak;                    // [stride]
  T *log2_weight, *weight, *joint;  // [kGroup, stride]

  Block(int64_t stride_, int64_t D_) : stride(stride_), D(D_) {
    T* p = aligned(storage, (3 * D + 1 + 3 * kGroup) * stride);
    mu = p, scale = mu + D * stride, peak = scale + D * stride, joint_peak = peak + D * stride;
    log2_weight = joint_peak + stride, weight = log2_weight + kGroup * stride, joint = weight + kGroup * stride;
  }
};

template <typename T>
Reference<T> reference_of(const AggregateProblem<T>& m) {
  Reference<T> r{std::vector<T>(m.D, kInfinity<T>), m.weights.ordinary};
  for (int64_t j = 0; j < m.components; ++j)
    for (int64_t d = 0; d < m.D; ++d) r.min_logvar[d] = std::min(r.min_logvar[d], m.logvar[j * m.D + d]);
  if (m.weights.column) r.log_weight = *std::max_element(m.weights.column, m.weights.column + m.components);
  if (r.log_weight == -kInfinity<T>) r.log_weight = 0;
  return r;
}

// Loads and transposes components first .. first + count. Padding repeats the last one with a density of zero: a scale
// of zero would make NaN of an infinite query.
template <typename T>
DX_CLONES void load_block(Block<T>& b, const AggregateProblem<T>& m, const Reference<T>& r, int64_t first,
                          int64_t count) {
  b.first = first, b.count = count, b.padded = (count + kLanes - 1) / kLanes * kLanes;
  const T half_log2e = T(0.5 * kLog2e), root = T(0.84932180028801904272);  // sqrt(log2(e) / 2)
  const int64_t D = b.D;
  std::fill_n(b.joint_peak, count, T(0));
  std::fill(b.joint_peak + count, b.joint_peak + b.padded, -kInfinity<T>);
  for (int64_t d = 0; d < D; ++d) {
    const T *mu = m.mu + first * D + d, *logvar = m.logvar + first * D + d;
    T *out_mu = b.mu + d * b.stride, *out_scale = b.scale + d * b.stride, *out_peak = b.peak + d * b.stride;
    const T lowest = r.min_logvar[d];
    DX_SIMD
    for (int64_t j = 0; j < count; ++j) {
      const T l = logvar[j * D];
      out_mu[j] = mu[j * D];
      out_scale[j] = root * exp(T(-0.5) * l);
      out_peak[j] = half_log2e * (lowest - l);
      b.joint_peak[j] += out_peak[j];
    }
    for (int64_t j = count; j < b.padded; ++j)
      out_mu[j] = out_mu[count - 1], out_scale[j] = out_scale[count - 1], out_peak[j] = -kInfinity<T>;
  }
}

// Weights of `count` queries from `query` on against the block, relative to the largest; false if all are ordinary.
template <typename T>
bool load_weights(Block<T>& b, const AggregateProblem<T>& m, const Reference<T>& r, int64_t query, int count) {
  const LogWeights<T>& w = m.weights;
  int64_t at[2];
  T log_weight[2];
  bool uneven = w.column != nullptr;
  for (int q = 0; q < count && w.stratified() && !uneven; ++q) {
    w.exceptions(query + q, at, log_weight);
    for (int64_t j : at) uneven |= j >= b.first && j < b.first + b.count;
  }
  if (!uneven) return false;
  for (int q = 0; q < count; ++q) {
    T* row = b.log2_weight + q * b.stride;
    for (int64_t j = 0; j < b.count; ++j) row[j] = w.column ? (w.column[b.first + j] - r.log_weight) * T(kLog2e) : T(0);
    if (w.stratified()) {
      w.exceptions(query + q, at, log_weight);
      for (int e = 0; e < 2; ++e)
        if (at[e] >= b.first && at[e] < b.first + b.count)
          row[at[e] - b.first] = (log_weight[e] - r.log_weight) * T(kLog2e);
    }
    for (int64_t j = 0; j < b.count; ++j) b.weight[q * b.stride + j] = row[j] == -kInfinity<T> ? T(0) : exp2(row[j]);
    for (int64_t j = b.count; j < b.padded; ++j) row[j] = b.weight[q * b.stride + j] = T(0);
  }
  return true;
}

// joint[q][j] = log2 of the weighted joint density at its peak, relative to the bounds.
template <typename T>
DX_INLINE void start_joint(Block<T>& b, bool weighted) {
  for (int q = 0; q < kGroup; ++q) {
    T* joint = b.joint + q * b.stride;
    const T* row = b.log2_weight + q * b.stride;
    if (weighted) {
      for (int64_t j = 0; j < b.padded; ++j) joint[j] = b.joint_peak[j] + row[j];
    } else {
      std::copy_n(b.joint_peak, b.padded, joint);
    }
  }
}

// A sum of 2^x_j kept as 2^max * sum: the maximum is taken over a row, the sum rescaled once a row.
template <typename T>
struct OnlineSum {
  T max = -kInfinity<T>;
  double sum = 0;

  DX_INLINE void add(const T* x, int64_t n) {
    T top = -kInfinity<T>, part = 0;
    DX_SIMD_MAX(top)
    for (int64_t j = 0; j < n; ++j) top = x[j] > top ? x[j] : top;
    if (top == -kInfinity<T>) {  // nothing but zeros, or NaN, which no comparison sees
      for (int64_t j = 0; j < n; ++j) sum += x[j] == x[j] ? 0.0 : double(x[j]);
      return;
    }
    if (top > max) sum *= double(exp2(max - top)), max = top;
    const T shift = max;
    DX_SIMD_SUM(part)
    for (int64_t j = 0; j < n; ++j) part += exp2(x[j] - shift);
    sum += double(part);
  }

  double log2() const { return sum == 0 ? -kInfinity<double> : double(max) + std::log2(sum); }
};

// Adds the block's part of each marginal to sums[q][d] and of the joint density to joint[q].
template <typename T, bool kWeighted>
DX_CLONES void sum_block(Block<T>& b, int queries, const T* const* z, double* const* sums, OnlineSum<T>* const* joint) {
  start_joint(b, kWeighted);
  T *g0 = b.joint, *g1 = g0 + b.stride, *g2 = g1 + b.stride, *g3 = g2 + b.stride;
  const T *w0 = b.weight, *w1 = w0 + b.stride, *w2 = w1 + b.stride, *w3 = w2 + b.stride;
  const int64_t n = b.padded;
  for (int64_t d = 0; d < b.D; ++d) {
    const T *mu = b.mu + d * b.stride, *scale = b.scale + d * b.stride, *peak = b.peak + d * b.stride;
    const T z0 = z[0][d], z1 = z[1][d], z2 = z[2][d], z3 = z[3][d];
    T a0 = 0, a1 = 0, a2 = 0, a3 = 0;
    DX_SIMD_SUM(a0, a1, a2, a3)
    for (int64_t j = 0; j < n; ++j) {
      const T m = mu[j], s = scale[j], p = peak[j];
      const T t0 = (z0 - m) * s, t1 = (z1 - m) * s, t2 = (z2 - m) * s, t3 = (z3 - m) * s;
      g0[j] -= t0 * t0, g1[j] -= t1 * t1, g2[j] -= t2 * t2, g3[j] -= t3 * t3;
      a0 += exp2(p - t0 * t0) * (kWeighted ? w0[j] : T(1));
      a1 += exp2(p - t1 * t1) * (kWeighted ? w1[j] : T(1));
      a2 += exp2(p - t2 * t2) * (kWeighted ? w2[j] : T(1));
      a3 += exp2(p - t3 * t3) * (kWeighted ? w3[j] : T(1));
    }
    sums[0][d] += a0, sums[1][d] += a1, sums[2][d] += a2, sums[3][d] += a3;
  }
  for (int q = 0; q < queries; ++q) joint[q]->add(b.joint + q * b.stride, n);
}

// out[i, d] = bounds[d] + log(sums[i, d]); false if a sum is too small to be trusted.
template <typename T>
DX_CLONES bool logs_of_sums(int64_t rows, int64_t D, const double* sums, const double* bounds, double threshold,
                            T* out) {
  int small = 0;
  DX_SIMD_SUM(small)
  for (int64_t e = 0; e < rows * D; ++e) {
    small += sums[e] < threshold;
    out[e] = log(T(sums[e]));
  }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t d = 0; d < D; ++d) out[i * D + d] = T(bounds[d] + double(out[i * D + d]));
  return small == 0;
}

// log q(z_id) around its true maximum, for a query far from every component.
template <typename T>
double marginal_online(const AggregateProblem<T>& m, int64_t i, int64_t d) {
  constexpr int64_t kRow = 256;
  T row[kRow];
  OnlineSum<T> total;
  const T z = m.z[i * m.D + d];
  for (int64_t first = 0; first < m.components; first += kRow) {
    const int64_t n = std::min(kRow, m.components - first);
    for (int64_t j = 0; j < n; ++j) {
      const T l = m.logvar[(first + j) * m.D + d], t = z - m.mu[(first + j) * m.D + d];
      row[j] = T(kLog2e) * (m.weights(i, first + j) - T(0.5) * (T(kLog2Pi) + l + t * t * exp(-l)));
    }
    total.add(row, n);
  }
  return kLn2 * total.log2();
}

}  // namespace

// log q(z_i) and log q(z_id) of queries first .. last.
template <typename T>
void log_densities(const AggregateProblem<T>& m, const Reference<T>& r, int64_t first, int64_t last, T* log_qz,
                   T* marginals) {
  const int64_t D = m.D;
  Block<T> block(block_size<T>(m.components, D, 3), D);
  std::vector<double> sums((kChunk + 1) * D);  // one row more, where the empty places of a group add
  const double threshold = double(m.components) * (sizeof(T) == 4 ? 0x1p-100 : 0x1p-960);
  const Bounds<T> bounds(r);
  for (int64_t chunk = first; chunk < last; chunk += kChunk) {
    const int64_t count = std::min(kChunk, last - chunk);
    OnlineSum<T> joint[kChunk];
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t j = 0; j < m.components; j += block.stride) {
      load_block(block, m, r, j, std::min(block.stride, m.components - j));
      for (int64_t i = 0; i < count; i += kGroup) {
        const int queries = int(std::min<int64_t>(kGroup, count - i));
        const T* z[kGroup];
        double* rows[kGroup];
        OnlineSum<T>* joints[kGroup];
        for (int q = 0; q < kGroup; ++q) {
          z[q] = m.z + (chunk + std::min(i + q, count - 1)) * D;
          rows[q] = sums.data() + (q < queries ? i + q : kChunk) * D;
          joints[q] = joint + std::min(i + q, count - 1);
        }
        if (load_weights(block, m, r, chunk + i, queries)) {
          sum_block<T, true>(block, queries, z, rows, joints);
        } else {
          sum_block<T, false>(block, queries, z, rows, joints);
        }
      }
    }
    for (int64_t i = 0; i < count; ++i) log_qz[chunk + i] = T(bounds.joint + kLn2 * joint[i].log2());
    T* out = marginals + chunk * D;
    if (logs_of_sums(count, D, sums.data(), bounds.marginal.data(), threshold, out)) continue;
    for (int64_t e = 0; e < count * D; ++e)
      if (sums[e] < threshold) out[e] = T(marginal_online(m, chunk + e / D, e % D));
  }
}

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

// Query-side constants of backward, in base 2 and relative to the bounds.
template <typename T>
struct Queries {
  std::vector<T> z;                  // [queries, D]
  std::vector<T> joint_shift, g;     // [queries]
  std::vector<T> marginal_shift, h;  // [queries, D]
  std::vector<int64_t> far;          // queries left out of g and h, in ascending order
};

// In float32, a shift of 2^8 bits leaves its exponential an error of 1e-5: queries as far as that from every component,
// and in more than some hundred dimensions all of them, are left to float64.
template <typename T>
bool is_far(const Queries<T>& q, int64_t i, int64_t D) {
  constexpr T kFar = 256;
  if (sizeof(T) != sizeof(float)) return false;
  bool far = q.joint_shift[i] > kFar;
  for (int64_t d = 0; d < D; ++d) far |= q.marginal_shift[i * D + d] > kFar;
  return far;
}

// A density of zero (log q = -inf) has zero gradients. Its query may be infinite, or have an infinite square, which
// times zero is not zero: the query is moved onto a component first.
template <typename T>
Queries<T> queries_of(const AggregateProblem<T>& m, const Reference<T>& r, const AggregateProblemGradient<T>& grad) {
  const int64_t M = m.queries, D = m.D;
  Queries<T> q{std::vector<T>(m.z, m.z + M * D),
               std::vector<T>(M),
               std::vector<T>(M),
               std::vector<T>(M * D),
               std::vector<T>(M * D),
               {}};
  const auto set = [](double bound, T log_density, T gradient, T& shift, T& out) {
    const bool empty = log_density == -kInfinity<T>;
    shift = empty ? T(0) : T(kLog2e * (bound - double(log_density)));
    out = empty ? T(0) : gradient;
    return empty;
  };
  const Bounds<T> bounds(r);
  for (int64_t i = 0; i < M; ++i) {
    set(bounds.joint, grad.log_qz[i], grad.g[i], q.joint_shift[i], q.g[i]);
    for (int64_t d = 0, at = i * D; d < D; ++d, ++at)
      if (set(bounds.marginal[d], grad.marginals[at], grad.h[at], q.marginal_shift[at], q.h[at])) q.z[at] = m.mu[d];
    if (!is_far(q, i, D)) continue;
    q.far.push_back(i);
    q.g[i] = 0, std::fill_n(q.h.begin() + i * D, D, T(0));
  }
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

// Responsibilities below this power of two count as zero: they are at most 1 and add up to 1. Products of smaller ones
// with a gradient would be subnormal, on which a processor is slow.
template <typename T>
inline constexpr T kNegligible = sizeof(T) == sizeof(float) ? T(-80) : T(-900);

template <typename T>
inline constexpr T kLargest = sizeof(T) == sizeof(float) ? T(1e37) : T(1e300);

enum class Weighting { even, uneven, learned };

// Turns the joint densities of the group into g_i p_ij.
template <typename T>
DX_INLINE void joint_responsibilities(Block<T>& b, const T* const* z, const T* g, const T* shift, bool weighted) {
  start_joint(b, weighted);
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
    DX_SIMD
    for (int64_t j = 0; j < b.padded; ++j) joint[j] = g[q] * exp2(joint[j] + shift[q], kNegligible<T>);
  }
}

// With a = g_i p_ij + h_id r_ijd: dz_id -= a (z - mu) / var, dmu_jd += a (z - mu) / var and dlogvar_jd += a / 2
// ((z - mu)^2 / var - 1). Here (z - mu)^2 / var = 2 ln(2) t^2; `at` leaves s_jd to the end. This is one query against
// one component in one dimension; r = h_id r_ijd. Returns the query's share of dz / (-2 ln 2).
template <typename T>
DX_INLINE T gradient_term(T z, T h, T shift, T gp, T m, T s, T peak, T& dmu, T& dlogvar, T& r) {
  const T t = (z - m) * s, t2 = t * t;
  r = h * exp2(peak + shift - t2, kNegligible<T>);
  const T a = gp + r, at = a * t;
  dmu += at;
  const T bounded = t2 > kLargest<T> ? kLargest<T> : t2;  // a narrow component may be infinitely far, and a zero
  dlogvar += a * (T(kLn2) * bounded - T(0.5));
  return at * s;
}

template <typename T, Weighting kWeighting>
DX_CLONES void gradient_block(Block<T>& b, BlockGradient<T>& out, const T* const* z, const T* const* h,
                              const T* const* shift, const T* g, const T* joint_shift, T* const* dz) {
  constexpr bool kEven = kWeighting == Weighting::even;
  joint_responsibilities(b, z, g, joint_shift, !kEven);
  const int64_t n = b.padded;
  T *p0 = b.joint, *p1 = p0 + b.stride, *p2 = p1 + b.stride, *p3 = p2 + b.stride;
  const T *w0 = b.weight, *w1 = w0 + b.stride, *w2 = w1 + b.stride, *w3 = w2 + b.stride;
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
      const T m = mu[j], s = scale[j], p = peak[j];
      T dmu = 0, dlogvar = 0, r0, r1, r2, r3;
      a0 += gradient_term(z0, kEven ? h0 : h0 * w0[j], b0, p0[j], m, s, p, dmu, dlogvar, r0);
      a1 += gradient_term(z1, kEven ? h1 : h1 * w1[j], b1, p1[j], m, s, p, dmu, dlogvar, r1);
      a2 += gradient_term(z2, kEven ? h2 : h2 * w2[j], b2, p2[j], m, s, p, dmu, dlogvar, r2);
      a3 += gradient_term(z3, kEven ? h3 : h3 * w3[j], b3, p3[j], m, s, p, dmu, dlogvar, r3);
      out_mu[j] += dmu;
      out_logvar[j] += dlogvar;
      if (kWeighting == Weighting::learned) out.log_weight[j] += (r0 + r1) + (r2 + r3);
    }
    const T factor = T(-2 * kLn2);
    dz[0][d] += factor * a0, dz[1][d] += factor * a1, dz[2][d] += factor * a2, dz[3][d] += factor * a3;
  }
}

template <typename T>
void store_gradient(const Block<T>& b, const BlockGradient<T>& sums, const AggregateProblemGradient<T>& grad) {
  const double *mu = sums.total.data(), *logvar = mu + b.D * b.stride, *log_weight = logvar + b.D * b.stride;
  for (int64_t j = 0; j < b.count; ++j) {
    for (int64_t d = 0, at = (b.first + j) * b.D; d < b.D; ++d, ++at) {
      grad.mu[at] = T(2 * kLn2) * b.scale[d * b.stride + j] * T(mu[d * b.stride + j]);
      grad.logvar[at] = T(logvar[d * b.stride + j]);
    }
    if (grad.log_weight) grad.log_weight[b.first + j] = T(log_weight[j]);
  }
}

}  // namespace

// Gradients from components first .. last: complete for these components, their share for the queries (added to dz).
template <typename T>
void log_densities_backward(const AggregateProblem<T>& m, const Reference<T>& r,
                            const AggregateProblemGradient<T>& grad, const Queries<T>& queries, int64_t first,
                            int64_t last, T* dz) {
  const int64_t D = m.D;
  Block<T> block(block_size<T>(last - first, D, 5), D);
  BlockGradient<T> sums(block);
  std::vector<T> unused(3 * D, T(0));  // h = 0, shift = 0 and dz of the empty places of a group
  for (int64_t j = first; j < last; j += block.stride) {
    load_block(block, m, r, j, std::min(block.stride, last - j));
    sums.clear();
    for (int64_t i = 0; i < m.queries; i += kGroup) {
      const int count = int(std::min<int64_t>(kGroup, m.queries - i));
      const T *z[kGroup], *h[kGroup], *shift[kGroup];
      T *out[kGroup], g[kGroup], joint_shift[kGroup];
      for (int q = 0; q < kGroup; ++q) {
        const int64_t row = std::min(i + q, m.queries - 1);
        const bool used = q < count;
        z[q] = queries.z.data() + row * D;
        h[q] = used ? queries.h.data() + row * D : unused.data();
        shift[q] = used ? queries.marginal_shift.data() + row * D : unused.data() + D;
        out[q] = used ? dz + row * D : unused.data() + 2 * D;
        g[q] = used ? queries.g[row] : T(0);
        joint_shift[q] = used ? queries.joint_shift[row] : T(0);
      }
      const bool uneven = load_weights(block, m, r, i, count);
      const auto step = grad.log_weight ? gradient_block<T, Weighting::learned>
                        : uneven        ? gradient_block<T, Weighting::uneven>
                                        : gradient_block<T, Weighting::even>;
      step(block, sums, z, h, shift, g, joint_shift, out);
      if ((i + kGroup) % kRun == 0) sums.end_run();
    }
    sums.end_run();
    store_gradient(block, sums, grad);
  }
}

}  // namespace disentangle_ext::cpu

// The aggregate posterior on a CPU, what both directions share: one problem, its components in blocks, their constants.
//
// A density never exceeds its peak, so the highest peak (and the largest log-weight) is a reference that is known
// before the sweep: subtracted from the constants once, it leaves sums of exp2 without a running maximum. It is not
// that of a component so narrow that next to its peak the constants of broader ones would be lost.
//
// Components go through the first-level cache in blocks, transposed; queries in groups of kGroup share the loads.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/simd.h"
#include "math/density.h"
#include "math/log_weights.h"

namespace disentangle_ext::cpu {

template <typename T>
struct AggregateProblem {
  const T *z, *mu, *logvar;  // [queries, D], [components, D]
  int64_t queries, components, D;
  LogWeights<T> weights;
};

// What the constants of the components are relative to, in nats.
template <typename T>
struct Reference {
  std::vector<T> logvar;  // [D]
  T log_weight;
  T narrowest;  // the smallest logvar of all that are below zero
};

// The smallest logvar that is a reference where there are broader ones. With it, a narrower component's peak is at most
// 2^99 in float32 and 2^951 in float64, which leaves room to add up 2^28 of them.
template <typename T>
inline constexpr T kLowestReference = sizeof(T) == sizeof(float) ? T(-40) : T(-100);

// What a sum relative to the reference is multiplied by, as logarithms in nats.
template <typename T>
struct Factors {
  double joint;
  std::vector<double> marginal;  // [D]

  explicit Factors(const Reference<T>& r) : joint(r.log_weight) {
    for (T logvar : r.logvar) {
      const double peak = -0.5 * (kLog2Pi + double(logvar));
      marginal.push_back(double(r.log_weight) + peak), joint += peak;
    }
  }
};

namespace {

constexpr int kGroup = 4;
constexpr int64_t kChunk = 64;     // queries that share a pass over the components
constexpr double kHighPeak = 512;  // of a joint density, in bits
constexpr int kLanes = 16;         // a block is padded to this many components

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
  T *mu, *scale, *peak;       // [D, stride]
  T* joint_peak;              // [stride]
  T *log2_weight, *joint;     // [kGroup, stride]
  std::vector<double> peaks;  // [stride]: sums over D, of which T would lose digits
  bool high;                  // whether a joint_peak is above kHighPeak, or as far below zero

  Block(int64_t stride_, int64_t D_) : stride(stride_), D(D_), peaks(stride_), high(false) {
    T* p = aligned(storage, (3 * D + 1 + 2 * kGroup) * stride);
    mu = p, scale = mu + D * stride, peak = scale + D * stride, joint_peak = peak + D * stride;
    log2_weight = joint_peak + stride, joint = log2_weight + kGroup * stride;
  }
};

template <typename T>
Reference<T> reference_of(const AggregateProblem<T>& a) {
  // Finite also where all logvars are infinite.
  Reference<T> r{std::vector<T>(a.D, -kLowest<T>), a.weights.ordinary, T(0)};
  std::vector<T> broadest(a.D, kNarrowest<T>);
  for (int64_t j = 0; j < a.components; ++j)
    for (int64_t d = 0; d < a.D; ++d) {
      const T logvar = a.logvar[j * a.D + d];
      r.logvar[d] = std::min(r.logvar[d], logvar), broadest[d] = std::max(broadest[d], logvar);
    }
  for (int64_t d = 0; d < a.D; ++d) {
    r.narrowest = std::min(r.narrowest, r.logvar[d]);
    r.logvar[d] = std::max(r.logvar[d], std::min(broadest[d], kLowestReference<T>));
  }
  if (a.weights.column) r.log_weight = *std::max_element(a.weights.column, a.weights.column + a.components);
  if (r.log_weight == -kInfinity<T>) r.log_weight = 0;
  return r;
}

// Loads and transposes components first .. first + count. Padding repeats the last one with a density of zero: a scale
// of zero would make NaN of an infinite query.
template <typename T>
DX_CLONES void load_block(Block<T>& b, const AggregateProblem<T>& a, const Reference<T>& r, int64_t first,
                          int64_t count) {
  b.first = first, b.count = count, b.padded = (count + kLanes - 1) / kLanes * kLanes;
  const int64_t D = b.D;
  double* peaks = b.peaks.data();
  std::fill_n(peaks, count, 0.0);
  for (int64_t d = 0; d < D; ++d) {
    const T *mu = a.mu + first * D + d, *logvar = a.logvar + first * D + d;
    T *out_mu = b.mu + d * b.stride, *out_scale = b.scale + d * b.stride, *out_peak = b.peak + d * b.stride;
    const T reference = r.logvar[d];
    DX_SIMD
    for (int64_t j = 0; j < count; ++j) {
      const T l = logvar[j * D];
      out_mu[j] = mu[j * D];
      out_scale[j] = scale_of(l);
      out_peak[j] = peak_of(l, reference);
      peaks[j] += double(out_peak[j]);
    }
    for (int64_t j = count; j < b.padded; ++j)
      out_mu[j] = out_mu[count - 1], out_scale[j] = out_scale[count - 1], out_peak[j] = -kInfinity<T>;
  }
  b.high = false;
  for (int64_t j = 0; j < count; ++j) b.joint_peak[j] = T(peaks[j]), b.high |= std::abs(peaks[j]) > kHighPeak;
  std::fill(b.joint_peak + count, b.joint_peak + b.padded, -kInfinity<T>);
}

// Log-weights of `count` queries from `query` on against the block, relative to the largest and in bits; false if all
// are ordinary.
template <typename T>
bool load_weights(Block<T>& b, const AggregateProblem<T>& a, const Reference<T>& r, int64_t query, int count) {
  const LogWeights<T>& w = a.weights;
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
    for (int64_t j = b.count; j < b.padded; ++j) row[j] = T(0);
  }
  return true;
}

// Adds the joint densities at their peaks, weighted, to joint[q][j], or puts them there.
template <bool kWeighted, bool kAdd, typename T>
DX_INLINE void put_joint_peaks(Block<T>& b) {
  for (int q = 0; q < kGroup; ++q) {
    T* joint = b.joint + q * b.stride;
    const T* row = b.log2_weight + q * b.stride;
    DX_SIMD
    for (int64_t j = 0; j < b.padded; ++j) {
      const T peak = kWeighted ? b.joint_peak[j] + row[j] : b.joint_peak[j];
      joint[j] = kAdd ? joint[j] + peak : peak;
    }
  }
}

// joint[q][j] is log2 of the weighted joint density relative to the reference, once the squared distances have been
// taken off between these two. Next to a high peak they would lose digits: it comes last.
template <bool kWeighted, typename T>
DX_INLINE void start_joint(Block<T>& b) {
  if (!b.high) return put_joint_peaks<kWeighted, false>(b);
  std::fill_n(b.joint, kGroup * b.stride, T(0));
}

template <bool kWeighted, typename T>
DX_INLINE void finish_joint(Block<T>& b) {
  if (b.high) put_joint_peaks<kWeighted, true>(b);
}

}  // namespace
}  // namespace disentangle_ext::cpu

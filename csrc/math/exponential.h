// Exponentials and logarithm without branches or library calls, so that a loop over them vectorises.
//
// All reduce their argument to an integer n and a remainder f with the magic-number trick: adding 1.5 * 2^p (p the
// mantissa width) rounds to an integer that then sits in the low bits of the sum. Reassociating that sum away breaks
// them: never compile with -fassociative-math.
#pragma once

#include <cmath>
#include <type_traits>

#include "math/portable.h"

namespace disentangle_ext {

template <typename T>
struct FloatFormat;

template <>
struct FloatFormat<float> {
  using Bits = int32_t;
  static constexpr int mantissa = 23;
  static constexpr float magic = 12582912.0f;
  static constexpr float min_exponent = -126.0f;
  static constexpr float max_exponent = 127.0f;
};

template <>
struct FloatFormat<double> {
  using Bits = int64_t;
  static constexpr int mantissa = 52;
  static constexpr double magic = 6755399441055744.0;
  static constexpr double min_exponent = -1022.0;
  static constexpr double max_exponent = 1023.0;
};

// Horner's rule, coefficients from the constant term up.
template <typename T, int N>
DX_INLINE T polynomial(T x, const T (&c)[N]) {
  T p = c[N - 1];
  DX_UNROLL
  for (int i = N - 2; i >= 0; --i) p = p * x + c[i];
  return p;
}

// (2^f - 1) / f on [-1/2, 1/2], so that 2^f = 1 + f exp2_slope(f): minimax in the relative error of
// that (1.1e-7 in float32).
DX_INLINE float exp2_slope(float f) {
  const float c[] = {0.6931470036506653f, 0.24022242426872253f, 0.05550733581185341f, 0.009671512059867382f,
                     0.0013264728477224708f};
  return polynomial(f, c);
}

DX_INLINE double exp2_slope(double f) {
  const double c[] = {0.69314718055994533046,     0.24022650695910156204,   0.055504108664819921605,
                      0.0096181291075883352443,   0.0013333558146789921722, 0.00015403530462514432062,
                      0.000015252733489988525649, 1.321543308967639918e-6,  1.0178198021671930844e-7,
                      7.0741056135081427963e-9,   4.4352827069572771511e-10};
  return polynomial(f, c);
}

// p * 2^n, where `rounded` = n + magic. Not for a NaN: the sum of its bits and others may be a number.
template <typename T>
DX_INLINE T scale_by_power(T p, T rounded) {
  using F = FloatFormat<T>;
  using Bits = typename F::Bits;
  using Unsigned = std::make_unsigned_t<Bits>;
  const auto shifted = static_cast<Unsigned>(bit_cast<Bits>(rounded)) << F::mantissa;
  return bit_cast<T>(static_cast<Unsigned>(bit_cast<Bits>(p)) + shifted);
}

// 2^x for min_exponent - 1 <= x <= max_exponent.
//
// With max_exponent added to the magic number, the low bits of `rounded` are the exponent field of 2^n.
// Multiplying by it costs no more than adding n to the bits of 2^f, and leaves a NaN one, whatever its bits:
// those of a GPU are all ones.
template <typename T>
DX_INLINE T exp2_in_range(T x) {
  using F = FloatFormat<T>;
  using Bits = std::make_unsigned_t<typename F::Bits>;
  constexpr T magic = F::magic + F::max_exponent;
  const T rounded = x + magic;
  const T f = x - (rounded - magic);
  const T power = bit_cast<T>(bit_cast<Bits>(rounded) << F::mantissa);
  return power * f * exp2_slope(f) + power;
}

// 2^x for x <= max_exponent, and zero below `lowest`, which is not below min_exponent - 1.
template <typename T>
DX_INLINE T exp2_above(T x, T lowest) {
  const T value = exp2_in_range(x);
  return x < lowest ? T(0) : value;
}

// 2^x for x <= max_exponent, and zero below min_exponent - 1/2. A GPU has an instruction for it in float32, good to
// 2 ulp, that takes any x; so does what stands in for it where kernels of a GPU run on the host.
template <typename T>
DX_INLINE T exp2(T x) {
  using F = FloatFormat<T>;
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == sizeof(float)) {
    float value;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
    return value;
  }
#elif defined(DX_HOST_RUN)
  if (sizeof(T) == sizeof(float) && x > F::max_exponent) return std::exp2(x);
#endif
  constexpr T least = F::min_exponent - 1;
  return exp2_in_range(x < least ? least : x);
}

// e^x to about 1 ulp over the whole range: 0 below, infinity above, and a NaN for a NaN. The reduction
// subtracts n ln 2 in two parts.
template <typename T>
DX_INLINE T exp(T x) {
  using F = FloatFormat<T>;
  constexpr bool is_float = sizeof(T) == 4;
  constexpr T ln2_high = is_float ? T(0.693359375) : T(0.693147180369123816490);
  constexpr T ln2_low = is_float ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
  const T lowest = F::min_exponent * T(kLn2), highest = (F::max_exponent + T(0.5)) * T(kLn2);
  T y = x < lowest ? lowest : x;
  y = y > highest ? highest : y;
  const T rounded = y * T(kLog2e) + F::magic;
  const T n = rounded - F::magic;
  const T f = ((y - n * ln2_high) - n * ln2_low) * T(kLog2e);
  const T value = scale_by_power(exp2_slope(f) * f + T(1), rounded);
  return x < lowest ? T(0) : (x <= highest ? value : x + kInfinity<T>);
}

// e^x - 1 - x without cancellation near 0: a minimax polynomial (relative error 2.5e-8 in float32) for |x| <= 1/2.
DX_INLINE float expm1_minus_x_small(float x) {
  const float c[] = {0.50000001201398616f,   0.16666665455856159f,   0.041665795941261017f,
                     0.0083334521677391046f, 0.0013981997387840296f, 0.00019875630849965856f};
  return x * x * polynomial(x, c);
}

DX_INLINE double expm1_minus_x_small(double x) {
  const double c[] = {0.5,
                      0.16666666666666666608,
                      0.041666666666666667516,
                      0.0083333333333333993096,
                      0.0013888888888888516027,
                      0.00019841269841058174357,
                      0.000024801587302162505178,
                      2.7557319514826350593e-6,
                      2.7557318859508326272e-7,
                      2.5051914226814863013e-8,
                      2.0876830002520092091e-9,
                      1.6121221354706992212e-10,
                      1.1483673942833005554e-11};
  return x * x * polynomial(x, c);
}

// `exp_x` is exp(x), which callers have at hand.
template <typename T>
DX_INLINE T expm1_minus_x(T x, T exp_x) {
  const T small = expm1_minus_x_small(x);
  const T large = exp_x - T(1) - x;
  return x * x <= T(0.25) ? small : large;
}

// e^x - 1 by the same. Where x is very low its last bit is larger than 1, and adding it would leave nothing of the -1.
template <typename T>
DX_INLINE T expm1(T x, T exp_x) {
  const T low = x < T(-1024) ? T(-1024) : x;
  return expm1_minus_x(low, exp_x) + low;
}

// log(1 + f) for f in [1 / sqrt(2) - 1, sqrt(2) - 1], as 2 atanh(f / (2 + f)). In float32 on a CPU, a division costs
// more than the longer polynomial of f + f^2 R(f), R minimax in the relative error (7e-8 with rounding); on a GPU that
// one takes registers from kernels that have none to spare.
DX_INLINE float log1p_reduced(float f) {
#if defined(__CUDA_ARCH__)
  const float s = f / (2 + f), s2 = s * s;
  const float c[] = {2.0f, 2.0f / 3, 2.0f / 5, 2.0f / 7, 2.0f / 9};
  return s * polynomial(s2, c);
#else
  const float c[] = {-0.49999988079071045f, 0.33333325386047363f,  -0.25001582503318787f,
                     0.2000197321176529f,   -0.16609083116054535f, 0.14181825518608093f,
                     -0.13242988288402557f, 0.1290443241596222f,   -0.07621777057647705f};
  return f * f * polynomial(f, c) + f;
#endif
}

DX_INLINE double log1p_reduced(double f) {
  const double s = f / (2 + f), s2 = s * s;
  const double c[] = {2.0,      2.0 / 3,  2.0 / 5,  2.0 / 7,  2.0 / 9, 2.0 / 11,
                      2.0 / 13, 2.0 / 15, 2.0 / 17, 2.0 / 19, 2.0 / 21};
  return s * polynomial(s2, c);
}

// x = m 2^e with m in [1 / sqrt(2), sqrt(2)), for positive normal x: adding the distance of sqrt(1/2) from 1 to the
// bits carries into the exponent where m would be too large.
template <typename T>
DX_INLINE void split(T x, T& m, T& e) {
  using F = FloatFormat<T>;
  using Bits = typename F::Bits;
  const Bits one = bit_cast<Bits>(T(1)), shift = one - bit_cast<Bits>(T(0.70710678118654752440));
  const Bits exponent =
      (Bits(std::make_unsigned_t<Bits>(bit_cast<Bits>(x)) + shift) >> F::mantissa) - (one >> F::mantissa);
  m = bit_cast<T>(Bits(bit_cast<Bits>(x) - (exponent << F::mantissa)));
  e = T(exponent);
}

// log(1 + x) for x >= 0: the logarithm of the rounded sum, corrected by what the rounding left out.
template <typename T>
DX_INLINE T log(T x);

template <typename T>
DX_INLINE T log1p(T x) {
  const T sum = T(1) + x;
  return log(sum) + (x - (sum - T(1))) / sum;
}

// Natural logarithm of a positive normal number. x - x is zero, but for a NaN, which `split` would lose.
template <typename T>
DX_INLINE T log(T x) {
  T m, e;
  split(x, m, e);
  return log1p_reduced(m - T(1)) + e * T(kLn2) + (x - x);
}

}  // namespace disentangle_ext

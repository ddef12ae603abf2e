// The short way from Python into the ops, for the calls that training loops make: plain tensors on a device with
// kernels, no transform, no autocast, nothing unusual in the options. A call that is not plainly valid is declined with
// None, and takes the long way through disentangle_ext/ops, which explains errors and serves the rest. Both ways end in
// the same raw op, so they return the same numbers.
#include "eager.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/PythonTorchFunctionTLS.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/DistributionsHelper.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <torch/csrc/Exceptions.h>
#include <torch/csrc/autograd/python_variable.h>

#include <array>
#include <cmath>
#include <limits>
#include <mutex>
#include <string_view>

#include "common/dispatch_host.h"
#include "math/elbo_fields.h"
#include "math/log_weights.h"
#include "math/mmd_functions.h"

namespace disentangle_ext {
namespace {

namespace py = pybind11;
using at::Tensor;

bool has_kernels(const Tensor& t) {
#ifdef DISENTANGLE_EXT_CUDA
  if (t.is_cuda()) return true;
#endif
  return t.is_cpu();
}

// The tensor in an argument, or nullptr for anything that is more than a plain one.
const Tensor* plain(py::handle argument) {
  if (!THPVariable_CheckExact(argument.ptr())) return nullptr;
  const Tensor& t = THPVariable_Unpack(argument.ptr());
  const bool strided = t.layout() == at::kStrided && !t.is_nested() && !t.is_quantized();
  return strided && has_kernels(t) ? &t : nullptr;
}

// Whether a transform or a mode wants to see what is called, or autocast to change what it gets.
bool observed(const Tensor& t) {
  using c10::DispatchKey, c10::impl::tls_is_dispatch_key_included;
  return tls_is_dispatch_key_included(DispatchKey::FuncTorchDynamicLayerFrontMode) ||
         tls_is_dispatch_key_included(DispatchKey::Python) || at::impl::torch_function_mode_enabled() ||
         at::autocast::is_autocast_enabled(t.device().type());
}

bool is_float(const Tensor& t) { return at::isFloatingType(t.scalar_type()) && t.element_size() >= 2; }

bool same(const Tensor& a, const Tensor& b) {
  return a.scalar_type() == b.scalar_type() && a.device() == b.device() && a.sizes() == b.sizes();
}

std::string_view text(py::handle argument) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_Check(argument.ptr()) ? PyUnicode_AsUTF8AndSize(argument.ptr(), &size) : "";
  if (!data) throw py::error_already_set();
  return {data, size_t(size)};
}

// The place of a name in a list, or -1.
template <size_t kCount>
int64_t index_of(py::handle argument, const std::array<std::string_view, kCount>& names) {
  const std::string_view name = text(argument);
  for (size_t i = 0; i < kCount; ++i)
    if (names[i] == name) return int64_t(i);
  return -1;
}

py::tuple wrap(const Tensor* tensors, size_t count) {
  py::tuple out(count);
  for (size_t i = 0; i < count; ++i) PyTuple_SET_ITEM(out.ptr(), Py_ssize_t(i), THPVariable_Wrap(tensors[i]));
  return out;
}

py::object wrap(const Tensor& tensor) { return py::reinterpret_steal<py::object>(THPVariable_Wrap(tensor)); }

// Whether the key is to be drawn, from the default generator.
bool drawn(py::handle generator, py::handle key) { return key.is_none() && generator.is_none(); }

// What rng.py draws: randint over the widest range that it can express. On a CPU it is written out, since an operator
// costs more than two integers.
Tensor draw_key(const Tensor& like) {
  constexpr int64_t kLow = std::numeric_limits<int64_t>::min(), kHigh = std::numeric_limits<int64_t>::max();
  if (!like.is_cpu()) return at::randint(kLow, kHigh, {2}, at::TensorOptions(at::kLong).device(like.device()));
  const Tensor key = at::empty({2}, at::kLong);
  auto* generator = at::check_generator<at::CPUGeneratorImpl>(at::detail::getDefaultCPUGenerator());
  const std::lock_guard<std::mutex> lock(generator->mutex_);
  at::uniform_int_from_to_distribution<int64_t> uniform(uint64_t(kHigh) - uint64_t(kLow), kLow);
  for (int i = 0; i < 2; ++i) key.mutable_data_ptr<int64_t>()[i] = uniform(generator);
  return key;
}

// A bandwidth of mmd, made on its device: a CUDA graph cannot capture a copy from the host.
Tensor bandwidth_tensor(double bandwidth, const Tensor& like) {
  if (!like.is_cpu()) return at::full({1}, bandwidth, at::TensorOptions(at::kDouble).device(like.device()));
  const Tensor h = at::empty({1}, at::kDouble);
  *h.mutable_data_ptr<double>() = bandwidth;
  return h;
}

py::object rsample_kl(py::handle mu_, py::handle logvar_, py::handle per_dimension, py::handle generator,
                      py::handle key) {
  static const auto call =
      op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, bool)>("rsample_kl");
  const Tensor *mu = plain(mu_), *logvar = plain(logvar_);
  if (!mu || !logvar || !is_float(*mu) || mu->dim() < 1 || !same(*mu, *logvar) || observed(*mu)) return py::none();
  if (!PyBool_Check(per_dimension.ptr()) || !drawn(generator, key)) return py::none();
  std::array<Tensor, 2> out;
  {
    const py::gil_scoped_release released;
    std::tie(out[0], out[1]) = call.call(*mu, *logvar, draw_key(*mu), per_dimension.ptr() == Py_True);
  }
  return wrap(out.data(), out.size());
}

py::object permute_dims(py::handle z_, py::handle generator, py::handle key) {
  static const auto call = op<Tensor(const Tensor&, const Tensor&)>("permute_dims");
  const Tensor* z = plain(z_);
  if (!z || z->dim() < 2 || observed(*z) || !drawn(generator, key)) return py::none();
  Tensor out;
  {
    const py::gil_scoped_release released;
    out = call.call(*z, draw_key(*z));
  }
  return wrap(out);
}

constexpr std::array<std::string_view, 4> kEstimators{"uniform", "mws", "mss", "mss_legacy"};
constexpr std::array<std::string_view, 3> kReductions{"none", "mean", "sum"};

// Whether `components` fit the estimator and the size of the data set. The wrappers know the rest of the rules.
bool fits(int64_t estimator, int64_t components, int64_t dataset_size) {
  if (estimator < 0 || dataset_size < components) return false;
  return estimator == int64_t(Estimator::uniform) || estimator == int64_t(Estimator::mws) || components >= 2;
}

// An int below 2^63, or -1.
int64_t whole_number(py::handle argument) {
  if (!PyLong_CheckExact(argument.ptr())) return -1;
  int overflow = 0;
  const int64_t value = PyLong_AsLongLongAndOverflow(argument.ptr(), &overflow);
  return overflow ? -1 : value;
}

py::object aggregate_posterior(py::handle z_, py::handle mu_, py::handle logvar_, py::handle estimator_,
                               py::handle dataset_size_) {
  static const auto call =
      op<std::tuple<Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, const std::optional<Tensor>&, int64_t,
                                    int64_t, int64_t)>("aggregate_posterior");
  const Tensor *z = plain(z_), *mu = plain(mu_), *logvar = plain(logvar_);
  if (!z || !mu || !logvar || !is_float(*z) || z->dim() != 2 || mu->dim() != 2 || observed(*z)) return py::none();
  if (!same(*mu, *logvar) || z->scalar_type() != mu->scalar_type() || z->device() != mu->device() ||
      z->size(1) != mu->size(1))
    return py::none();
  const int64_t estimator = index_of(estimator_, kEstimators),
                dataset_size = dataset_size_.is_none() ? 0 : whole_number(dataset_size_);
  // A stratified estimator places the queries among the components: as in a batch, where they are the same ones.
  const bool exact = estimator == int64_t(Estimator::uniform) && dataset_size >= 0;
  if (!exact && (z->size(0) != mu->size(0) || !fits(estimator, mu->size(0), dataset_size))) return py::none();
  std::array<Tensor, 2> out;
  {
    const py::gil_scoped_release released;
    std::tie(out[0], out[1]) = call.call(*z, *mu, *logvar, std::nullopt, estimator, dataset_size, 0);
  }
  return wrap(out.data(), out.size());
}

py::object elbo_decomposition(py::handle z_, py::handle mu_, py::handle logvar_, py::handle dataset_size_,
                              py::handle estimator_, py::handle reduction_) {
  using MaybeTensor = std::optional<Tensor>;
  using Nine = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
  static const auto call = op<Nine(const Tensor&, const Tensor&, const Tensor&, const MaybeTensor&, const MaybeTensor&,
                                   int64_t, int64_t, int64_t, int64_t)>("elbo_decomposition");
  const Tensor *z = plain(z_), *mu = plain(mu_), *logvar = plain(logvar_);
  if (!z || !mu || !logvar || !is_float(*z) || z->dim() < 2 || !same(*z, *mu) || !same(*z, *logvar) || observed(*z))
    return py::none();
  const int64_t estimator = index_of(estimator_, kEstimators), reduction = index_of(reduction_, kReductions),
                dataset_size = whole_number(dataset_size_);
  if (reduction < 0 || !fits(estimator, z->size(-2), dataset_size)) return py::none();
  std::array<Tensor, kFields> out;
  {
    const py::gil_scoped_release released;
    const Nine all = call.call(*z, *mu, *logvar, std::nullopt, std::nullopt, estimator, dataset_size, 0, reduction);
    std::apply(
        [&](const auto&... t) {
          size_t i = 0;
          (void)((i < kFields && (out[i++] = t, true)) && ...);
        },
        all);
  }
  return wrap(out.data(), out.size());
}

py::object mmd(py::handle x_, py::handle y_, py::handle function_, py::handle bandwidth_, py::handle exponent_,
               py::handle estimator) {
  static const auto call =
      op<std::tuple<Tensor, Tensor, Tensor>(const Tensor&, const Tensor&, const Tensor&, int64_t, double, bool, bool)>(
          "mmd");
  static constexpr std::array<std::string_view, 4> kFunctions{"rbf", "rq", "imq", "laplacian"};
  static constexpr std::array<std::string_view, 2> kMmdEstimators{"unbiased", "biased"};
  const Tensor *x = plain(x_), *y = plain(y_);
  if (!x || !y || !is_float(*x) || x->dim() != 2 || y->dim() != 2 || observed(*x)) return py::none();
  if (x->scalar_type() != y->scalar_type() || x->device() != y->device() || x->size(1) != y->size(1)) return py::none();
  if (!PyFloat_CheckExact(bandwidth_.ptr()) || !PyFloat_CheckExact(exponent_.ptr())) return py::none();
  const double bandwidth = PyFloat_AS_DOUBLE(bandwidth_.ptr()), exponent = PyFloat_AS_DOUBLE(exponent_.ptr());
  const int64_t function = index_of(function_, kFunctions), biased = index_of(estimator, kMmdEstimators);
  const auto positive = [](double v) { return v > 0 && std::isfinite(v); };
  if (function < 0 || biased < 0 || !positive(bandwidth) || !positive(exponent) ||
      std::min(x->size(0), y->size(0)) < 2 - biased)
    return py::none();
  Tensor value;
  {
    const py::gil_scoped_release released;
    const bool with_grad = at::GradMode::is_enabled() && (x->requires_grad() || y->requires_grad());
    value = std::get<0>(call.call(*x, *y, bandwidth_tensor(bandwidth, *x), function, exponent, biased == 1, with_grad));
  }
  return wrap(value);
}

}  // namespace

void define_eager(py::module& m) {
  m.def("rsample_kl", torch::wrap_pybind_function(rsample_kl));
  m.def("permute_dims", torch::wrap_pybind_function(permute_dims));
  m.def("aggregate_posterior", torch::wrap_pybind_function(aggregate_posterior));
  m.def("elbo_decomposition", torch::wrap_pybind_function(elbo_decomposition));
  m.def("mmd", torch::wrap_pybind_function(mmd));
}

}  // namespace disentangle_ext

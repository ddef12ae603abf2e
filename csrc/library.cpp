// The contract: every raw op of the library, whatever device runs it. `key` is int64 [.., 2] = (seed, offset),
// `estimator` is Estimator and `kernel` MmdFunction of math/, `reduction` is 0 none, 1 mean, 2 sum.
#include <pybind11/pybind11.h>
#include <torch/library.h>
#include <torch/version.h>

#include <string>

#include "cpu/simd.h"
#include "eager.h"

TORCH_LIBRARY(disentangle_ext, m) {
  m.def("rsample_kl(Tensor mu, Tensor logvar, Tensor key, bool per_dimension) -> (Tensor z, Tensor kl)");
  m.def(
      "rsample_kl_backward(Tensor? grad_z, Tensor? grad_kl, Tensor mu, Tensor logvar, Tensor key, bool per_dimension)"
      " -> (Tensor mu, Tensor logvar)");

  m.def(
      "aggregate_posterior(Tensor z, Tensor mu, Tensor logvar, Tensor? log_weight, int estimator, int dataset_size,"
      " int offset) -> (Tensor log_qz, Tensor log_qz_marginals)");
  m.def(
      "aggregate_posterior_backward(Tensor? grad_log_qz, Tensor? grad_log_qz_marginals, Tensor z, Tensor mu,"
      " Tensor logvar, Tensor? log_weight, Tensor log_qz, Tensor log_qz_marginals, int estimator, int dataset_size,"
      " int offset) -> (Tensor z, Tensor mu, Tensor logvar, Tensor log_weight)");

  m.def(
      "elbo_decomposition(Tensor z, Tensor mu, Tensor logvar, Tensor? component_mu, Tensor? component_logvar,"
      " int estimator, int dataset_size, int offset, int reduction)"
      " -> (Tensor mutual_information, Tensor total_correlation, Tensor dimwise_kl, Tensor log_qz_x, Tensor log_qz,"
      " Tensor log_prod_qz, Tensor log_pz, Tensor rows_log_qz, Tensor rows_log_qz_marginals)");
  m.def(
      "elbo_decomposition_backward(Tensor?[] grads, Tensor z, Tensor mu, Tensor logvar, Tensor? component_mu,"
      " Tensor? component_logvar, Tensor rows_log_qz, Tensor rows_log_qz_marginals, int estimator, int dataset_size,"
      " int offset, int reduction)"
      " -> (Tensor z, Tensor mu, Tensor logvar, Tensor component_mu, Tensor component_logvar)");

  m.def(
      "mmd(Tensor x, Tensor y, Tensor bandwidth, int kernel, float exponent, bool biased, bool with_grad)"
      " -> (Tensor value, Tensor grad_x, Tensor grad_y)");
  m.def("mmd_backward(Tensor grad, Tensor x, Tensor y, Tensor grad_x, Tensor grad_y) -> (Tensor x, Tensor y)");

  m.def("permute_dims(Tensor z, Tensor key) -> Tensor");
  m.def("permute_dims_backward(Tensor grad, Tensor key) -> Tensor");
}

namespace {

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "g++ " __VERSION__;
#else
  return "unknown";
#endif
}

pybind11::dict build_info() {
  pybind11::dict info;
  info["compiler"] = compiler();
  info["torch"] = TORCH_VERSION;
  info["simd"] = disentangle_ext::cpu::simd_level();
#ifdef _OPENMP
  info["openmp"] = true;
#else
  info["openmp"] = false;
#endif
#ifdef DISENTANGLE_EXT_CUDA
  info["cuda"] = DISENTANGLE_EXT_CUDA;
  info["cuda_architectures"] = DISENTANGLE_EXT_CUDA_ARCHITECTURES;
#else
  info["cuda"] = "";
  info["cuda_architectures"] = "";
#endif
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Registers torch.ops.disentangle_ext, says how it was built, and has the short way into the ops.";
  m.def("build_info", &build_info);
  disentangle_ext::define_eager(m);
}

#include "cuda/aggregate_posterior.cuh"

namespace disentangle_ext::cuda {

#define DX_INSTANTIATE(T)                                                                                           \
  template void aggregate_posterior_forward<T>(const AggregatePosterior<T>&, const SweepPlan&, const SweepSums<T>&, \
                                               const DensityOutput<T>&, cudaStream_t);                              \
  template GradientLayout<T> gradient_layout<T>(int64_t, int64_t, int64_t, int, bool);                              \
  template void aggregate_posterior_backward<T>(const AggregatePosterior<T>&, const GradientLayout<T>&,             \
                                                const IncomingGradients<T>&, const GradientSlices<T>&,              \
                                                const OutgoingGradients<T>&, cudaStream_t)

DX_INSTANTIATE(float);
DX_INSTANTIATE(double);

}  // namespace disentangle_ext::cuda

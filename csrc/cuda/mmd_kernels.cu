#include "cuda/mmd.cuh"

namespace disentangle_ext::cuda {

template void launch_mmd<float>(const MmdArguments<float>&, const MmdPlan&, cudaStream_t);
template void launch_mmd<double>(const MmdArguments<double>&, const MmdPlan&, cudaStream_t);

}  // namespace disentangle_ext::cuda

#include "cuda/rsample_kl.cuh"

namespace disentangle_ext::cuda {

template void launch_rsample_kl<Half>(const RsampleKl<Half>&, const RsamplePlan&, bool, cudaStream_t);
template void launch_rsample_kl<BFloat16>(const RsampleKl<BFloat16>&, const RsamplePlan&, bool, cudaStream_t);
template void launch_rsample_kl<float>(const RsampleKl<float>&, const RsamplePlan&, bool, cudaStream_t);
template void launch_rsample_kl<double>(const RsampleKl<double>&, const RsamplePlan&, bool, cudaStream_t);

template void launch_rsample_kl_backward<Half>(const RsampleKlBackward<Half>&, const RsamplePlan&, bool, cudaStream_t);
template void launch_rsample_kl_backward<BFloat16>(const RsampleKlBackward<BFloat16>&, const RsamplePlan&, bool,
                                                   cudaStream_t);
template void launch_rsample_kl_backward<float>(const RsampleKlBackward<float>&, const RsamplePlan&, bool,
                                                cudaStream_t);
template void launch_rsample_kl_backward<double>(const RsampleKlBackward<double>&, const RsamplePlan&, bool,
                                                 cudaStream_t);

}  // namespace disentangle_ext::cuda

#include "cuda/permute_dims.cuh"

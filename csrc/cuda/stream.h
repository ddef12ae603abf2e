// The type of a stream for declarations that nvcc, the host compiler and the host runs of the tests share.
#pragma once

struct CUstream_st;
using cudaStream_t = CUstream_st*;

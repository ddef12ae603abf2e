"""Mistakes in the kernels of rsample_kl, and in the conversions of the half types."""

from tests.cuda.planted.plant import Plant

PLANTS = (
    Plant(
        "no barrier before the rows are summed",
        "store_vector(terms + group.at, kl); }); «__syncthreads();»",
        "",
        "check",
    ),
    Plant("no barrier before the warps are summed", "warps[threadIdx.x / 32] = x; «__syncthreads();»", "", "check"),
    Plant("last element of a group lost", "high = after < N ? «after» : N;", "after - 1"),
    Plant("ragged group taken for a whole one", "before <= 0 && «after >= N»;", "true", "check"),
    Plant("unaligned pointers taken for aligned", "fast = «aligned» && before", "true", "check"),
    Plant("last lane left out of a row's sum", "for (int offset = lanes / 2; offset > «0»;", "1"),
    Plant("every group with the noise of the first", "uint64_t(tile.start) / 4 + «uint32_t(at)» / 4;", "uint32_t(0)"),
    Plant("gradient of the next row", "++column == «D») ++row", "D - 1"),
    Plant(
        "subnormal halves rounded down",
        "bit_cast<float>(«magnitude») + 0.5f) - 0x3F000000u",
        "magnitude & ~0xFFFFFu",
        noticed="conversions",
    ),
)

"""Mistakes in the kernels of permute_dims."""

from tests.cuda.planted.plant import Plant

PLANTS = (
    Plant("no barrier between clearing and counting", "buckets.clear(); «__syncthreads();»", "", "check"),
    Plant("no barrier before the scan", "«__syncthreads();» buckets.scan();", "", "check"),
    Plant("no barrier before ranking", "uint32_t(row); }); «__syncthreads();»", "", "check"),
    Plant(
        "scan of a warp reads upward",
        "«__shfl_up_sync(0xFFFFFFFFu, through, offset)»",
        "__shfl_down_sync(0xFFFFFFFFu, through, offset)",
        crashes=True,
    ),
    Plant("lane mask of half a warp", "__shfl_xor_sync(«0xFFFFFFFFu», x, offset); return x;", "0x0000FFFFu"),
    Plant("last of a bucket not counted", "«buckets.start(bucket + 1)» : rows;", "buckets.start(bucket + 1) - 1"),
    Plant(
        "equal keys of merged runs on one place",
        "count_below(keys + pair, middle - pair, key, «true»)",
        "false",
        noticed="equal_keys",
    ),
    Plant(
        "right run merged one element short",
        "end = «min(pair + 2 * run, length)»;",
        "min(pair + 2 * run, length) - 1",
        crashes=True,
    ),
    Plant("inverse that is none", "to = «a.inverse» ? row : rank;", "false", noticed="inverse"),
)

"""Mistakes in the kernels of aggregate_posterior and elbo_decomposition."""

from tests.cuda.planted.plant import Plant

PLANTS = (
    # forward
    Plant(
        "no barrier before components are overwritten",
        "«__syncthreads();» load_components<T, D>",
        "",
        "check",
        noticed="components300",
    ),
    Plant("no barrier before the groups are merged", "sums.put(mine, plan); «__syncthreads();»", "", "check"),
    Plant("last component of a tile lost", "if (j < «count» && d < dims) {", "count - 1"),
    Plant("group whose sums are not merged", "for (int g = «0»; g < groups; ++g) sum += memory", "1"),
    Plant("splits whose joint sums are not merged", "k < «splits»; k += kWarp) {", "1"),
    Plant("wrong stride between splits", "stride = «s.rows()» * s.D;", "s.queries"),
    Plant(
        "maximum swapped with the sum",
        "«part.sum = row[D], part.max = row[D + 1];»",
        "part.sum = row[D + 1], part.max = row[D];",
    ),
    Plant("warp sum that stops early", "for (int mask = 16; «mask»; mask >>= 1) v += __shfl_xor_sync", "mask > 1"),
    Plant("tail of the slices lost", "«for (; k < count; ++k) sum += at[k * stride];»", ""),
    Plant(
        "sum of densities taken as it is, however large", "sum >= least && «sum <= most»", "true", noticed="heavy200"
    ),
    Plant(
        "sum of densities taken as it is, however small",
        "«sum >= least» && sum <= most",
        "sum > T(0)",
        noticed="heavy-85",
    ),
    Plant(
        "density in float64 that wraps around",
        "+= «exp2_of_any(multiply_add(-t, t, kUneven ? peak + bits[q] : peak))»;",
        "exp2(multiply_add(-t, t, kUneven ? peak + bits[q] : peak))",
        noticed="heavy650",
    ),
    # backward
    Plant(
        "no barrier before queries are overwritten",
        "«__syncthreads();» const bool left = load_queries",
        "",
        "check",
    ),
    Plant(
        "no barrier before shares are added",
        "«__syncthreads();» T* query_slice = out.query + block.component_range * s.rows() * s.D; flush_queries",
        "",
        "check",
    ),
    Plant(
        "slice that each range starts anew",
        "T* out = slice + (first_row + e / D) * s.D + d; *out = «start» ? sum : *out + sum;",
        "true",
        noticed="4340",
    ),
    Plant("halves of a scattered sum exchanged", "w[i] = («upper» ? high : low) +", "!upper"),
    Plant(
        "place of any size kept in float32",
        "«place <= kLargestPlace<T> && place >= -kLargestPlace<T>»",
        "place <= kInfinity<T> && place >= -kInfinity<T>",
        noticed="D18-component_range64-farinf",
    ),
    Plant("precision of any size kept in float32", "<= «kLargestPrecision<T>»);", "kInfinity<T>", noticed="narrow-100"),
    Plant(
        "queries too large for float32 not noticed", "large || «any_too_large(s, block)»", "false", noticed="broad52"
    ),
    Plant(
        "scale of zero for a query at infinity",
        "scale[c][d] = filled ? own_scale : «T(1)»;",
        "T(0)",
        noticed="float64-farinf",
    ),
    Plant(
        "squared distance that overflows",
        "+= «add_gradient<false>(a, w[d], mu_sum[c][d], logvar_sum[c][d])»",
        "add_gradient<true>(a, w[d], mu_sum[c][d], logvar_sum[c][d])",
        noticed="stray1e+200",
    ),
    # the joint density beyond registers
    Plant("no barrier after a tile of pairs", "T(0); } «__syncthreads();»", "", "check", noticed="weighted"),
    Plant("transposed place off by a component", "to = k * kPairComponents + «j»;", "j ^ 1"),
    Plant(
        "squared distance of a pair that overflows",
        "«add_gradient<false>(gp[q * kPairRow + j], t, mu_sum, logvar_sum)»",
        "add_gradient<true>(gp[q * kPairRow + j], t, mu_sum, logvar_sum)",
        noticed="D18-stray",
    ),
    Plant(
        "scale of zero for a query at infinity, in pairs",
        "used ? scale_of(logvar) : «T(1)»;",
        "T(0)",
        noticed="D18-component_range64-farinf",
    ),
    # what is left to float64
    Plant(
        "what is left to float64 is never done",
        "if («!out.get_left(blockIdx.x, k, chunks, rule.reference)») continue;",
        "out.get_left(blockIdx.x, k, chunks, rule.reference)",
    ),
    Plant(
        "first chunk of a range alone left to float64",
        "«block.first_component + k * chunk < block.last_component»;",
        "k < 1",
        noticed="4340",
    ),
    Plant(
        "chunks that the last range does not have",
        "«block.first_component + k * chunk < block.last_component»;",
        "k < chunks",
        "check",
        noticed="4340",
    ),
)

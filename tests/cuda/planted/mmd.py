"""Mistakes in the kernels of mmd."""

from tests.cuda.planted.plant import Plant

PLANTS = (
    Plant("no warp barrier before columns are read", "column_pull[d] = T(0); } «__syncwarp();»", "", "check"),
    Plant(
        "no warp barrier before columns are overwritten",
        "load_columns(const T* from, int count, int dims) { «__syncwarp();»",
        "",
        "check",
        noticed="200-70-256-10",
    ),
    Plant("no barrier in the block's sum", "/ 32] = sum; «__syncthreads();»", "", "check"),
    Plant("no barrier after the scales", "a.exponent); «__syncthreads();»", "", "check"),
    Plant("pulls wander the wrong way", "column_pull[d], «lane + 1»);", "lane - 1"),
    Plant("a point that meets itself", "&& «row + shift != column»; }", "true"),
    Plant("one row too many", "return «row < rows» && column", "row <= rows"),
    Plant(
        "pulls of the fourth warp lost",
        "(all[2 * kRegion + e] + «all[3 * kRegion + e]»);",
        "T(0)",
        noticed="200-70-256-10",
    ),
    Plant(
        "columns' pulls overwritten by later rows", "count, dims, «r > 0»);", "false", noticed="test_widths[plain-11"
    ),
    Plant("tiles of y placed among those of x", "const int64_t pooled = «of_y» ? a.M + first : first;", "false"),
    Plant(
        "tail of a tile read past the end",
        "? tile.data[int64_t(row) * dims + d0 + «d»] : T(0);",
        "d + 1",
        "check",
        noticed="fwd-37",
    ),
    Plant("last item left out of the value", "«i» < plan.items(); i += kMmdMergeThreads", "i + 1"),
)

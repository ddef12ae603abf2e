"""The plot of bench/results/ops.csv: how much faster than plain PyTorch every provider is, by op and size."""

from __future__ import annotations

from typing import Any

from bench import cpu_harness
from bench.harness import BEST, COMPILED, GEOMLOSS, KEOPS, OURS, PLAIN
from bench.rows import Row, read
from bench.tables import PLOT, in_order
from disentangle_ext._extras import require

STYLES = {
    PLAIN: ("0.6", "-"),
    BEST: ("tab:blue", "o-"),
    COMPILED: ("tab:orange", "s-"),
    KEOPS: ("tab:green", "^-"),
    GEOMLOSS: ("tab:purple", "v-"),
    OURS: ("tab:red", "D-"),
}


def write() -> None:
    """Draw the figures of the machine that was measured last."""
    rows = [row for row in read(cpu_harness.RESULTS) if row["pass"] != cpu_harness.CALL]
    if not rows:
        return
    try:
        figure = require("matplotlib.figure", extra="report", what="the plot").Figure
    except ImportError as error:
        print(f"no plot: {error}")
        return
    own = [row for row in rows if row["machine"] == rows[-1]["machine"]]
    made = draw(figure, in_order(own))
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    made.savefig(PLOT, dpi=110, metadata={"Software": None})


def draw(figure: Any, rows: list[Row]) -> Any:
    """A column for each op, a row for each number of threads."""
    ops = list(dict.fromkeys((row["op"], row["pass"]) for row in rows))
    threads = sorted({row["threads"] for row in rows}, key=int)
    made = figure(figsize=(2.9 * len(ops), 0.6 + 2.5 * len(threads)), layout="constrained")
    axes = made.subplots(len(threads), len(ops), squeeze=False, sharey=True)
    for i, count in enumerate(threads):
        for j, (op, passes) in enumerate(ops):
            shown = [row for row in rows if (row["op"], row["pass"], row["threads"]) == (op, passes, count)]
            panel(axes[i][j], shown)
            if i == 0:
                axes[i][j].set_title(f"{op}\n{passes}", fontsize=9)
        axes[i][0].set_ylabel(f"speed, plain PyTorch = 1\n{count} thread{'s' * (count != '1')}", fontsize=8)
    lines: dict[str, Any] = {}
    for axis in made.axes:
        lines.update(dict(zip(*reversed(axis.get_legend_handles_labels()))))
    names = [name for name in STYLES if name in lines]
    handles = [lines[name] for name in names]
    made.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8, frameon=False)
    return made


def panel(axis: Any, rows: list[Row]) -> None:
    for provider, (color, style) in STYLES.items():
        own = sorted((int(r["size"].split()[0]), float(r["speedup"])) for r in rows if r["provider"] == provider)
        if own:
            axis.plot(*zip(*own), style, color=color, label=provider, markersize=4, linewidth=1.2)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}x")
    sizes = sorted({int(row["size"].split()[0]) for row in rows})
    axis.set_xticks(sizes, [str(size) if size < 1 << 20 else f"{size >> 20}M" for size in sizes])
    axis.set_xlabel("batch", fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3, linewidth=0.5)

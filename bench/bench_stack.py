"""Models an hour, trained as a stack and one after the other: ``python -m bench.bench_stack``.

A model is beta-VAE at batch 64, trained for 10,000 steps. The runs differ in seed and beta. One after the other, K
models take K times the steps of one; that one and the stacks of K take turns, so that what else the machine does slows
all of them alike. Drawing the batches is a part of the steps, pictures and scores at the end are not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence

# Threads that spin while they wait take the core from what is measured next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import disentangle_ext
from bench import pages
from bench.harness import RESULTS as FOLDER
from bench.rows import ABSENT, Row, append, commit, machine, markdown, read
from disentangle_ext.data import GroundTruthData, load_data
from disentangle_ext.engine.build import build_trainer
from disentangle_ext.engine.device import keep_freed_memory
from disentangle_ext.engine.stack import Stack
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.config import TrainConfig, resolve

RESULTS = FOLDER / "stack.csv"
COLUMNS = (
    *("network", "images", "models", "threads", "alone_per_hour", "stacked_per_hour", "q20", "q80", "speedup"),
    *("machine", "torch", "disentangle_ext", "commit"),
)
IDENTITY = ("network", "models", "threads", "machine")
STEPS = 10_000
COUNTS = {"cpu": (1, 4, 16), "cuda": (1, 8, 32)}
NETWORKS: dict[str, dict[str, object]] = {
    "conv": {"network": "conv"},
    "mlp, width 32": {"network": "mlp", "width": 32, "data_variant": "quick"},
}
"""The study's network on 64 x 64 images, and a small one on 32 x 32."""


def configurations(network: str, count: int) -> list[TrainConfig]:
    base = {"model": "beta_vae", "data": "dsprites_like", **NETWORKS[network]}
    return [resolve({**base, "seed": k, "beta": 1.0 + k}) for k in range(count)]


def seconds_of(call: Callable[[], float]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def one_step(trainer: Trainer) -> Callable[[], float]:
    return lambda: float(trainer.update().kl.detach()[0])  # an accelerator is waited for: this is read after the update


def stacked_step(stack: Stack) -> Callable[[], float]:
    return lambda: float(stack.update()[0].kl[0])


def measure(network: str, counts: Sequence[int], device: str, seconds: float) -> list[Row]:
    """A row for each number of models."""
    (first,) = configurations(network, 1)
    data: GroundTruthData = load_data(first.data, **first.data_options, device=device)
    ways = {0: one_step(build_trainer(first, data))}
    for count in counts:
        trainers = [build_trainer(config, data) for config in configurations(network, count)]
        ways[count] = stacked_step(Stack(trainers))
    taken: dict[int, list[float]] = {count: [] for count in ways}
    for call in ways.values():
        call()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken[0]) < 5:
        for count, call in ways.items():
            taken[count].append(seconds_of(call))
    size = " x ".join(map(str, data.image_shape))
    return [row(network, size, count, device, taken[count], taken[0]) for count in counts]


def row(network: str, images: str, count: int, device: str, taken: Sequence[float], alone: Sequence[float]) -> Row:
    high, *_, low = statistics.quantiles(taken, n=5)
    middle = statistics.median(taken)
    one = statistics.median(alone)
    rates = (3600 / STEPS / one, *(3600 / STEPS * count / each for each in (middle, low, high)))
    info = disentangle_ext.build_info()
    values = (
        *(network, images, count, torch.get_num_threads()),
        *(f"{rate:.4g}" for rate in rates),
        *(f"{count * one / middle:.3g}", machine() if device == "cpu" else torch.cuda.get_device_name()),
        *(info["torch_running"], info["version"], commit()),
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def table(rows: list[Row]) -> str:
    """The rows as Markdown: one line for each network and number of models and threads."""
    if not rows:
        return ABSENT
    header = ("network", "images", "threads", "models", "one after the other", "as a stack", "")
    lines = []
    for own in sorted(rows, key=lambda each: (each["machine"], each["network"], each["threads"], int(each["models"]))):
        rates = own["alone_per_hour"], own["stacked_per_hour"], f"{own['speedup']}x"
        lines.append((f"`{own['network']}`", own["images"], own["threads"], own["models"], *rates))
    origins = sorted({f"{own['machine']}, torch {own['torch']}, {own['commit']}" for own in rows})
    note = f"Models an hour, of {STEPS:,} steps at batch 64, by the median of a step; {'; '.join(origins)}."
    return "\n".join([*markdown(header, lines), "", note]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_stack", description=__doc__)
    parser.add_argument("--device", choices=tuple(COUNTS), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each network, after its start")
    parser.add_argument("--table-only", action="store_true", help="write the README's table, measure nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    for network in () if arguments.table_only else NETWORKS:
        rows = measure(network, COUNTS[arguments.device], arguments.device, arguments.seconds)
        append(rows, RESULTS, COLUMNS, IDENTITY)
        for each in rows:
            rates = f"{each['alone_per_hour']:>8} alone {each['stacked_per_hour']:>8} stacked"
            print(f"{network:<16} {each['models']:>3} models {rates} {each['speedup']:>6}x", flush=True)
    pages.write("README.md", {"bench-stack": table(read(RESULTS))})


if __name__ == "__main__":
    main()

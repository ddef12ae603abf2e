"""Whether bfloat16 trains as float32 does: ``python -m bench.training_precision``.

Beta-TCVAE with the study's recipe at batch 64, from the same weights, on the same batches and noise: the mean loss of
the last 200 of 2,000 steps, for three seeds. It has to agree within 2 %. Takes about a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse

import torch

import disentangle_ext
from bench.bench_training_step import PRECISION_RESULTS, configuration, cpu, write_readme
from bench.rows import Row, append, commit
from disentangle_ext.data import load_data
from disentangle_ext.engine.build import build_trainer
from disentangle_ext.engine.device import keep_freed_memory

COLUMNS = (
    *("seed", "steps", "averaged", "threads", "loss_fp32", "loss_bf16", "difference"),
    *("cpu", "bf16_instructions", "torch", "disentangle_ext", "commit"),
)
IDENTITY = ("seed", "steps", "averaged", "cpu")
SEEDS = range(3)
TOLERANCE = 0.02


def mean_loss(precision: str, seed: int, steps: int, averaged: int) -> float:
    """Mean loss of the last ``averaged`` steps."""
    config = configuration(precision=precision, seed=seed)
    trainer = build_trainer(config, load_data(config.data))
    for _ in range(steps - averaged):
        trainer.update()
    trainer.meter.read()  # the averages start anew
    for _ in range(averaged):
        output = trainer.update()
    return trainer.read(output)["loss"]


def measure(seed: int, steps: int, averaged: int) -> tuple[Row, float]:
    """A row, and the relative difference of the two losses."""
    fp32, bf16 = (mean_loss(precision, seed, steps, averaged) for precision in ("fp32", "bf16"))
    difference = bf16 / fp32 - 1
    info = disentangle_ext.build_info()
    values = (
        *(seed, steps, averaged, torch.get_num_threads(), f"{fp32:.6g}", f"{bf16:.6g}", f"{difference:.2e}"),
        *(*cpu(), info["torch_running"], info["version"], commit()),
    )
    return dict(zip(COLUMNS, map(str, values), strict=True)), difference


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training_precision", description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--averaged", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if not 1 <= arguments.averaged <= arguments.steps:
        parser.error(f"--averaged must be from 1 to --steps, got {arguments.averaged} and {arguments.steps}")
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    worst = 0.0
    for seed in SEEDS:
        row, difference = measure(seed, arguments.steps, arguments.averaged)
        append([row], PRECISION_RESULTS, COLUMNS, IDENTITY)
        worst = max(worst, abs(difference))
        losses = f"loss {row['loss_fp32']} in fp32, {row['loss_bf16']} in bf16"
        print(f"seed {seed}: {losses}: {difference:+.2%}", flush=True)
    write_readme()
    if worst > TOLERANCE:
        raise SystemExit(f"bench: losses in bf16 and fp32 differ by {worst:.2%}: more than {TOLERANCE:.0%}")


if __name__ == "__main__":
    main()

"""Images a second of whole training steps, beta-TCVAE at batch 64: ``python -m bench.bench_training_step``.

The plain loop is what public VAE repositories write (AntixK/PyTorch-VAE, 1Konny/FactorVAE, YannDubs/disentangling-vae):
a shuffling DataLoader of float32 images, NCHW, torch.randn_like, binary_cross_entropy_with_logits, the [B, B, D] tensor
of log densities, torch.optim.Adam as it comes, and loss.item() after every step, as the last of them does. The data set
is in memory, and no worker process takes a core from the training. Ours reads its averages out once a turn.

Networks, initial weights, batch size and loss are the same for all; before anything is timed, 20 float32 steps on the
same batches and noise have to give the same losses. Every provider runs in a process of its own, because the memory
allocator is set for a whole process; the processes take turns.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Threads that spin while they wait take the core from the provider that is measured next.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import disentangle_ext
from bench import pages
from bench.rows import Row, append, commit, read
from disentangle_ext.data import load_data
from disentangle_ext.engine.build import build_trainer
from disentangle_ext.engine.device import keep_freed_memory
from disentangle_ext.engine.randomness import noise_key
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.models import VAE
from disentangle_ext.models.conv import ConvDecoder, ToImage
from disentangle_ext.ops import reference
from disentangle_ext.runs.config import TrainConfig, resolve

RESULTS = Path(__file__).parent / "results" / "training_step.csv"
PRECISION_RESULTS = RESULTS.with_name("training_precision.csv")
COLUMNS = (
    *("network", "batch", "threads", "provider", "computes", "images_per_second", "q20", "q80", "speedup"),
    *("cpu", "bf16_instructions", "torch", "disentangle_ext", "commit"),
)
IDENTITY = ("network", "batch", "threads", "provider", "cpu")

PLAIN, PLAIN_KEPT = "plain float32 loop", "plain float32 loop, freed memory kept"
OURS, BF16 = "disentangle_ext", "disentangle_ext, --precision bf16"
PROVIDERS = (PLAIN, PLAIN_KEPT, OURS, BF16)

PLAIN_IMAGES = 8192
STEPS_A_TURN = 3
COMPARED_STEPS = 20
TOLERANCE = 1e-4

Turn = Callable[[int], None]


def configuration(**settings: object) -> TrainConfig:
    return resolve({"model": "beta_tcvae", "data": "dsprites_like", **settings})


def log_normal(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    return -0.5 * (1.8378770664093453 + logvar + (z - mu) ** 2 * torch.exp(-logvar))


def plain_model(trainer: Trainer) -> VAE:
    """The trainer's model, with torch's own deconvolution at its end."""
    assert isinstance(trainer.model.decoder, ConvDecoder)
    layers = trainer.model.decoder.deconvolutions
    ours = layers[-1]
    assert isinstance(ours, ToImage)
    layers[-1] = nn.ConvTranspose2d(ours.in_channels, ours.out_channels, 4, 2, 1)
    layers[-1].load_state_dict(ours.state_dict())
    return trainer.model


def plain_step(
    model: VAE, images: Tensor, optimizer: torch.optim.Optimizer, config: TrainConfig, size: int, noise: Tensor | None
) -> float:
    """One step as public repositories write it; ``noise`` is given only where losses are compared."""
    mu, logvar = model.encoder(images).chunk(2, dim=1)
    std = torch.exp(0.5 * logvar)
    z = mu + std * (torch.randn_like(std) if noise is None else noise)
    logits = model.decoder(z)
    recon = F.binary_cross_entropy_with_logits(logits, images, reduction="sum") / len(images)
    kl = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
    matrix = log_normal(z[:, None], mu[None], logvar[None])  # [B, B, D]
    constant = torch.log(torch.tensor(float(len(images) * size)))
    log_qz = torch.logsumexp(matrix.sum(2), 1) - constant
    log_product = (torch.logsumexp(matrix, 1) - constant).sum(1)
    loss = recon + kl + (config.objective_options["beta"] - 1) * (log_qz - log_product).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def compare(steps: int = COMPARED_STEPS) -> float:
    """The largest relative difference of the losses of float32 steps on the same batches and noise.

    Raises:
        AssertionError: if it is not below :data:`TOLERANCE`.
    """
    config = configuration()
    data = load_data(config.data)
    ours = build_trainer(config, data)
    plain = plain_model(build_trainer(configuration(memory_format="contiguous"), data))
    optimizer = torch.optim.Adam(plain.parameters(), lr=config.lr)
    worst = 0.0
    for step in range(steps):
        images = data.batch(ours.order.index(step)).contiguous()
        noise = reference.noise_like(torch.empty(config.batch_size, config.latent_dim), noise_key(config.seed, step))
        loss = plain_step(plain, images, optimizer, config, len(data), noise)
        worst = max(worst, abs(ours.read(ours.update())["loss"] / loss - 1))
    if not worst <= TOLERANCE:
        raise AssertionError(f"bench: losses differ by {worst:.1e}")
    return worst


def plain_provider() -> tuple[Turn, str]:
    config = configuration(memory_format="contiguous")
    data = load_data(config.data)
    model = plain_model(build_trainer(config, data))
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[:PLAIN_IMAGES]
    images = torch.cat([data.batch(chunk).contiguous() for chunk in rows.split(1024)])
    loader = DataLoader(TensorDataset(images), batch_size=config.batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)

    def batches() -> Iterator[Tensor]:
        while True:
            for (batch,) in loader:
                yield batch

    stream = batches()

    def turn(steps: int) -> None:
        for _ in range(steps):
            plain_step(model, next(stream), optimizer, config, len(data), None)

    return turn, "fp32 NCHW eager"


def describe(config: TrainConfig) -> str:
    """The settings that say how a step is computed, in one phrase."""
    return f"{config.precision} {config.memory_format} {config.compilation}"


def our_provider(**settings: object) -> tuple[Turn, str]:
    """Ours with the defaults but for ``settings``."""
    config = configuration(**settings)
    trainer: Trainer = build_trainer(config, load_data(config.data))

    def turn(steps: int) -> None:
        for _ in range(steps):
            output = trainer.update()
        trainer.read(output)

    return turn, describe(config)


def work(provider: str) -> None:
    """A worker: say what it computes, then run as many steps as each line of its input says, and say how long."""
    if provider != PLAIN:
        keep_freed_memory()
    torch.manual_seed(0)
    turn, computes = {
        PLAIN: plain_provider,
        PLAIN_KEPT: plain_provider,
        OURS: our_provider,
        BF16: lambda: our_provider(precision="bf16"),
    }[provider]()
    turn(STEPS_A_TURN)
    print(computes, flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        turn(int(line))
        print(time.perf_counter() - start, flush=True)


def start_worker(provider: str, threads: int) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "bench.bench_training_step", "--worker", provider, "--threads", str(threads)]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    return worker, ask(worker, None)


def ask(worker: subprocess.Popen[str], steps: int | None) -> str:
    assert worker.stdin
    assert worker.stdout
    if steps is not None:
        worker.stdin.write(f"{steps}\n")
        worker.stdin.flush()
    answer = worker.stdout.readline()
    if not answer:
        raise RuntimeError(f"bench: a worker ended with exit code {worker.wait()}")
    return answer.strip()


def measure(threads: int, seconds: float) -> list[Row]:
    """A row for each provider."""
    workers = {}
    try:
        for name in PROVIDERS:
            workers[name] = start_worker(name, threads)
        taken: dict[str, list[float]] = {name: [] for name in workers}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(taken[PLAIN]) < 5:
            for name, (worker, _) in workers.items():
                taken[name].append(float(ask(worker, STEPS_A_TURN)) / STEPS_A_TURN)
    finally:
        for worker, _ in workers.values():
            worker.kill()
            worker.wait()
    plain = statistics.median(taken[PLAIN])
    return [_row(name, workers[name][1], threads, times, plain) for name, times in taken.items()]


def _row(provider: str, computes: str, threads: int, taken: list[float], plain: float) -> Row:
    config = configuration()
    high, *_, low = statistics.quantiles(taken, n=5)
    middle = statistics.median(taken)
    info = disentangle_ext.build_info()
    values = (
        *(config.network, config.batch_size, threads, provider, computes),
        *(f"{config.batch_size / each:.4g}" for each in (middle, low, high)),
        *(f"{plain / middle:.3g}", *cpu()),
        *(info["torch_running"], info["version"], commit()),
    )
    return dict(zip(COLUMNS, map(str, values), strict=True))


def cpu() -> tuple[str, str]:
    """Its name, and its instructions for bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), "unknown"
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    found = sorted(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    return fields.get("model name", platform.machine()), " ".join(found) or "none"


def table(rows: list[Row], precision: list[Row]) -> str:
    """Markdown: one line for each provider and number of threads, and how far bf16 was from fp32 in training."""
    lines = ["| threads | loop | computes | images/s | speed-up |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (row["threads"], row["provider"], row["computes"], row["images_per_second"], f"{row['speedup']}x")
        lines.append(f"| {' | '.join(cells)} |")
    origins = {f"{r['cpu']} (instructions for bfloat16: {r['bf16_instructions']}), torch {r['torch']}" for r in rows}
    lines += ["", "Medians; measured on " + "; ".join(sorted(origins)) + "."]
    for count, averaged in sorted({(r["steps"], r["averaged"]) for r in precision}):
        own = [r for r in precision if (r["steps"], r["averaged"]) == (count, averaged)]
        differences = ", ".join(f"{float(r['difference']):+.2%}" for r in own)
        lines += [f"Mean loss of the last {averaged} of {count} steps in bf16 against fp32, by seed: {differences}."]
    return "\n".join(lines) + "\n"


def write_readme() -> None:
    pages.write("README.md", {"training-step": table(read(RESULTS), read(PRECISION_RESULTS))})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_training_step", description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="for all providers together, after their start")
    parser.add_argument("--table-only", action="store_true", help="write the README's table, measure nothing")
    parser.add_argument("--worker", choices=PROVIDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.worker:
        return work(arguments.worker)
    if not arguments.table_only:
        print(f"losses of {COMPARED_STEPS} float32 steps differ by at most {compare():.1e}", flush=True)
        rows = measure(arguments.threads, arguments.seconds)
        append(rows, RESULTS, COLUMNS, IDENTITY)
        for row in rows:
            print(f"{row['provider']:<42} {row['computes']:<32} {row['images_per_second']:>6} {row['speedup']:>5}x")
    write_readme()


if __name__ == "__main__":
    main()

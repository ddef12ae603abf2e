"""``make demo``: two models, two scores, pictures to look at, and a table of what took how long."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "demo"
MODELS = ("beta_tcvae", "beta_vae")
STEPS = {
    "step-torch": "install torch and numpy",
    "step-build": "build the extension",
    "step-demo": "install what training and pictures need",
}


def command(model: str) -> list[str]:
    """The call that trains a model into runs/demo."""
    options = ["--model", model, "--data", "dsprites_like", "--quick", "--seed", "0", "--overwrite"]
    return [sys.executable, "-m", "disentangle_ext.train", *options, "--output-dir", str(RUNS / model)]


def train(commands: Mapping[str, Sequence[str]]) -> float:
    """Run commands at once, a process each since --quick uses one core, and return the seconds until all are done.

    The first shows what it prints at once; what the others print is shown when they are done.

    Args:
        commands: by model.

    Raises:
        SystemExit: if one fails; those that still run are ended.
    """
    start = time.perf_counter()
    with ExitStack() as stack:
        processes: dict[str, subprocess.Popen[bytes]] = {}
        for model, call in commands.items():
            print(f"$ python {shlex.join(call[1:])}", flush=True)
            output, errors = (subprocess.PIPE, subprocess.STDOUT) if processes else (None, None)
            process = subprocess.Popen(call, cwd=ROOT, stdout=output, stderr=errors)
            processes[model] = stack.enter_context(process)
        for model, process in processes.items():
            printed, _ = process.communicate()
            if printed:
                print(f"\n{model}:\n{printed.decode(errors='replace')}", end="", flush=True)
            if process.returncode:
                for other in processes.values():
                    other.terminate()
                raise SystemExit(f"demo: the training of {model} ended with exit code {process.returncode}")
    return time.perf_counter() - start


def mig(model: str) -> float:
    return float(json.loads((RUNS / model / "scores.json").read_text())["mig"]["score"])


def report_scores() -> None:
    scores = {model: mig(model) for model in MODELS}
    print("\nMIG: how much of each factor one latent alone knows, between 0 and 1")
    for model, score in scores.items():
        print(f"  {model:<12} {score:5.2f}")
    if scores["beta_tcvae"] <= scores["beta_vae"]:
        print("  beta-TCVAE did not come out higher in this run: `make model-table` shows how much seeds differ")
    print("\nPictures: in traversals.png each row moves one latent")
    for model in MODELS:
        for name in ("traversals.png", "reconstructions.png"):
            print(f"  {(RUNS / model / name).relative_to(ROOT)}")


def report_times(seconds: dict[str, float]) -> None:
    print("\nTime in seconds")
    for what, value in seconds.items():
        print(f"  {what:<40} {value:5.0f}")
    print(f"  {'total':<40} {sum(seconds.values()):5.0f}")


def installation_times(venv: Path, since: float) -> dict[str, float]:
    """Read what the Makefile noted of the steps that it has done ``since``, in seconds since the epoch."""
    files = {what: venv / step for step, what in STEPS.items() if (venv / step).stat().st_mtime >= since}
    return {what: float(path.read_text()) for what, path in files.items()}


def main(begun: float) -> None:
    """Train, and print scores and times.

    Args:
        begun: when ``make`` began, in seconds since the epoch.
    """
    seconds = installation_times(ROOT / ".venv", begun)
    seconds["train both models"] = train({model: command(model) for model in MODELS})
    report_scores()
    report_times(seconds)


if __name__ == "__main__":
    main(float(sys.argv[1]))

"""``make demo``: two models, two scores, pictures to look at, and a table of what took how long."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "runs" / "demo"
MODELS = ("beta_tcvae", "beta_vae")
STEPS = {
    "step-torch": "install torch and numpy",
    "step-build": "build the extension",
    "step-extras": "install the extras",
}


def train(model: str) -> float:
    """Train one model into runs/demo; returns the seconds it took."""
    output = RUNS / model
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "disentangle_ext.train", "--model", model, "--data", "dsprites_like"]
    command += ["--quick", "--seed", "0", "--output-dir", str(output)]
    print(f"\n$ python {' '.join(command[1:])}", flush=True)
    start = time.perf_counter()
    finished = subprocess.run(command, cwd=ROOT, check=False)
    if finished.returncode:
        raise SystemExit(f"demo: the training of {model} ended with exit code {finished.returncode}")
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
        print(f"  {what:<24} {value:5.0f}")
    print(f"  {'total':<24} {sum(seconds.values()):5.0f}")


def installation_times(venv: Path) -> dict[str, float]:
    """What the Makefile noted when it last did each step, which may have been an earlier run."""
    files = {what: venv / step for step, what in STEPS.items()}
    return {what: float(path.read_text()) for what, path in files.items() if path.is_file()}


def main() -> None:
    seconds = installation_times(ROOT / ".venv")
    for model in MODELS:
        seconds[f"train {model}"] = train(model)
    report_scores()
    report_times(seconds)


if __name__ == "__main__":
    main()

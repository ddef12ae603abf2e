"""The training loop, its checkpoints and its run folder."""

from __future__ import annotations

from disentangle_ext.training.config import TrainConfig, resolve
from disentangle_ext.training.loop import NonFiniteLossError, Trainer
from disentangle_ext.training.run_folder import RunFolder
from disentangle_ext.training.session import Outcome, train

__all__ = ["NonFiniteLossError", "Outcome", "RunFolder", "TrainConfig", "Trainer", "resolve", "train"]

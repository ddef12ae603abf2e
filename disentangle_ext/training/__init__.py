"""The training loop, its checkpoints and its run folder."""

from __future__ import annotations

from disentangle_ext.training.config import TrainConfig, resolve
from disentangle_ext.training.loop import NonFiniteLossError, Trainer
from disentangle_ext.training.run_folder import RunFolder
from disentangle_ext.training.session import Outcome, train
from disentangle_ext.training.stack import Stack
from disentangle_ext.training.stack_session import StackOutcome, train_stack

__all__ = [
    "NonFiniteLossError",
    "Outcome",
    "RunFolder",
    "Stack",
    "StackOutcome",
    "TrainConfig",
    "Trainer",
    "resolve",
    "train",
    "train_stack",
]

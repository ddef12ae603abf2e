"""From a call to finished run folders."""

from __future__ import annotations

from disentangle_ext.engine.meter import NonFiniteLossError
from disentangle_ext.engine.stack import Stack
from disentangle_ext.engine.trainer import Trainer
from disentangle_ext.runs.config import TrainConfig, resolve
from disentangle_ext.runs.folder import RunFolder
from disentangle_ext.training.fit import Outcome, Outcomes, train, train_plan
from disentangle_ext.training.plan import Job, Plan

__all__ = [
    "Job",
    "NonFiniteLossError",
    "Outcome",
    "Outcomes",
    "Plan",
    "RunFolder",
    "Stack",
    "TrainConfig",
    "Trainer",
    "resolve",
    "train",
    "train_plan",
]

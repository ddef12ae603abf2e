"""Scores of a representation, against ground-truth factors or on its own."""

from __future__ import annotations

from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._result import FactorResult, Interval, MetricResult
from disentangle_ext.metrics.correlation import Correlation, CorrelationResult, correlation
from disentangle_ext.metrics.exact_elbo import ExactElboResult, exact_elbo
from disentangle_ext.metrics.mig import MIG, MIGResult, mig
from disentangle_ext.metrics.representation import Representation

__all__ = [
    "MIG",
    "Correlation",
    "CorrelationResult",
    "ExactElboResult",
    "FactorResult",
    "Interval",
    "MIGResult",
    "Metric",
    "MetricResult",
    "Representation",
    "correlation",
    "exact_elbo",
    "mig",
]

"""Scores of a representation, against ground-truth factors or on its own."""

from __future__ import annotations

from disentangle_ext.metrics.exact_elbo import ExactElboResult, exact_elbo
from disentangle_ext.metrics.mig import MIGResult, mig

__all__ = ["ExactElboResult", "MIGResult", "exact_elbo", "mig"]

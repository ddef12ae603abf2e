"""Scores of a representation against ground-truth factors."""

from __future__ import annotations

from disentangle_ext.metrics.mig import MIGResult, mig

__all__ = ["MIGResult", "mig"]

"""Scores of a representation, against ground-truth factors or on its own."""

from __future__ import annotations

from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._result import FactorResult, Interval, MetricResult
from disentangle_ext.metrics.beta_vae_score import BetaVAEScore, BetaVAEScoreResult, beta_vae_score
from disentangle_ext.metrics.dci import DCI, DCIResult, dci
from disentangle_ext.metrics.exact_elbo import ExactElboResult, exact_elbo
from disentangle_ext.metrics.explicitness import Explicitness, ExplicitnessResult, explicitness
from disentangle_ext.metrics.factor_vae_score import FactorVAEScore, FactorVAEScoreResult, factor_vae_score
from disentangle_ext.metrics.irs import IRS, IRSResult, irs
from disentangle_ext.metrics.mig import MIG, MIGResult, mig
from disentangle_ext.metrics.modularity import Modularity, ModularityResult, modularity
from disentangle_ext.metrics.representation import Representation
from disentangle_ext.metrics.sap import SAP, SAPResult, sap

__all__ = [
    "DCI",
    "IRS",
    "MIG",
    "SAP",
    "BetaVAEScore",
    "BetaVAEScoreResult",
    "DCIResult",
    "ExactElboResult",
    "Explicitness",
    "ExplicitnessResult",
    "FactorResult",
    "FactorVAEScore",
    "FactorVAEScoreResult",
    "IRSResult",
    "Interval",
    "MIGResult",
    "Metric",
    "MetricResult",
    "Modularity",
    "ModularityResult",
    "Representation",
    "SAPResult",
    "beta_vae_score",
    "dci",
    "exact_elbo",
    "explicitness",
    "factor_vae_score",
    "irs",
    "mig",
    "modularity",
    "sap",
]

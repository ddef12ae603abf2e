"""Scores of a representation, against ground-truth factors or on its own."""

from __future__ import annotations

from disentangle_ext.metrics._metric import Metric
from disentangle_ext.metrics._result import FactorResult, Interval, MetricResult
from disentangle_ext.metrics.active_units import ActiveUnits, ActiveUnitsResult, active_units
from disentangle_ext.metrics.beta_vae_score import BetaVAEScore, BetaVAEScoreResult, beta_vae_score
from disentangle_ext.metrics.correlation import Correlation, CorrelationResult, correlation
from disentangle_ext.metrics.dci import DCI, DCIResult, dci
from disentangle_ext.metrics.dci_es import DCIES, DCIESResult, dci_es
from disentangle_ext.metrics.dcimig import DCIMIG, DCIMIGResult, dcimig
from disentangle_ext.metrics.downstream import Downstream, DownstreamResult, downstream
from disentangle_ext.metrics.exact_elbo import ExactElboResult, Term, exact_elbo
from disentangle_ext.metrics.explicitness import Explicitness, ExplicitnessResult, explicitness
from disentangle_ext.metrics.factor_vae_score import FactorVAEScore, FactorVAEScoreResult, factor_vae_score
from disentangle_ext.metrics.gaussian_total_correlation import (
    GaussianTotalCorrelation,
    GaussianTotalCorrelationResult,
    gaussian_total_correlation,
)
from disentangle_ext.metrics.independence import Independence, IndependenceResult, independence
from disentangle_ext.metrics.infomec import InfoMEC, InfoMECResult, infomec
from disentangle_ext.metrics.irs import IRS, IRSResult, irs
from disentangle_ext.metrics.jemmig import JEMMIG, JEMMIGResult, jemmig
from disentangle_ext.metrics.linear_symmetry import LinearSymmetry, LinearSymmetryResult, linear_symmetry
from disentangle_ext.metrics.lsbd import LSBD, LSBDResult, lsbd
from disentangle_ext.metrics.mig import MIG, MIGResult, mig
from disentangle_ext.metrics.mig_sup import MIGSup, MIGSupResult, mig_sup
from disentangle_ext.metrics.modularity import Modularity, ModularityResult, modularity
from disentangle_ext.metrics.mutual_information_score import (
    MutualInformationScore,
    MutualInformationScoreResult,
    mutual_information_score,
)
from disentangle_ext.metrics.representation import Representation
from disentangle_ext.metrics.rmig import RMIG, RMIGResult, rmig
from disentangle_ext.metrics.sap import SAP, SAPResult, sap
from disentangle_ext.metrics.udr import UDR, UDRResult, udr
from disentangle_ext.metrics.wasserstein_correlation import (
    WassersteinCorrelation,
    WassersteinCorrelationResult,
    wasserstein_correlation,
)

__all__ = [
    "DCI",
    "DCIES",
    "DCIMIG",
    "IRS",
    "JEMMIG",
    "LSBD",
    "MIG",
    "RMIG",
    "SAP",
    "UDR",
    "ActiveUnits",
    "ActiveUnitsResult",
    "BetaVAEScore",
    "BetaVAEScoreResult",
    "Correlation",
    "CorrelationResult",
    "DCIESResult",
    "DCIMIGResult",
    "DCIResult",
    "Downstream",
    "DownstreamResult",
    "ExactElboResult",
    "Explicitness",
    "ExplicitnessResult",
    "FactorResult",
    "FactorVAEScore",
    "FactorVAEScoreResult",
    "GaussianTotalCorrelation",
    "GaussianTotalCorrelationResult",
    "IRSResult",
    "Independence",
    "IndependenceResult",
    "InfoMEC",
    "InfoMECResult",
    "Interval",
    "JEMMIGResult",
    "LSBDResult",
    "LinearSymmetry",
    "LinearSymmetryResult",
    "MIGResult",
    "MIGSup",
    "MIGSupResult",
    "Metric",
    "MetricResult",
    "Modularity",
    "ModularityResult",
    "MutualInformationScore",
    "MutualInformationScoreResult",
    "RMIGResult",
    "Representation",
    "SAPResult",
    "Term",
    "UDRResult",
    "WassersteinCorrelation",
    "WassersteinCorrelationResult",
    "active_units",
    "beta_vae_score",
    "correlation",
    "dci",
    "dci_es",
    "dcimig",
    "downstream",
    "exact_elbo",
    "explicitness",
    "factor_vae_score",
    "gaussian_total_correlation",
    "independence",
    "infomec",
    "irs",
    "jemmig",
    "linear_symmetry",
    "lsbd",
    "mig",
    "mig_sup",
    "modularity",
    "mutual_information_score",
    "rmig",
    "sap",
    "udr",
    "wasserstein_correlation",
]

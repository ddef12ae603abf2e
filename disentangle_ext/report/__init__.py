"""Pictures of trained models and of data sets. Nothing that draws knows how a model was trained."""

from __future__ import annotations

from disentangle_ext.report.animation import save_animation
from disentangle_ext.report.factors import factor_traversals, save_factor_traversals
from disentangle_ext.report.grid import save_rows
from disentangle_ext.report.losses import save_losses
from disentangle_ext.report.pictures import PICTURES, draw
from disentangle_ext.report.reconstructions import save_reconstructions
from disentangle_ext.report.samples import save_samples
from disentangle_ext.report.subject import Subject
from disentangle_ext.report.sweeps import save_sweeps
from disentangle_ext.report.traversals import save_traversals

__all__ = [
    "PICTURES",
    "Subject",
    "draw",
    "factor_traversals",
    "save_animation",
    "save_factor_traversals",
    "save_losses",
    "save_reconstructions",
    "save_rows",
    "save_samples",
    "save_sweeps",
    "save_traversals",
]

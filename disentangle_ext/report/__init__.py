"""Pictures and pages about trained models. Nothing here knows how they were trained."""

from __future__ import annotations

from disentangle_ext.report.pictures import save_reconstructions, save_rows, save_traversals

__all__ = ["save_reconstructions", "save_rows", "save_traversals"]

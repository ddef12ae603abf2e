"""Write every table from the rows of studies/results, or computed; measure nothing."""

from __future__ import annotations

from bench import pages
from studies import (
    analysis_coverage,
    beta_scale,
    ceilings,
    coverage,
    data_sets,
    dcign_faces,
    known_errors,
    model_table,
    recipes,
    rotated_axes,
    scale_tables,
)

STUDIES = (
    analysis_coverage,
    beta_scale,
    ceilings,
    coverage,
    data_sets,
    dcign_faces,
    known_errors,
    model_table,
    recipes,
    rotated_axes,
    scale_tables,
)
"""Each has a ``PAGE`` and its ``tables()``, by the names in the markers."""

if __name__ == "__main__":
    for study in STUDIES:
        pages.write(study.PAGE, study.tables())

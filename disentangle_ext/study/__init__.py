"""Studies: many runs, planned from one grid file, trained anywhere, scored and analysed together.

``python -m disentangle_ext.study`` plans, runs and reports a study; :mod:`disentangle_ext.study.analysis` analyses the
scores of anybody's runs.
"""

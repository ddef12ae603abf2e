"""From a call of ``python -m disentangle_ext.evaluate`` to scores: flags, inputs, the file of scores, tables."""

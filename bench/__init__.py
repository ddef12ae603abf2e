"""``python -m bench``: the ops against the same formulas in plain PyTorch."""

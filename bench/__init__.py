"""``python -m bench``: the ops against the same formulas in plain PyTorch and in other libraries."""

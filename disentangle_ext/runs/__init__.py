"""A run on disk: its configuration, folder, checkpoints, environment and codes. No training in it."""

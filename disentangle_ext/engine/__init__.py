"""One update of one model or several: trainers, optimisers, batches, randomness, devices. Nothing on disk."""

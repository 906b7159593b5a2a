"""One training loop for every torch model, checkpoints, and the export to arrays."""

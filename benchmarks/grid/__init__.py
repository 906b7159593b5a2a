"""Cells of the grid that benchmarks/results.py runs: what they are, how one is measured, what is said of them."""

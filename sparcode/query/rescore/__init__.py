"""Exact all-to-all scores of a few candidates, on plain arrays."""

"""Semantic IDs: item vectors become tuples of codes, one interface for every method. No torch to encode."""

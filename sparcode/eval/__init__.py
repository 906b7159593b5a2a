"""Metrics, evaluation and benchmarks; sees retrievers only through the protocol."""

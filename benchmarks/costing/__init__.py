"""Parts of ``benchmarks/costs.py``: formulas, worlds, timing, curves, fits, and the page they end up on."""

"""Torch modules: query tokenizers, item tokens, quantizers, scorers, losses."""

"""All-to-all scorers and where a configuration finds them."""

from __future__ import annotations

from collections.abc import Callable

from sparcode.config import ScorerConfig
from sparcode.model.scorers.base import ConcatenationScorer, HadamardScorer, Scorer
from sparcode.model.scorers.mixture import MixtureScorer

__all__ = ["KINDS", "ConcatenationScorer", "HadamardScorer", "MixtureScorer", "Scorer", "build_scorer"]

KINDS: dict[str, Callable[[int, int, int, float, ScorerConfig], Scorer]] = {
    "hadamard": HadamardScorer,
    "concatenation": ConcatenationScorer,
    "mixture": MixtureScorer,
}
"""Scorers that are trained with codes, by ``scorer.kind``."""


def build_scorer(config: ScorerConfig, width: int, item_tokens: int, item_count: int, temperature: float) -> Scorer:
    """Return the scorer a configuration names; ``counts`` scores need no training and use ``dot`` for rescoring."""
    if config.kind in ("dot", "counts"):
        return Scorer(width, item_tokens, item_count, temperature)
    return KINDS[config.kind](width, item_tokens, item_count, temperature, config)

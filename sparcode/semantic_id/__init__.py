"""Semantic IDs: item vectors become tuples of codes, one interface for every method. No torch to encode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparcode.semantic_id.mapping import SemanticIds
    from sparcode.semantic_id.tokenizer import SemanticIdTokenizer

__all__ = ["SemanticIdTokenizer", "SemanticIds"]


def __getattr__(name: str) -> Any:
    if name == "SemanticIdTokenizer":
        from sparcode.semantic_id.tokenizer import SemanticIdTokenizer

        return SemanticIdTokenizer
    if name == "SemanticIds":
        from sparcode.semantic_id.mapping import SemanticIds

        return SemanticIds
    raise AttributeError(f"module 'sparcode.semantic_id' has no attribute {name!r}")

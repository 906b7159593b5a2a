"""The index: posting lists in memory, array files, and the store that keeps them. Who answers from it is ``query``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparcode.query.search.searcher import Searcher, open

__all__ = ["Searcher", "open"]


def __getattr__(name: str) -> Any:
    """``sparcode.index.open`` is the low-level door, though what it opens is a searcher."""
    if name in __all__:
        from sparcode.query.search import searcher

        return getattr(searcher, name)
    raise AttributeError(f"module 'sparcode.index' has no attribute {name!r}")

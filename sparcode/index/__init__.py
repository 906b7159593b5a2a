"""The sparse index and the online path: numpy and numba, never torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparcode.index.searcher import Searcher, open

__all__ = ["Searcher", "open"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sparcode.index import searcher

        return getattr(searcher, name)
    raise AttributeError(f"module 'sparcode.index' has no attribute {name!r}")

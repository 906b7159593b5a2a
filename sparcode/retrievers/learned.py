"""SparCode behind the retriever protocol: the mapped index with or without rescoring, and the exhaustive scorer."""

from __future__ import annotations

from typing import Protocol

from sparcode.errors import QueryError
from sparcode.types import Hits, Queries


class PipelineLike(Protocol):
    """The two calls of ``index.pipeline.Pipeline`` used here."""

    def retrieve(self, queries: Queries, k: int, *, rescore: int | None = None, include_seen: bool = False) -> Hits:
        """Answer from the index; ``rescore`` candidates are scored exactly, 0 = none, None = the run's setting."""
        ...

    def retrieve_exhaustive(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Score every item with the unquantised tokens."""
        ...


class SparcodeRetriever:
    """The online path that queries use. ``rescore``: R; 0 = cache only; None = the run's own setting."""

    def __init__(self, pipeline: PipelineLike, *, rescore: int | None = None, name: str | None = None) -> None:
        self.name = name or ("sparcode-cache" if rescore == 0 else "sparcode")
        self.pipeline = pipeline
        self.rescore = rescore

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return (B, k) hits."""
        return self.pipeline.retrieve(queries, k, rescore=self.rescore, include_seen=include_seen)


class AllToAllRetriever:
    """Exhaustive all-to-all scores of unquantised tokens: what the index approximates. Slow: B * n scores."""

    name = "all-to-all"

    def __init__(self, pipeline: PipelineLike) -> None:
        self.pipeline = pipeline

    def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        """Return (B, k) hits."""
        if k < 1:
            raise QueryError(f"k is {k}; expected at least 1")
        return self.pipeline.retrieve_exhaustive(queries, k, include_seen=include_seen)

"""Retrievers of a run, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sparcode.errors import ConfigError, RunError

if TYPE_CHECKING:
    from sparcode.retrievers.exact import ExactRetriever
    from sparcode.retrievers.hnsw import HnswRetriever
    from sparcode.types import Retriever


def open_retriever(run: Any, name: str) -> Retriever:
    """Open one retriever of a run (``sparcode.run.Run``).

    Raises ConfigError for an unknown name and RunError when the run holds no such baseline.
    """
    return open_retrievers(run, [name])[0]


def open_retrievers(run: Any, names: list[str]) -> list[Retriever]:
    """Open several retrievers; those of SparCode share one pipeline."""
    for name in names:
        if name not in _BUILDERS:
            near = difflib.get_close_matches(name, _BUILDERS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"unknown retriever {name!r}; {hint}known: {', '.join(RETRIEVERS)}")
    shared: dict[str, Any] = {}
    return [_BUILDERS[name](run, shared) for name in names]


def available(run: Any) -> list[str]:
    """Return the names this run can open, in the order of ``RETRIEVERS``."""
    present = {
        "two-tower": (run.folder / "model" / "two_tower.json").exists(),
        "counts": (run.folder / "model" / "transitions.safetensors").exists(),
    }
    return [name for name in RETRIEVERS if present.get(name, True)]


def open_two_tower(run: Any) -> ExactRetriever:
    """Open the exact two-tower: the run's exported encoder and item vectors."""
    from sparcode.index.arrays import read_arrays
    from sparcode.index.encoder import Encoder
    from sparcode.retrievers.exact import ExactRetriever

    folder = run.folder / "model"
    if not (folder / "two_tower.json").exists():
        raise RunError(f"{run.folder} has no two-tower: it was trained with --no-baselines; train again without it")
    vectors = read_arrays(folder / "two_tower.safetensors").get("item_vectors_out")
    if vectors is None:
        raise RunError(f"{folder / 'two_tower.safetensors'} holds no array 'item_vectors_out'; train the run again")
    return ExactRetriever(Encoder.open(folder, stem="two_tower"), vectors)


def open_hnsw(run: Any, library: str, *, ef: int = 64, exact: ExactRetriever | None = None) -> HnswRetriever:
    """Build an HNSW graph (``faiss-hnsw`` or ``hnswlib``) over the run's two-tower item vectors."""
    from sparcode.retrievers.hnsw import HNSW_LIBRARIES

    if library not in HNSW_LIBRARIES:
        raise ConfigError(f"unknown HNSW library {library!r}; known: {', '.join(HNSW_LIBRARIES)}")
    exact = exact or open_two_tower(run)
    return HNSW_LIBRARIES[library](exact.encoder, exact.item_vectors, ef=ef, seed=run.config.seed)


def _pipeline(run: Any, shared: dict[str, Any]) -> Any:
    if "pipeline" not in shared:
        from sparcode.index.pipeline import Pipeline

        shared["pipeline"] = Pipeline.open(run.folder)
    return shared["pipeline"]


def _sparcode(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.retrievers.learned import SparcodeRetriever

    return SparcodeRetriever(_pipeline(run, shared), rescore=run.config.query.rescore, name="sparcode")


def _cache(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.retrievers.learned import SparcodeRetriever

    return SparcodeRetriever(_pipeline(run, shared), rescore=0)


def _all_to_all(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.retrievers.learned import AllToAllRetriever

    return AllToAllRetriever(_pipeline(run, shared))


def _popular(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.retrievers.popular import popular

    return popular(run.dataset.train, run.dataset.item_count)


def _recent_popular(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.retrievers.recent_popular import recent_popular

    share = run.config.baselines.recent_share
    return recent_popular(run.dataset.train, run.dataset.item_count, share=share)


def _item_knn(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.retrievers.item_knn import item_knn

    neighbours = run.config.baselines.item_knn_neighbours
    return item_knn(run.dataset.train, run.dataset.item_count, neighbours=neighbours)


def _counts(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.index.arrays import read_arrays
    from sparcode.retrievers.counts import counts

    path = run.folder / "model" / "transitions.safetensors"
    if not path.exists():
        raise RunError(f"{run.folder} has no transition counts; train again with --set families.item.enabled=true")
    lists = read_arrays(path)
    family = run.config.families.item
    return counts(lists["indptr"], lists["items"], lists["values"], decay=family.decay, history=family.history)


_BUILDERS: dict[str, Callable[[Any, dict[str, Any]], Retriever]] = {
    "sparcode": _sparcode,
    "sparcode-cache": _cache,
    "all-to-all": _all_to_all,
    "two-tower": lambda run, shared: open_two_tower(run),
    "popular": _popular,
    "recent-popular": _recent_popular,
    "item-knn": _item_knn,
    "counts": _counts,
}

RETRIEVERS: tuple[str, ...] = tuple(_BUILDERS)
"""Names in the order of tables."""

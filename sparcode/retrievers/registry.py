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
    return [name for name in RETRIEVERS if name not in _NEEDS or _NEEDS[name](run)]


def default_retrievers(run: Any) -> list[str]:
    """Return ``available`` without the controls that cost too much to run unasked."""
    return [name for name in available(run) if name not in ON_REQUEST]


def open_two_tower(run: Any) -> ExactRetriever:
    """Open the exact two-tower: the run's exported encoder and item vectors."""
    from sparcode.index.arrays import read_arrays
    from sparcode.query.encoder.encoder import Encoder
    from sparcode.retrievers.exact import ExactRetriever

    folder = run.folder / "model"
    if not (folder / "two_tower.json").exists():
        raise RunError(f"{run.folder} has no two-tower: it was trained with --no-baselines; train again without it")
    vectors = read_arrays(folder / "two_tower.safetensors").get("item_vectors_out")
    if vectors is None:
        raise RunError(f"{folder / 'two_tower.safetensors'} holds no array 'item_vectors_out'; train the run again")
    encoder = Encoder.open(folder, stem="two_tower")
    if vectors.shape != (encoder.item_count, encoder.width):
        raise RunError(
            f"{folder / 'two_tower.safetensors'}: item_vectors_out has shape {vectors.shape}, expected "
            f"{(encoder.item_count, encoder.width)}; train the run again"
        )
    return ExactRetriever(encoder, vectors)


def open_hnsw(run: Any, library: str, *, ef: int = 64, exact: ExactRetriever | None = None) -> HnswRetriever:
    """Build an HNSW graph (``faiss-hnsw`` or ``hnswlib``) over the run's two-tower item vectors."""
    from sparcode.retrievers.hnsw import HNSW_LIBRARIES

    if library not in HNSW_LIBRARIES:
        raise ConfigError(f"unknown HNSW library {library!r}; known: {', '.join(HNSW_LIBRARIES)}")
    exact = exact or open_two_tower(run)
    return HNSW_LIBRARIES[library](exact.encoder, exact.item_vectors, ef=ef, seed=run.config.seed)


def _pipeline(run: Any, shared: dict[str, Any]) -> Any:
    if "pipeline" not in shared:
        from sparcode.query.pipeline import Pipeline

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
    from sparcode.retrievers.counts import counts

    family = run.config.families.item
    return counts(*_transitions(run), decay=family.decay, history=family.history)


def _transitions(run: Any) -> tuple[Any, Any, Any]:
    from sparcode.build.items.lists import with_repeats
    from sparcode.build.items.transitions import Transitions
    from sparcode.query.model_checks import read_lists

    if not _has_counts(run):
        raise RunError(f"{run.folder} has no transition counts; train again with --set families.item.enabled=true")
    lists = read_lists(run.folder / "model" / "transitions.safetensors")
    counted = Transitions(lists["indptr"], lists["items"], lists["values"])
    return with_repeats(counted, run.dataset.train, run.config.families.item) if _ranks_repeats(run) else counted


def _ranks_repeats(run: Any) -> bool:
    return bool(run.config.query.include_seen)


def _additive(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.retrievers.additive import additive, open_additive_encoder

    return additive(open_additive_encoder(run.folder / "model"))


def _blend(run: Any, shared: dict[str, Any], *, with_additive: bool = False) -> Retriever:
    from sparcode.retrievers.blend import ADDITIVE_WEIGHTS, COUNTS_WEIGHTS, CountsPart, DensePart, Part, fit_blend

    family, name = run.config.families.item, "two-tower+counts"
    parts: list[Part] = [DensePart(open_two_tower(run), _two_tower_temperature(run))]
    parts += [CountsPart(*_transitions(run), decay=family.decay, history=family.history)]
    grids: list[tuple[float, ...]] = [COUNTS_WEIGHTS]
    if with_additive:
        from sparcode.retrievers.additive import additive, open_additive_encoder

        encoder, name = open_additive_encoder(run.folder / "model"), f"{name}+additive"
        parts += [DensePart(additive(encoder), encoder.temperature)]
        grids += [ADDITIVE_WEIGHTS]
    validation = run.held_out("validation")
    if not validation:
        raise RunError(f"{run.folder} holds no validation set, on which {name} fits its weights; leave it out")
    count, repeats = run.dataset.item_count, _ranks_repeats(run)
    return fit_blend(name, parts, grids, validation, count, seed=run.config.seed, include_seen=repeats)


def _two_tower_temperature(run: Any) -> float:
    from sparcode.files import read_object

    path = run.folder / "model" / "two_tower.json"
    found = read_object(path).get("temperature")
    if not isinstance(found, float | int) or not 0 < found < 1e9:
        raise RunError(f"{path}: temperature {found!r}, expected a number above 0; train the run again")
    return float(found)


def _ease(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.retrievers.ease import ease

    settings = run.config.baselines
    return ease(
        run.dataset.train,
        run.dataset.item_count,
        regularisation=settings.ease_regularisation,
        most_items=settings.ease_most_items,
    )


def _content_knn(run: Any, shared: dict[str, Any]) -> Retriever:
    from sparcode.retrievers.content_knn import ContentKnn

    if not _has_content(run):
        raise RunError(f"{run.folder} holds no categories or vectors of items, which content-knn compares")
    return ContentKnn(run.dataset.item_features)


def _has_two_tower(run: Any) -> bool:
    return bool((run.folder / "model" / "two_tower.json").exists())


def _has_counts(run: Any) -> bool:
    return bool((run.folder / "model" / "transitions.safetensors").exists())


def _has_additive(run: Any) -> bool:
    return bool((run.folder / "model" / "additive.json").exists())


def _has_blend(run: Any) -> bool:
    return _has_two_tower(run) and _has_counts(run) and bool(run.dataset.validation)


def _has_content(run: Any) -> bool:
    features = run.dataset.item_features
    return features is not None and bool(features.vocabulary or features.layout.vector_widths)


_BUILDERS: dict[str, Callable[[Any, dict[str, Any]], Retriever]] = {
    "sparcode": _sparcode,
    "sparcode-cache": _cache,
    "all-to-all": _all_to_all,
    "two-tower": lambda run, shared: open_two_tower(run),
    "additive": _additive,
    "two-tower+counts": _blend,
    "two-tower+counts+additive": lambda run, shared: _blend(run, shared, with_additive=True),
    "counts": _counts,
    "ease": _ease,
    "item-knn": _item_knn,
    "content-knn": _content_knn,
    "recent-popular": _recent_popular,
    "popular": _popular,
}

_NEEDS: dict[str, Callable[[Any], bool]] = {
    "two-tower": _has_two_tower,
    "additive": _has_additive,
    "two-tower+counts": _has_blend,
    "two-tower+counts+additive": lambda run: _has_blend(run) and _has_additive(run),
    "counts": _has_counts,
    "ease": lambda run: run.dataset.item_count <= run.config.baselines.ease_most_items,
    "content-knn": _has_content,
}
"""Retrievers that not every run can open, and what tells."""

RETRIEVERS: tuple[str, ...] = tuple(_BUILDERS)
"""Names in the order of tables."""

ON_REQUEST = ("two-tower+counts", "two-tower+counts+additive", "ease", "content-knn")
"""Controls evaluated only when asked for by name."""

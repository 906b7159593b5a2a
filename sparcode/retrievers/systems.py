"""The systems of the benchmark, made from a run: sparcode-cache, sparcode, and the two-tower exact and by HNSW."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparcode.errors import MissingExtraError, RunError
from sparcode.eval.benchmark import EXACT, System
from sparcode.eval.latency import Stages, nothing
from sparcode.eval.operating_points import tune
from sparcode.files import read_object
from sparcode.query.pipeline import Pipeline
from sparcode.retrievers.exact import ExactRetriever
from sparcode.retrievers.hnsw import HnswRetriever
from sparcode.retrievers.learned import AllToAllRetriever, SparcodeRetriever
from sparcode.retrievers.registry import open_hnsw, open_two_tower
from sparcode.types import EvaluationSet, Queries


def open_systems(
    run: Any, tuning_set: EvaluationSet, *, k: int, hnsw: Sequence[str]
) -> tuple[list[System], dict[str, Any]]:
    """Open and build every system the run allows.

    Returns the systems and ``{"curves": {library: points}, "warnings": [...]}``; HNSW is tuned on ``tuning_set``.
    """
    systems = sparcode_systems(run, k)
    notes: dict[str, Any] = {"curves": {}, "warnings": []}
    try:
        exact = open_two_tower(run)
    except RunError as problem:
        notes["warnings"].append(f"compared with nothing: {problem}")
        return systems, notes
    encoder_bytes = _file_bytes(run.folder / "model", "two_tower") - exact.bytes
    systems.append(_exact_system(exact, encoder_bytes, k))
    for library in hnsw:
        try:
            graph = open_hnsw(run, library, exact=exact)
        except MissingExtraError as problem:
            notes["warnings"].append(str(problem))
            continue
        tuning = tune(graph.at, exact, tuning_set, graph.item_count, k)
        notes["curves"][library] = tuning.curve
        for ef in sorted(set(tuning.points.values())):
            points = [name for name, value in tuning.points.items() if value == ef]
            systems.append(_hnsw_system(graph.at(ef), exact, encoder_bytes, k, points, tuning.missed))
    return systems, notes


def sparcode_systems(run: Any, k: int) -> list[System]:
    """Return ``sparcode-cache`` and ``sparcode`` over one pipeline."""
    pipeline = Pipeline.open(run.folder)
    folder, candidates = run.folder / "model", run.config.query.rescore
    encoder_bytes, rescoring_bytes = _file_bytes(folder, "encoder"), _file_bytes(folder, "rescorer")
    reference = AllToAllRetriever(pipeline)
    # Beside the index, not in its manifest: the same build must give the same bytes.
    built = run.folder / "build.json"
    seconds = read_object(built).get("build_s") if built.exists() else None
    return [
        System(
            name=name,
            retriever=SparcodeRetriever(pipeline, rescore=rescore, name=name),
            stages=pipeline_stages(pipeline, k, rescore),
            reference=reference,
            cache_bytes=pipeline.searcher.index.cache_bytes,
            rescoring_bytes=rescoring_bytes if rescore else 0,
            encoder_bytes=encoder_bytes,
            build_s=None if seconds is None else float(seconds),
            extra={"rescore": rescore},
        )
        for name, rescore in (("sparcode-cache", 0), ("sparcode", candidates))
    ]


def _file_bytes(folder: Path, stem: str) -> int:
    files = [folder / f"{stem}.safetensors", folder / f"{stem}.json"]
    return sum(path.stat().st_size for path in files if path.exists())


def pipeline_stages(pipeline: Pipeline, k: int, rescore: int) -> Stages:
    """Return the stages in numpy, each a call of its own, and the one compiled call as the whole: it is what users run,
    and takes less than its stages together."""
    depth = max(k, rescore)
    return Stages(
        encode=pipeline.encode,
        retrieve=lambda state: pipeline.search(state, depth),
        rescore=(lambda state, found: pipeline.rescore(state, found, k)) if rescore else None,
        whole=lambda query: pipeline.retrieve(query, k, rescore=rescore),
    )


def dense_stages(retriever: Any, k: int) -> Stages:
    """Return the stages of a dense retriever with ``encoder``, ``search_one`` and ``retrieve_one``."""
    return Stages(
        encode=lambda query: (retriever.encoder.encode_one(query.items, _features(query)), query.items),
        retrieve=lambda state: retriever.search_one(state[0], state[1], k),
        rescore=None,
        whole=lambda query: retriever.retrieve_one(query.items, k, _features(query)),
        prepare=retriever.prepare if isinstance(retriever, HnswRetriever) else nothing,
    )


def _features(query: Queries) -> Any:
    return None if query.user_features is None else query.user_features[0]


def _exact_system(exact: ExactRetriever, encoder_bytes: int, k: int) -> System:
    return System(
        name=EXACT,
        retriever=exact,
        stages=dense_stages(exact, k),
        reference=exact,
        cache_bytes=0,
        rescoring_bytes=exact.bytes,
        encoder_bytes=encoder_bytes,
        build_s=0.0,
    )


def _hnsw_system(
    view: HnswRetriever, exact: ExactRetriever, encoder_bytes: int, k: int, points: list[str], missed: list[str]
) -> System:
    extra: dict[str, Any] = {"ef": view.ef, "operating_points": points, "hnsw": view.settings}
    if reached := [name for name in points if name in missed]:
        extra["not_reached"] = reached
    return System(
        name=view.name,
        retriever=view,
        stages=dense_stages(view, k),
        reference=exact,
        cache_bytes=view.bytes,
        rescoring_bytes=0,
        encoder_bytes=encoder_bytes,
        build_s=round(view.build_seconds, 3),
        extra=extra,
    )

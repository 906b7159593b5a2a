"""Evaluate and benchmark a run folder: opens the run and its retrievers, measures, writes files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sparcode.errors import ConfigError, DataError, MissingExtraError
from sparcode.eval.evaluate import (
    EvaluationResult,
    evaluate,
    evaluation_json,
    exhaustive_sample,
    sample,
    write_per_query,
)
from sparcode.eval.machine import one_thread
from sparcode.files import own_folder, require_writable, write_json, write_text
from sparcode.run import Run
from sparcode.types import EvaluationSet, Retriever
from sparcode.wording import warn

EXHAUSTIVE = "all-to-all"


def evaluate_run(
    run_folder: str | Path,
    split: str = "test",
    retrievers: Sequence[str] | None = None,
    json: str | Path | None = None,
    per_query: str | Path | None = None,
    include_seen: bool | None = None,
) -> dict[str, Any]:
    """Evaluate retrievers of a run (absent: ``registry.default_retrievers``) on ``split`` = test | validation.

    Returns the JSON of ``sparcode evaluate`` and writes it to ``json``; ``per_query`` is a Parquet file of ranks.
    ``include_seen``: rank items of the history too; None = as the run's configuration says.
    Raises DataError when the run holds no such split, ConfigError for an unknown retriever.
    """
    from sparcode.retrievers.registry import default_retrievers, open_retrievers

    run = Run.open(run_folder)
    if isinstance(retrievers, str):
        retrievers = [retrievers]
    if include_seen not in (None, True, False):
        raise ConfigError(f"include_seen is {include_seen!r}; expected True, False, or None as the run says")
    for file in (json, per_query):
        if file is not None:
            require_writable(Path(file))
    evaluation_set = evaluation_set_of(run, split)
    opened = open_retrievers(run, list(dict.fromkeys(retrievers or default_retrievers(run))))
    repeats = run.config.query.include_seen if include_seen is None else include_seen
    results = [_evaluate(retriever, evaluation_set, run, repeats) for retriever in opened]
    document = evaluation_json(split, results)
    if per_query is not None:
        write_per_query(Path(per_query), results, run.dataset.user_ids, run.dataset.item_ids)
    if json is not None:
        write_json(Path(json), document)
    return document


def evaluation_set_of(run: Run, split: str) -> EvaluationSet:
    """Return the held-out set of a run; DataError when it has none."""
    if split not in ("test", "validation"):
        raise ConfigError(f"split {split!r}: expected test or validation")
    evaluation_set = run.held_out(split)
    if evaluation_set is None or len(evaluation_set) == 0:
        raise DataError(f"{run.folder} holds no {split} set; train with --split-by leave-last-out, time or column")
    return evaluation_set


def _evaluate(retriever: Retriever, full: EvaluationSet, run: Run, include_seen: bool) -> EvaluationResult:
    part, note = full, None
    if retriever.name == EXHAUSTIVE:
        part, note = exhaustive_sample(full, run.dataset.item_count, seed=run.config.seed)
    return evaluate(retriever, part, run.dataset.item_count, include_seen=include_seen, seed=run.config.seed, note=note)


def benchmark_run(
    run_folder: str | Path, json: str | Path | None = None, progress: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Benchmark a run and write JSON (absent: RUN/report/benchmark.json), with Markdown and plots beside it.

    Returns the JSON of ``sparcode benchmark``. ``progress`` receives a line for every file written.
    """
    from sparcode.report.tables import benchmark_markdown

    run = Run.open(run_folder)
    path = own_folder(run.folder / "report") / "benchmark.json" if json is None else Path(json)
    require_writable(path)
    document = benchmark(run, seed=run.config.seed)
    write_json(path, document)
    write_text(path.with_suffix(".md"), benchmark_markdown(document))
    tell = progress or (lambda line: None)
    for written in (path, path.with_suffix(".md"), *_plots(document, path, tell)):
        tell(f"wrote {written}")
    return document


def benchmark(
    run: Run,
    *,
    queries: int = 1000,
    rounds: int = 3,
    k: int = 10,
    split: str = "test",
    hnsw: Sequence[str] = ("faiss-hnsw", "hnswlib"),
    tuning_users: int = 5000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure SparCode and, when the run holds one, the two-tower; returns the JSON of ``sparcode benchmark``.

    ``queries``: seeded users (with a history) for latency, throughput and index recall; quality is over the whole
    split. ``hnsw``: libraries to compare with; one that is not installed is left out with a warning.
    Raises DataError when the run has no such split.
    """
    from sparcode.eval.benchmark import measure_systems
    from sparcode.retrievers.systems import open_systems

    evaluation_set = evaluation_set_of(run, split)
    tuning_set = sample(evaluation_set, tuning_users, seed=seed, purpose="ef tuning")
    with one_thread() as threads:
        systems, notes = open_systems(run, tuning_set, k=k, hnsw=hnsw)
        document = measure_systems(
            systems, evaluation_set, run.dataset.item_count, queries=queries, rounds=rounds, k=k, seed=seed,
            include_seen=run.config.query.include_seen,
        )  # fmt: skip
    for note in notes["warnings"]:
        warn(note, stacklevel=2)
    document["machine"]["threads"] = threads
    document["settings"] |= {"split": split, "tuning_users": len(tuning_set)}
    return document | {"curves": notes["curves"], "warnings": notes["warnings"]}


def _plots(document: dict[str, Any], path: Path, tell: Callable[[str], None]) -> list[Path]:
    from sparcode.report.plots import plot_benchmark

    try:
        return list(plot_benchmark(document, path.parent, stem=path.stem))
    except MissingExtraError as problem:
        tell(f"no plots: {problem}")
        return []

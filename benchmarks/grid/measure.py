"""Measure one cell of the results: train and build, or rebuild an earlier run's index; evaluate; keep every figure."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from shared import THREAD_VARIABLES, Row, hold_run, trained
from sparsity import postings_read

from grid.cells import Cell
from sparcode.build.job import build_index
from sparcode.errors import DataError, RunError
from sparcode.eval.evaluate import EvaluationResult, evaluate, exhaustive_sample
from sparcode.eval.machine import git_commit, machine_info, one_thread
from sparcode.eval.metrics import popularity_bias
from sparcode.files import read_json, write_json
from sparcode.index.arrays import write_arrays
from sparcode.query.pipeline import Pipeline
from sparcode.retrievers.evaluation import EXHAUSTIVE, evaluation_set_of
from sparcode.retrievers.registry import available, open_retrievers, open_two_tower
from sparcode.run import Run

PAIRED = ("ndcg@10", "recall@10", "recall@50")
"""Metrics whose per-user values are kept."""
VALUES = "values.safetensors"
"""Arrays ``users`` (B,) int32 and ``<retriever>:<metric>`` (B,) float64; those of a sample of users are not kept."""
LINKS = 32
"""M of the HNSW graph that bytes are compared with: 2 M links of 4 bytes an item at the bottom."""
HNSW_FORMULA = f"n * (4 d + 4 * 2 * {LINKS} + 8)"


def record_of(folder: Path, digest: str) -> Path:
    """Return the JSON file of a cell under the work folder."""
    return folder / "cells" / f"{digest}.json"


def measure(cell: Cell, data: Path, work: Path) -> Row:
    """Measure a cell and write its record (last of all); ``data``: the folder that holds the folders of data."""
    folder = work / cell.digest
    folder.mkdir(parents=True, exist_ok=True)
    found = _ablation(cell, folder, work) if cell.needs else _trained(cell, folder, data)
    row = {
        "state": "done", "key": cell.key, "kind": cell.kind, "data": cell.data.name, "seed": cell.seed,
        "label": cell.label, "config": cell.identity, **found,
        "commits": sorted({found.pop("trained_at"), _commit()}), "machine": _machine(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    write_json(record_of(work, cell.digest), row)
    return row


def _trained(cell: Cell, folder: Path, data: Path) -> Row:
    source = data / cell.data.folder
    if not source.exists():
        raise DataError(f"{source} does not exist; name the folder of the data sets with --data or SPARCODE_DATA")
    run, commit = _run_of(cell, folder, source)
    with one_thread():
        built = build_index(run.folder)
        figures = _figures(run, cell, folder)
    return {
        "folder": run.folder.name, "model_hash": run.model_hash, "trained_at": commit, "users": run.record["users"],
        "items": run.record["items"], "training": run.record["training"], "build": built, **figures,
    }  # fmt: skip


def _run_of(cell: Cell, folder: Path, source: Path) -> tuple[Run, str]:
    """Return the trained run and the commit it was trained at; a run begun at another commit is begun anew."""
    note, commit = folder / "training.json", _commit()
    finished = any(folder.glob("run-*/run.json"))
    # An edited checkout ("+") is not one state of the code, so half a training of it cannot be trusted either.
    if note.exists() and not finished and (read_json(note)["commit"] != commit or not _is_clean(commit)):
        for begun in folder.glob("run-*"):
            shutil.rmtree(begun)
    if not (finished and note.exists()):
        write_json(note, {"commit": commit})
    run = trained(str(source), folder, "run", cell.config, baselines=True)
    return run, str(read_json(note)["commit"])


def _ablation(cell: Cell, folder: Path, work: Path) -> Row:
    assert cell.needs is not None
    main = read_json(record_of(work, cell.needs.digest), RunError)
    copy = folder / "run"
    hold_run(work / cell.needs.digest / main["folder"], copy)
    run = Run.open(copy)
    with one_thread():
        built = build_index(copy, overrides=cell.overrides)
        figures = _figures(run, cell, folder)
        postings = postings_read(Pipeline.open(copy), evaluation_set_of(run, "test").queries)
    shutil.rmtree(copy)
    return {
        "model_hash": run.model_hash, "trained_at": read_json(work / cell.needs.digest / "training.json")["commit"],
        "build": built, "postings_per_query": postings, **figures,
    }  # fmt: skip


def _figures(run: Run, cell: Cell, folder: Path) -> Row:
    names = [name for name in cell.retrievers if name in available(run)]
    rows, values = [], {"users": evaluation_set_of(run, "test").users}
    for result, seconds in _evaluated(run, names, cell):
        rows.append(_row(result, run) | {"seconds": round(seconds, 2)})
        if result.note is None:
            kept = [metric for metric in PAIRED if metric in result.values]
            values |= {f"{result.retriever}:{metric}": result.values[metric] for metric in kept}
    write_arrays(folder / VALUES, values)
    missing = [name for name in cell.retrievers if name not in names]
    return {"results": rows, "not_offered": missing, "bytes": bytes_of(run)}


def _evaluated(run: Run, names: Sequence[str], cell: Cell) -> list[tuple[EvaluationResult, float]]:
    full, items, seed = evaluation_set_of(run, "test"), run.dataset.item_count, run.config.seed
    results = []
    for retriever in open_retrievers(run, list(names)):
        print(f"{cell.key}: evaluating {retriever.name}", flush=True)
        sampled = retriever.name == EXHAUSTIVE
        part, note = exhaustive_sample(full, items, seed=seed) if sampled else (full, None)
        began = time.perf_counter()
        result = evaluate(retriever, part, items, seed=seed, note=note, **cell.protocol)
        results.append((result, time.perf_counter() - began))
    return results


def _row(result: EvaluationResult, run: Run) -> Row:
    row = result.to_json()
    k = min(int(name.partition("@")[2]) for name in result.metrics if name.startswith("recall@"))
    row["metrics"][f"popularity@{k}"] = popularity_bias(result.ids, run.dataset.popularity, k)
    return row | {"depth": result.ids.shape[1]}


def bytes_of(run: Run) -> dict[str, int]:
    """Return bytes of the index in three parts and, where there is a two-tower, of its vectors and of HNSW by formula.

    HNSW: n vectors of d float32, 2 M links of 4 bytes at the bottom layer, about 8 bytes of levels and offsets.
    """
    pipeline = Pipeline.open(run.folder)
    sizes = {
        "cache": int(pipeline.searcher.index.cache_bytes), "rescoring": int(pipeline.rescorer.bytes),
        "encoder": int(pipeline.encoder_bytes),
    }  # fmt: skip
    if "two-tower" in available(run):
        tower = open_two_tower(run)
        count, width = np.shape(tower.item_vectors)
        sizes |= {"two_tower_vectors": tower.bytes, "hnsw": count * (4 * width + 4 * 2 * LINKS + 8)}
    return sizes


def _commit() -> str:
    return git_commit() or "unknown"


def _is_clean(commit: str) -> bool:
    return commit != "unknown" and not commit.endswith("+")


def _machine() -> dict[str, Any]:
    import torch

    threads: Row = {name: os.environ.get(name, "unset") for name in THREAD_VARIABLES}
    return machine_info() | {"threads": {"evaluation": 1, "torch": torch.get_num_threads()} | threads}

"""What is served is what was trained, and what is evaluated is what was stored: torch against the files of a run."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sparcode.build.job import build_index
from sparcode.config import Config, updated
from sparcode.data.sources import cached
from sparcode.index.arrays import read_arrays
from sparcode.index.layout import pack
from sparcode.index.store import open_index, publish
from sparcode.model.sparcode import SparCodeModel
from sparcode.query.pipeline import Pipeline
from sparcode.retrievers.evaluation import evaluate_run
from sparcode.run import Run
from sparcode.train.run import train_run
from sparcode.train.validation import pad_histories
from tests.worlds import queries_of

HISTORIES, NEAR = 10_000, 1e-4
SHARED = Path(__file__).parents[2] / "shared" / "data" / "ml-100k"
SETTINGS = {
    "model.width": 32, "model.heads": 4, "model.history": 20, "model.dropout": 0.0,
    "quantizer.books": 2, "quantizer.codewords": 16, "quantizer.warmup": 0.0, "scorer.hidden": 16, "loss.negatives": 16,
    "train.epochs": 1, "train.threads": 1, "train.evaluation_users": 50, "train.warm_start": False,
    "scorer.kind": "hadamard", "additive.epochs": 1, "model.item_content": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def data(planted: Path) -> Path:
    """ml-100k where it is at hand, else the planted world."""
    return next((folder for folder in (SHARED, cached("ml-100k")) if folder is not None and folder.exists()), planted)


@pytest.fixture(scope="module")
def served(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, SparCodeModel]:
    """A run trained for one epoch and indexed, and its torch model as the last checkpoint held it."""
    folder = tmp_path_factory.mktemp("parity") / "run"
    kept = folder.with_name("checkpoint.safetensors")

    def keep(report: dict) -> None:
        if report["model"] == "sparcode":
            shutil.copy(folder / "checkpoints" / "sparcode.safetensors", kept)

    run = train_run(
        str(data), folder, updated(Config(), SETTINGS), baselines=False, progress=False, callback=keep, device="cpu"
    )
    build_index(folder)
    model = SparCodeModel(run.config, run.dataset.item_count, run.dataset.item_features, 0)
    state = {name.removeprefix("best."): value for name, value in load_file(kept).items() if name.startswith("best.")}
    model.load_state_dict(state)
    return run, model.eval()


def histories(run: Run) -> list[list[int]]:
    """Return real prefixes of users' sequences and, as many, random histories."""
    random = np.random.default_rng(0)
    serving, rows = run.dataset.serving, []
    while len(rows) < HISTORIES // 2:
        row = serving.row(int(random.integers(len(serving))))
        if len(row):
            rows.append(row[: random.integers(1, len(row) + 1)].tolist())
    items = run.dataset.item_count
    return rows + [random.integers(0, items, random.integers(1, 41)).tolist() for _ in range(HISTORIES // 2)]


@torch.no_grad()
def torch_tokens(model: SparCodeModel, rows: list[list[int]]) -> torch.Tensor:
    """Return tokens (B, K_u, d) of the torch model, in blocks."""
    table, parts = model.items.table(), []
    for low in range(0, len(rows), 1000):
        block = [np.array(row) for row in rows[low : low + 1000]]
        items, lengths = pad_histories(block, model.config.model.history)
        parts.append(model.last_tokens(table, items, lengths, None))
    return torch.cat(parts)


@torch.no_grad()
def margins(model: SparCodeModel, tokens: torch.Tensor, books: np.ndarray) -> np.ndarray:
    """Return (B, K_u) the smallest gap between the nearest and the second codeword over the books."""
    gaps = []
    for part, book in zip(tokens.chunk(len(books), dim=-1), torch.from_numpy(books.copy()), strict=True):
        best = torch.cdist(part.reshape(-1, part.shape[-1]), book).square().topk(2, largest=False).values
        gaps.append((best[:, 1] - best[:, 0]).reshape(tokens.shape[:2]))
    return torch.stack(gaps).amin(0).numpy()


def test_torch_and_served_encoder_give_the_same_codes(served: tuple[Run, SparCodeModel], data: Path) -> None:
    run, model = served
    rows, pipeline = histories(run), Pipeline.open(run.folder)
    assert len(rows) == HISTORIES
    wanted = torch_tokens(model, rows)
    tokens = pipeline.encoder.tokens(queries_of(rows))
    np.testing.assert_allclose(tokens, wanted.numpy(), atol=1e-5)
    codes = pipeline.encoder.codes(tokens)[0][:, :, 0]
    differ = (codes != model.quantise(wanted)[1].numpy()).any(axis=2)
    books = read_arrays(run.model_folder / "encoder.safetensors")["codebooks"]
    near = margins(model, wanted, books) < NEAR
    print(f"\n{data.name}: {differ.size:,} codes, {near.sum():,} near-ties, {differ.sum():,} codes differ")
    assert not (differ & ~near).any()
    assert near.mean() < 0.01


def slow_sums(pipeline: Pipeline, rows: np.ndarray, weights: np.ndarray) -> dict[int, int]:
    """Return item -> sum of weight * impact, from the stored words, with a dictionary."""
    index, sums = pipeline.searcher.index, defaultdict(int)
    for row, weight in zip(rows.tolist(), weights.tolist(), strict=True):
        for word in index.postings[int(index.indptr[row]) : int(index.indptr[row + 1])].tolist():
            sums[word >> 8] += weight * (word & 255)
    return sums


def test_cache_sums_equal_a_dictionary_and_rescoring_equals_torch(served: tuple[Run, SparCodeModel]) -> None:
    run, model = served
    rows, pipeline = histories(run)[:: HISTORIES // 100], Pipeline.open(run.folder)
    queries = queries_of(rows)
    state = pipeline.encode(queries)
    found = pipeline.search(state, 100, include_seen=True)
    hits = pipeline.rescore(state, found, 100)
    wanted = model.score_all(model.items.table(), torch_tokens(model, rows)).detach().numpy()
    for b in range(len(rows)):
        low, first, high = state.indptr[b], state.item_start[b], state.indptr[b + 1]
        sums = slow_sums(pipeline, state.rows[low:high], state.weights[low:high])
        best = sorted(sums, key=lambda item: (-sums[item], item))[:100]
        assert found.ids[b][: len(best)].tolist() == best
        assert found.sums[b][: len(best)].tolist() == [sums[item] for item in best]
        evidence = slow_sums(pipeline, state.rows[first:high], state.weights[first:high])
        of_items, of_all = pipeline.settings.evidence_weight, pipeline.settings.cached_weight
        lists = [pipeline.searcher.scale * (of_items * evidence[item] + of_all * sums[item]) for item in best]
        exact = wanted[b, best] + np.array(lists)
        place = {item: spot for spot, item in enumerate(best)}
        answered = hits.ids[b][: len(best)].tolist()
        assert sorted(answered) == sorted(best)
        in_order = exact[[place[item] for item in answered]]
        np.testing.assert_allclose(hits.scores[b][: len(best)], in_order, atol=1e-3, rtol=1e-4)
        assert (np.diff(in_order) <= 1e-3 + 1e-5 * np.abs(exact).max()).all()


def test_evaluation_reads_the_stored_lists(served: tuple[Run, SparCodeModel], tmp_path: Path) -> None:
    run = served[0]
    folder = tmp_path / "run"
    shutil.copytree(run.folder, folder)
    names = ["sparcode", "sparcode-cache", "popular"]

    def ndcg() -> dict[str, float]:
        results = evaluate_run(folder, retrievers=names)["results"]
        return {result["retriever"]: result["metrics"]["ndcg@10"] for result in results}

    before = ndcg()
    index, manifest = open_index(folder / "index")
    starts = index.indptr.astype(np.int64)
    ids = np.arange(len(index.postings)) - np.repeat(starts[:-1], np.diff(starts))
    ids += index.item_count - int(np.diff(starts).max())  # the same lengths and impacts, other items
    altered = type(index)(**{**index.__dict__, "postings": pack(ids, index.postings & np.uint32(255))})
    publish(
        folder / "index", altered, model_hash=manifest["model_hash"], config_hash=manifest["config_hash"],
        info=manifest["info"],
    )  # fmt: skip
    after = ndcg()
    assert after["popular"] == before["popular"]
    for name in ("sparcode", "sparcode-cache"):
        assert after[name] < before[name], name

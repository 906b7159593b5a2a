from __future__ import annotations

import sys

import numpy as np
import pytest

from sparcode.errors import ConfigError, MissingExtraError
from sparcode.eval.metrics import overlap
from sparcode.query.search import best
from sparcode.retrievers import hnsw
from sparcode.retrievers.exact import ExactRetriever
from sparcode.retrievers.hnsw import HNSW_LIBRARIES, HnswRetriever
from sparcode.retrievers.registry import open_hnsw
from sparcode.types import Queries
from tests.retrievers.contract import VECTORS, LastItemEncoder


class TableEncoder:
    """Token = unit vector of the last item, from any table; ``heads`` > 1 adds those of earlier items."""

    def __init__(self, vectors: np.ndarray, heads: int = 1) -> None:
        self.vectors, self.heads = vectors, heads

    def tokens(self, queries: Queries) -> np.ndarray:
        return np.stack([self.encode_one(queries.history(row)) for row in range(len(queries))])

    def has_tokens(self, queries: Queries) -> np.ndarray:
        return np.diff(queries.indptr) > 0

    def encode_one(self, history: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        return self.vectors[history[-np.arange(1, self.heads + 1)]]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    table = np.random.default_rng(1).normal(size=(600, 16)).astype(np.float32)
    return table / np.linalg.norm(table, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def queries() -> Queries:
    # Long histories near the query: most of the nearest items are seen, so the first fetch runs short.
    random = np.random.default_rng(2)
    return Queries(np.arange(0, 40 * 60 + 1, 60), random.integers(0, 600, 40 * 60).astype(np.int32))


@pytest.fixture(scope="module", params=HNSW_LIBRARIES)
def graph(request: pytest.FixtureRequest, vectors: np.ndarray) -> HnswRetriever:
    return HNSW_LIBRARIES[request.param](TableEncoder(vectors), vectors, ef=16)


def test_recall_grows_with_ef_up_to_exact(graph: HnswRetriever, vectors: np.ndarray, queries: Queries) -> None:
    exact = ExactRetriever(graph.encoder, vectors).retrieve(queries, 10).ids
    recalls = [overlap(graph.at(ef).retrieve(queries, 10).ids, exact, 10).mean() for ef in (8, 64, 600)]
    assert recalls[0] <= recalls[1] + 0.02
    assert recalls[2] > 0.995


def test_single_query_path_equals_batch(graph: HnswRetriever, queries: Queries) -> None:
    view = graph.at(600)
    batch = view.retrieve(queries, 7)
    for row in range(5):
        single = view.retrieve_one(queries.history(row), 7)
        assert np.array_equal(single.ids[0], batch.ids[row])
        np.testing.assert_allclose(single.scores[0], batch.scores[row], rtol=1e-5)
    everything = np.arange(598, dtype=np.int32)
    assert sorted(view.retrieve_one(everything, 2).ids[0].tolist()) == [598, 599]


def test_seen_items_never_come_back_even_when_nearly_all_are_seen(graph: HnswRetriever) -> None:
    history = np.random.default_rng(5).permutation(600)[:595].astype(np.int32)
    hits = graph.retrieve(Queries(np.array([0, 595]), history), 10)
    assert sorted(hits.ids[0][:5].tolist()) == sorted(set(range(600)) - set(history.tolist()))
    assert (hits.ids[0][5:] == -1).all()


def test_views_share_the_graph_and_keep_their_ef(graph: HnswRetriever) -> None:
    low, high = graph.at(10), graph.at(200)
    assert low._index is high._index
    low.prepare()
    assert graph._applied == [10]
    high.prepare()
    assert graph._applied == [200]


def test_bytes_hold_at_least_the_vectors(graph: HnswRetriever, vectors: np.ndarray) -> None:
    assert graph.bytes > vectors.nbytes
    assert graph.build_seconds > 0
    assert graph.settings == {"links": 32, "ef_construction": 200, "seed": 0}


def test_same_seed_same_answers(graph: HnswRetriever, vectors: np.ndarray, queries: Queries) -> None:
    again = type(graph)(graph.encoder, vectors, ef=16)
    assert np.array_equal(again.retrieve(queries, 10).ids, graph.at(16).retrieve(queries, 10).ids)


def test_several_tokens_count_an_item_once_with_its_best_score(
    graph: HnswRetriever, vectors: np.ndarray, queries: Queries
) -> None:
    encoder = TableEncoder(vectors, heads=2)
    view = type(graph)(encoder, vectors, ef=600)
    exact = ExactRetriever(encoder, vectors)
    ours, theirs = view.retrieve(queries, 10), exact.retrieve(queries, 10)
    assert overlap(ours.ids, theirs.ids, 10).mean() > 0.99
    assert all(len(set(row.tolist())) == 10 for row in ours.ids)
    history = queries.history(0)
    assert np.array_equal(exact.retrieve_one(history, 10).ids[0], theirs.ids[0])


def test_hnswlib_that_finds_too_few_is_asked_row_by_row(vectors: np.ndarray) -> None:
    graph = hnsw.HnswlibHnsw(TableEncoder(vectors), vectors)
    ids, scores = graph._knn_rows(vectors[:3], 5)
    assert ids[:, 0].tolist() == [0, 1, 2]
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-5)
    ids, _ = graph._knn_rows(vectors[:1], 601)
    assert (ids == -1).any()


def test_kernels_in_plain_python(monkeypatch: pytest.MonkeyPatch) -> None:
    found = np.array([[3, 3, 5, -1, 2, 3], [0, 1, 2, 3, 4, 5]])
    values = np.array([[0.5, 0.75, 0.75, 0, 0.1, 0.9], [1, 1, 0.5, 0.4, 0.3, 0.2]], np.float32)
    arguments = (
        np.arange(2),
        np.ones(2, bool),
        hnsw.Histories(np.array([0, 1, 3]), np.array([2, 0, 1], np.int32), True),
    )

    def answers(keep: object) -> tuple[np.ndarray, ...]:
        ids, scores = np.full((2, 3), -1, np.int32), np.full((2, 3), -np.inf, np.float32)
        done = keep(hnsw.Found(found, values), *arguments, np.zeros(9, bool), ids, scores, 3)  # type: ignore[operator]
        return ids, scores, done

    compiled = answers(hnsw._keep_unseen)
    monkeypatch.setattr(best, "worse", best.worse.py_func)
    for name in ("insert_best", "_merge_row", "fill"):
        monkeypatch.setattr(hnsw, name, getattr(hnsw, name).py_func)
    plain = answers(hnsw._keep_unseen.py_func)
    for left, right in zip(compiled, plain, strict=True):
        np.testing.assert_array_equal(left, right)
    history = np.array([5, 2], np.int32)
    one = hnsw._keep_one(found[:1, 1:], values[:1, 1:], history, 2)
    assert hnsw._keep_one.py_func(found[:1, 1:], values[:1, 1:], history, 2)[2] == one[2]
    assert plain[0].tolist() == [[3, 5, -1], [2, 3, 4]]
    assert plain[2].tolist() == [False, True]


@pytest.mark.parametrize(("library", "module"), [("faiss-hnsw", "faiss"), ("hnswlib", "hnswlib")])
def test_missing_library_names_the_install_line(library: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"sparcode\[bench\]"):
        HNSW_LIBRARIES[library](LastItemEncoder(), VECTORS)


def test_unknown_library() -> None:
    with pytest.raises(ConfigError, match="faiss-hnsw, hnswlib"):
        open_hnsw(None, "annoy")


@pytest.mark.parametrize("library", HNSW_LIBRARIES)
def test_items_nothing_is_known_about_do_not_break_the_graph(library: str, vectors: np.ndarray) -> None:
    # Zero vectors before, between and after the others.
    table = np.zeros((2100, 16), np.float32)
    known = np.random.default_rng(3).permutation(2100)[:100]
    table[known] = vectors[:100]
    encoder = TableEncoder(table)
    rows = Queries(np.arange(101), known.astype(np.int32))
    found = HNSW_LIBRARIES[library](encoder, table, ef=64).retrieve(rows, 10)
    exact = ExactRetriever(encoder, table).retrieve(rows, 10)
    assert overlap(found.ids, exact.ids, 10).mean() > 0.9
    every = HNSW_LIBRARIES[library](encoder, np.zeros_like(table), ef=64).retrieve(rows, 10)
    assert (every.ids >= 0).all()

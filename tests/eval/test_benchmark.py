from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from sparcode.errors import DataError, MissingExtraError
from sparcode.eval.benchmark import EXACT, System, measure_systems
from sparcode.eval.latency import Stages
from sparcode.eval.operating_points import point_names, tune
from sparcode.retrievers import systems as systems_module
from sparcode.retrievers.evaluation import benchmark
from sparcode.retrievers.exact import ExactRetriever
from sparcode.retrievers.hnsw import HnswlibHnsw
from sparcode.types import EvaluationSet, Hits, Queries
from tests.eval.world import ITEMS, Planted, evaluation_set

ROW_KEYS = "system metrics index_recall cache_bytes rescoring_bytes encoder_bytes build_s latency_us batch_qps"


def planted_system(name: str, part: EvaluationSet, places: np.ndarray, exact: Planted) -> System:
    retriever = Planted(part, places, name)

    stages = Stages(lambda query: query, lambda query: query, None, lambda query: retriever.retrieve(query, 10))
    return System(name, retriever, stages, exact, 10, 20, 30, None, {"more": 1})


@pytest.fixture(scope="module")
def document() -> dict:
    part = evaluation_set()
    exact = Planted(part, np.zeros(40, int), EXACT)
    systems = [
        planted_system(EXACT, part, np.zeros(40, int), exact),
        planted_system("sparcode", part, np.full(40, 3), exact),
        planted_system("far", part, np.full(40, 20), exact),
    ]
    return measure_systems(systems, part, ITEMS, queries=6, rounds=1)


def test_rows_have_the_fixed_shape(document: dict) -> None:
    document = json.loads(json.dumps(document, allow_nan=False))
    assert {"machine", "commit", "rows"} <= set(document)
    for row in document["rows"]:
        assert set(ROW_KEYS.split()) <= set(row)
        assert set(row["latency_us"]) == {"encode", "retrieve", "rescore", "total"}
        assert set(row["latency_us"]["total"]) == {"p50", "p95"}
        assert {"recall@10", "ndcg@10", "recall@50", "ndcg@50", "mrr", "coverage@10"} <= set(row["metrics"])
        assert row["more"] == 1
    assert document["machine"]["cores"] >= 1
    assert document["settings"]["timed_users"] == 6


def test_index_recall_is_against_the_reference(document: dict) -> None:
    recalls = {row["system"]: row["index_recall"] for row in document["rows"]}
    assert recalls[EXACT] == 1.0
    assert recalls["sparcode"] == 1.0
    assert recalls["far"] == pytest.approx(0.9)


def test_differences_from_exact_are_paired(document: dict) -> None:
    exact, near, far = document["rows"]
    assert "ndcg@10_minus_exact" not in exact
    assert near["ndcg@10_minus_exact"]["difference"] == pytest.approx(1 / np.log2(5) - 1)
    assert far["ndcg@10_minus_exact"]["high"] == pytest.approx(-1)


def test_quality_at_k_comes_from_a_search_for_k() -> None:
    part = evaluation_set(users=8)

    class Lazy(Planted):
        """Finds the target only when asked for many results, like a graph whose ef is raised to k."""

        def retrieve(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
            hits = super().retrieve(queries, k, include_seen=include_seen)
            return hits if k > 10 else Hits(hits.ids[:, ::-1] * 0 + np.arange(k, dtype=np.int32), hits.scores)

    lazy = Lazy(part, np.zeros(8, int))
    system = System("lazy", lazy, Stages(lambda q: q, lambda s: s, None, lambda h: None), lazy, 0, 0, 0, 0.0)  # type: ignore[arg-type, return-value]
    (row,) = measure_systems([system], part, ITEMS, queries=2, rounds=1)["rows"]
    assert row["metrics"]["recall@50"] == 1
    assert row["metrics"]["recall@10"] < 1


def test_users_without_history_are_not_timed() -> None:
    part = evaluation_set(users=2)
    nobody = EvaluationSet(
        part.users, Queries(np.zeros(3, np.int64), np.empty(0, np.int32)), part.target_indptr, part.target_items
    )
    with pytest.raises(DataError, match="history"):
        measure_systems([], nobody, ITEMS)


def test_a_run_without_test_users_is_refused() -> None:
    run = SimpleNamespace(folder="runs/x", held_out=lambda split: None)
    with pytest.raises(DataError, match="no test set"):
        benchmark(run)


class LastVector:
    """Token = noisy vector of the last item."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors

    def tokens(self, queries: Queries) -> np.ndarray:
        return self.vectors[queries.items[queries.indptr[1:] - 1]][:, None]

    def has_tokens(self, queries: Queries) -> np.ndarray:
        return np.ones(len(queries), bool)

    def encode_one(self, history: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        return self.vectors[history[-1:]]


@pytest.fixture(scope="module")
def dense() -> tuple[ExactRetriever, HnswlibHnsw, EvaluationSet]:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(3000, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    encoder = LastVector(vectors)
    exact = ExactRetriever(encoder, vectors)
    queries = Queries(np.arange(201), random.integers(0, 3000, 200).astype(np.int32))
    targets = exact.retrieve(queries, 4).ids[np.arange(200), random.integers(0, 4, 200)]
    part = EvaluationSet(np.arange(200, dtype=np.int32), queries, np.arange(201), targets)
    return exact, HnswlibHnsw(encoder, vectors, links=6, ef_construction=40), part


def test_operating_points_are_the_smallest_ef_that_reach_them(
    dense: tuple[ExactRetriever, HnswlibHnsw, EvaluationSet],
) -> None:
    exact, graph, part = dense
    tuning = tune(graph.at, exact, part, 3000)
    assert list(tuning.points) == point_names(10)
    assert not tuning.missed
    low, high = tuning.points["index_recall@10>=0.95"], tuning.points["index_recall@10>=0.99"]
    assert low <= high
    curve = {point["ef"]: point for point in tuning.curve}
    assert curve[low]["index_recall"] >= 0.95
    assert all(point["index_recall"] < 0.95 for ef, point in curve.items() if ef < low)
    assert curve[high]["index_recall"] >= 0.99


def test_points_out_of_reach_are_named(dense: tuple[ExactRetriever, HnswlibHnsw, EvaluationSet]) -> None:
    exact, _, part = dense
    never = Planted(evaluation_set(), np.zeros(40, int))
    never.retrieve = lambda queries, k, include_seen=False: Hits(  # type: ignore[method-assign]
        np.full((len(queries), k), -1, np.int32), np.full((len(queries), k), -np.inf, np.float32)
    )
    tuning = tune(lambda ef: never, exact, part, 30)
    assert tuning.missed == point_names(10)
    assert set(tuning.points.values()) == {30}


def test_two_tower_systems_and_missing_libraries(
    dense: tuple[ExactRetriever, HnswlibHnsw, EvaluationSet], monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    exact, graph, part = dense

    def hnsw(run: object, library: str, exact: ExactRetriever) -> HnswlibHnsw:
        if library == "faiss-hnsw":
            raise MissingExtraError("faiss-cpu", "bench", "the HNSW comparison")
        return graph

    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "two_tower.json").write_bytes(b" " * (exact.bytes + 7))
    monkeypatch.setattr(systems_module, "sparcode_systems", lambda run, k: [])
    monkeypatch.setattr(systems_module, "open_two_tower", lambda run: exact)
    monkeypatch.setattr(systems_module, "open_hnsw", hnsw)
    dataset = SimpleNamespace(test=part, item_count=3000)
    config = SimpleNamespace(query=SimpleNamespace(include_seen=False))
    run = SimpleNamespace(folder=tmp_path, dataset=dataset, held_out=lambda split: part, config=config)
    with pytest.warns(UserWarning, match=r"sparcode\[bench\]"):
        document = benchmark(run, queries=5, rounds=1)
    rows = document["rows"]
    assert rows[0]["system"] == EXACT
    assert rows[0]["rescoring_bytes"] == exact.bytes
    assert rows[0]["encoder_bytes"] == 7
    assert {row["system"] for row in rows[1:]} == {"two-tower-hnswlib"}
    assert sum((row["operating_points"] for row in rows[1:]), []) != []
    assert rows[1]["cache_bytes"] == graph.bytes
    assert list(document["curves"]) == ["hnswlib"]
    assert "bench" in document["warnings"][0]
    assert document["machine"]["threads"]["numba"] == "1"


def test_whole_benchmark_of_a_trained_run(tiny_run) -> None:
    from sparcode.run import Run

    document = benchmark(Run.open(tiny_run.folder), queries=10, rounds=1)
    json.dumps(document, allow_nan=False)
    systems = [row["system"] for row in document["rows"]]
    assert systems[:3] == ["sparcode-cache", "sparcode", EXACT]
    assert set(systems[3:]) == {"two-tower-faiss-hnsw", "two-tower-hnswlib"}
    cache, rescored = document["rows"][:2]
    assert cache["cache_bytes"] == rescored["cache_bytes"] > 0
    assert cache["rescoring_bytes"] == 0 < rescored["rescoring_bytes"]
    assert cache["build_s"] is None or cache["build_s"] >= 0

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sparcode.errors import ConfigError, CorruptIndexError, MissingExtraError
from sparcode.eval.metrics import overlap
from sparcode.index.layout import pack, unpack
from sparcode.scale.peers import graphs as graph_peers
from sparcode.scale.peers import partitions as partition_peers
from sparcode.scale.peers.dense import DenseEngine
from sparcode.scale.peers.exact import exact_ids
from sparcode.scale.peers.registry import dense_peers, measured_at, sparse_peers
from sparcode.scale.peers.sparse import SparseEngine
from sparcode.scale.tuning import Point, choose, pareto, trace, tune, tune_quality

LIBRARIES = {
    "hnswlib": "hnswlib",
    "hnswlib-m32": "hnswlib",
    "faiss-hnsw": "faiss",
    "faiss-hnsw-sq8": "faiss",
    "usearch-f32": "usearch",
    "usearch-f16": "usearch",
    "faiss-ivf-flat": "faiss",
    "faiss-ivf-pq": "faiss",
    "scann": "scann",
    "faiss-flat": "faiss",
    "scipy-csr": "scipy",
    "bm25s-numba": "bm25s",
    "bm25s-kernel": "bm25s",
    "seismic": "seismic",
}
ONE_BUILD_ONLY = {"scann"}
"""Engines whose builds differ from one another; every other gives the same answers again."""

K = 10
N = 1500
ROWS = 60


def clustered(rows: int, seed: int, unit: bool = True) -> np.ndarray:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(30, 16))
    vectors = centres[random.integers(0, 30, rows)] + 0.6 * random.normal(size=(rows, 16))
    if unit:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors, np.float32)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return clustered(N, 1)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return clustered(40, 2)


@pytest.fixture(scope="module")
def reference(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return np.argsort(-(queries.astype(np.float64) @ vectors.T), axis=1, kind="stable")[:, :100]


def need(name: str) -> None:
    if name in LIBRARIES:
        pytest.importorskip(LIBRARIES[name])


@pytest.fixture(scope="module", params=dense_peers())
def dense(request: pytest.FixtureRequest, vectors: np.ndarray) -> DenseEngine:
    need(request.param)
    return dense_peers()[request.param].build(vectors, seed=3)  # type: ignore[return-value]


def answers(peer: DenseEngine, queries: np.ndarray, k: int = K) -> np.ndarray:
    return np.stack([peer.search(query, k) for query in queries])  # type: ignore[attr-defined]


def test_every_name_has_its_library_here() -> None:
    assert set(LIBRARIES) | {"exact-numpy", "sparcode", "numpy-dense", "numpy-touched"} == {
        *dense_peers(), *sparse_peers()
    }  # fmt: skip


def test_index_recall_can_be_reached(dense: DenseEngine, queries: np.ndarray, reference: np.ndarray) -> None:
    choice = tune(dense, queries, reference, K, rounds=1)  # type: ignore[arg-type]
    assert choice.reached
    assert choice.parameters in [point.parameters for point in choice.curve]
    found = answers(dense, queries)
    assert found.dtype in (np.int32, np.int64)
    assert found.shape == (len(queries), K)
    assert overlap(found, reference, K).mean() >= 0.95
    assert dense.build_seconds > 0


def test_the_dearest_parameters_find_nearly_all(dense: DenseEngine, queries: np.ndarray, reference: np.ndarray) -> None:
    dense.set(dense.parameter_grid(50)[-1])
    worst = 0.9 if dense.name == "faiss-hnsw-sq8" else 0.98
    assert overlap(answers(dense, queries, 50), reference, 50).mean() >= worst


def test_best_first(dense: DenseEngine, vectors: np.ndarray, queries: np.ndarray) -> None:
    dense.set(dense.parameter_grid(K)[-1])
    scores = np.take_along_axis(queries @ vectors.T, answers(dense, queries).astype(np.int64), axis=1)
    slack = {"faiss-hnsw-sq8": 0.02, "usearch-f16": 0.002}.get(dense.name, 1e-5)
    assert (np.diff(scores, axis=1) <= slack).all()


def test_batches_answer_as_single_queries(dense: DenseEngine, queries: np.ndarray) -> None:
    dense.set(dense.parameter_grid(K)[-1])
    single, batch = answers(dense, queries), dense.search_batch(queries, K)  # type: ignore[attr-defined]
    assert batch.shape == single.shape
    # Sums of another order may swap two items whose scores agree to the last bit or two.
    assert (single == batch).mean() > 0.98
    assert overlap(single, batch, K).mean() > 0.99


def test_saved_and_loaded_it_answers_the_same(dense: DenseEngine, queries: np.ndarray, tmp_path: Path) -> None:
    parameters = dense.parameter_grid(K)[len(dense.parameter_grid(K)) // 2]
    dense.set(parameters)
    dense.save(tmp_path / "peer")
    again = type(dense).load(tmp_path / "peer")
    again.set(parameters)
    assert (answers(again, queries) == answers(dense, queries)).all()
    assert (again.build_seconds, again.settings) == (dense.build_seconds, dense.settings)
    assert again.build_cpu_seconds == dense.build_cpu_seconds
    assert again.bytes == pytest.approx(dense.bytes, rel=0.001)
    assert dense.bytes == sum(path.stat().st_size for path in (tmp_path / "peer").iterdir() if path.name != "peer.json")


def test_bytes_before_saving_are_those_of_the_file(dense: DenseEngine, vectors: np.ndarray, tmp_path: Path) -> None:
    fresh = type(dense).build(vectors[:200])
    told = fresh.bytes
    fresh.save(tmp_path)
    assert told == pytest.approx(fresh.bytes, rel=0.01)  # ScaNN's files hold a tree that differs from build to build
    assert told > 200 * 16 * (1 if dense.name == "faiss-hnsw-sq8" else 2)


def test_the_same_seed_gives_the_same_answers(dense: DenseEngine, vectors: np.ndarray, queries: np.ndarray) -> None:
    if dense.name in ONE_BUILD_ONLY:
        pytest.skip("the library does not promise it")
    again = type(dense).build(vectors, seed=3)
    for peer in (dense, again):
        peer.set(peer.parameter_grid(K)[0])
    assert (answers(again, queries) == answers(dense, queries)).all()
    assert (answers(dense, queries) == answers(dense, queries)).all()


def test_few_items_and_vectors_of_any_length(dense: DenseEngine) -> None:
    vectors, queries = clustered(60, 5, unit=False), clustered(10, 6, unit=False)
    peer = type(dense).build(vectors)
    peer.set(peer.parameter_grid(K)[-1])
    assert overlap(answers(peer, queries), exact_ids(vectors, queries, K), K).mean() >= 0.9


def test_more_results_than_items(dense: DenseEngine) -> None:
    vectors, queries = clustered(40, 5), clustered(4, 6)
    peer = type(dense).build(vectors)
    peer.set(peer.parameter_grid(50)[-1])
    for found in (answers(peer, queries, 50), peer.search_batch(queries, 50)):  # type: ignore[attr-defined]
        assert found.shape == (4, 50)
        assert ((found >= -1) & (found < 40)).all()
        assert all(len(set(row[row >= 0].tolist())) == (row >= 0).sum() for row in found)
        assert (found[:, 40:] == -1).all()


def test_unknown_settings_and_wrong_arrays_are_refused(dense: DenseEngine, vectors: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="has no setting 'speed'"):
        type(dense).build(vectors, speed=11)
    for wrong in (vectors.astype(np.float64), vectors.T, vectors[0], vectors[:0]):
        with pytest.raises(ConfigError, match="expected at least one row, float32"):
            type(dense).build(wrong)


def test_incomplete_damaged_and_foreign_folders_are_refused(dense: DenseEngine, tmp_path: Path) -> None:
    folder = tmp_path / "peer"
    with pytest.raises(CorruptIndexError, match="does not exist"):
        type(dense).load(folder)
    dense.save(folder)
    manifest = json.loads((folder / "peer.json").read_text())
    (folder / "peer.json").write_text(json.dumps({**manifest, "name": "other"}))
    with pytest.raises(CorruptIndexError, match="holds the engine 'other'"):
        type(dense).load(folder)
    (folder / "peer.json").write_text(json.dumps(manifest))
    for path in folder.iterdir():
        if path.name != "peer.json":
            path.unlink()
    with pytest.raises(CorruptIndexError, match=r"holds 0 bytes.*build it again"):
        type(dense).load(folder)
    (folder / "peer.json").write_text(json.dumps({**manifest, "bytes": 0}))
    with pytest.raises(CorruptIndexError, match="build it again"):
        type(dense).load(folder)


def test_a_truncated_file_is_refused_by_name(dense: DenseEngine, tmp_path: Path) -> None:
    dense.save(tmp_path)
    largest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_size)
    whole = largest.stat().st_size
    with largest.open("r+b") as stream:
        stream.truncate(whole - 1)
    with pytest.raises(CorruptIndexError, match="its manifest says"):
        type(dense).load(tmp_path)


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_a_missing_library_names_the_extra(
    name: str, vectors: np.ndarray, lists: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = LIBRARIES[name]
    for module in [module for module in sys.modules if module.split(".")[0] == library] + [library]:
        monkeypatch.setitem(sys.modules, module, None)
    arguments = (vectors,) if name in dense_peers() else (*lists, N)
    with pytest.raises(MissingExtraError, match=r"sparcode\[bench\]"):
        {**dense_peers(), **sparse_peers()}[name].build(*arguments)


@pytest.mark.parametrize("items", [1, 63, 500, 3000])
def test_exact_ids_are_the_sorted_scores_ties_by_id(items: int) -> None:
    random = np.random.default_rng(items)
    vectors = random.integers(-2, 3, (items, 4)).astype(np.float32)
    queries = random.integers(-2, 3, (5, 4)).astype(np.float32)
    expected = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")
    for k in (1, 10, 100):
        found = exact_ids(vectors, queries, k)
        np.testing.assert_array_equal(found[:, :items], expected[:, :k])
        assert (found[:, items:] == -1).all()


def test_grids_rise_and_hold_what_k_needs() -> None:
    assert graph_peers.ef_grid(100, 50) == [{"ef": 100}]
    efs = [entry["ef"] for entry in graph_peers.ef_grid(10, 10**6)]
    assert efs[0] == 10
    assert efs == sorted(set(efs))
    assert partition_peers.list_count(3) == 1
    assert partition_peers.list_count(10**6) == 4000
    assert partition_peers.probes(5) == [1, 2, 3, 4, 5]
    assert partition_peers.probes(6, 2) == [1, 3, 6]


def test_slow_builders_are_left_out_of_large_sets() -> None:
    def names(item_count: int) -> set[str]:
        return {*measured_at(dense_peers(), item_count), *measured_at(sparse_peers(), item_count)}

    assert names(10_000) == {*dense_peers(), *sparse_peers()}
    assert names(10_000) - names(100_000) == {"seismic"}
    assert {"hnswlib", "faiss-ivf-flat", "faiss-ivf-pq", "bm25s-numba", "scipy-csr", "sparcode"} <= names(1_000_000)
    assert not {"hnswlib-m32", "usearch-f32", "faiss-hnsw", "scann"} & names(1_000_000)


class Counted:
    """A peer whose recall is known: it finds the first ``effort`` of the exact results, and takes its time."""

    name, kind, build_seconds, bytes = "counted", "graph", 0.0, 0

    def __init__(self, exact: np.ndarray) -> None:
        self.exact, self.effort, self.asked = exact, 0, []

    def parameter_grid(self, k: int) -> list[dict[str, int]]:
        return [{"effort": effort, "extra": extra} for effort in (2, 5, 8, 10) for extra in (0, 1)]

    def set(self, parameters: dict[str, int]) -> None:
        self.effort = parameters["effort"]
        self.asked.append(parameters)

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        return self.exact[0]

    def search_batch(self, queries: np.ndarray, k: int) -> np.ndarray:
        return np.where(np.arange(k) < self.effort, self.exact[:, :k], -1)


@pytest.fixture
def counted() -> Counted:
    return Counted(np.arange(60).reshape(3, 20))


def test_a_curve_leaves_out_what_cannot_help(counted: Counted) -> None:
    curve = trace(counted, np.zeros((3, 2), np.float32), K, {}, exact=counted.exact, rounds=2)  # type: ignore[arg-type]
    assert [point.parameters["effort"] for point in curve] == [2, 2, 5, 5, 8, 8, 10]
    assert [point.values["index_recall"] for point in curve[::2]] == pytest.approx([0.2, 0.5, 0.8, 1.0])
    assert all(point.p50 > 0 for point in curve)
    assert curve[0].to_json()["parameters"] == {"effort": 2, "extra": 0}


def test_quality_can_be_any_function_of_the_ids(counted: Counted) -> None:
    queries = np.zeros((3, 2), np.float32)
    choice = tune_quality(counted, queries, lambda ids: float((ids >= 0).mean()), K, target=0.8, rounds=1)  # type: ignore[arg-type]
    assert choice.reached
    assert choice.parameters["effort"] in (8, 10)
    assert len(choice.curve) == 8


def test_the_fastest_that_reaches_the_target_is_chosen(counted: Counted) -> None:
    curve = [
        Point({"effort": effort, "extra": 0}, {"q": value}, p50)
        for effort, value, p50 in [(2, 0.5, 1.0), (5, 0.96, 9.0), (8, 0.97, 4.0), (10, 0.99, 6.0)]
    ]
    choice = choose(counted, curve, "q", 0.95)  # type: ignore[arg-type]
    assert (choice.parameters["effort"], choice.reached) == (8, True)
    assert counted.asked[-1] == choice.parameters
    missed = choose(counted, curve, "q", 0.999)  # type: ignore[arg-type]
    assert (missed.parameters["effort"], missed.reached) == (10, False)
    assert [point.p50 for point in pareto(curve, "q")] == [1.0, 4.0, 6.0]


# Sparse.


@pytest.fixture(scope="module")
def lists() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(7)
    lengths = np.concatenate([[0, 1, N], random.integers(20, 200, ROWS - 3)])
    ids = [np.sort(random.choice(N, length, replace=False)) for length in lengths]
    impacts = random.integers(1, 256, lengths.sum())
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.uint64)
    return indptr, pack(np.concatenate(ids), impacts)


@pytest.fixture(scope="module")
def asked() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, weights and offsets of 30 queries; the first is one list of one posting."""
    random = np.random.default_rng(8)
    sizes = np.concatenate([[1], random.integers(1, 12, 29)])
    rows = np.concatenate([[1], *(random.choice(ROWS, size, replace=False) for size in sizes[1:])])
    weights = random.integers(1, 5, len(rows))
    return rows.astype(np.int32), weights.astype(np.int32), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


@pytest.fixture(scope="module", params=sparse_peers())
def sparse(request: pytest.FixtureRequest, lists: tuple[np.ndarray, np.ndarray]) -> SparseEngine:
    need(request.param)
    return sparse_peers()[request.param].build(*lists, N)  # type: ignore[return-value]


def all_sums(lists: tuple[np.ndarray, np.ndarray], rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    sums = np.zeros(N, np.int64)
    for row, weight in zip(rows, weights, strict=True):
        ids, impacts = unpack(lists[1][int(lists[0][row]) : int(lists[0][row + 1])])
        sums[ids] += weight * impacts.astype(np.int64)
    return sums


@pytest.mark.parametrize("k", [1, 10, 100, 2000])
def test_sums_are_those_of_the_lists(
    sparse: SparseEngine, lists: tuple[np.ndarray, np.ndarray], asked: tuple[np.ndarray, ...], k: int
) -> None:
    rows, weights, indptr = asked
    batch = sparse.search_batch(rows, weights, indptr, k)
    assert batch.shape[0] == len(indptr) - 1
    shares = []
    for query, (low, high) in enumerate(zip(indptr[:-1], indptr[1:], strict=True)):
        sums = all_sums(lists, rows[low:high], weights[low:high])
        expected = np.sort(sums[sums > 0])[::-1][:k]
        for found in (sparse.search(rows[low:high], weights[low:high], k), batch[query]):
            found = found[found >= 0]
            assert len(set(found.tolist())) == len(found) <= k
            got = sums[found]
            assert (np.diff(got) <= 0).all()
            got = got[got > 0]
            if sparse.exact:
                np.testing.assert_array_equal(got, expected)
            shares.append(min(1.0, got.sum() / expected.sum()))
    assert np.mean(shares) > 0.99


def test_a_part_of_a_batch_is_answered_as_in_the_whole(
    sparse: SparseEngine, asked: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    rows, weights, indptr = asked
    part = sparse.search_batch(rows, weights, indptr[5:12], 10)
    np.testing.assert_array_equal(part, sparse.search_batch(rows, weights, indptr, 10)[5:11])


def test_sparse_answers_repeat(
    sparse: SparseEngine, lists: tuple[np.ndarray, np.ndarray], asked: tuple[np.ndarray, ...]
) -> None:
    again = type(sparse).build(*lists, N)
    rows, weights, indptr = asked
    if sparse.exact:
        assert (sparse.search_batch(*asked, 10) == again.search_batch(*asked, 10)).all()
    assert (sparse.search_batch(*asked, 10) == sparse.search_batch(*asked, 10)).all()
    assert sparse.bytes > 0
    assert sparse.build_seconds > 0


def test_sparse_settings_and_arrays_are_checked(sparse: SparseEngine, lists: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ConfigError, match="has no setting 'speed'"):
        type(sparse).build(*lists, N, speed=11)
    with pytest.raises(ConfigError, match="expected uint64 and uint32"):
        type(sparse).build(lists[0].astype(np.int64), lists[1], N)

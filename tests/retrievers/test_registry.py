"""Retrievers of a real run: opened by name, and true to the parts of the contract that need no known answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sparcode.config import Config
from sparcode.errors import ConfigError, RunError
from sparcode.index.arrays import write_arrays
from sparcode.retrievers.registry import RETRIEVERS, available, open_retriever, open_retrievers, open_two_tower
from sparcode.types import NO_ITEM
from tests.retrievers.contract import HISTORIES, ITEMS, TRAIN, queries_of, transition_lists


@pytest.fixture
def bare_run(tmp_path: Path) -> SimpleNamespace:
    """A run without any model: only what counted baselines need."""
    dataset = SimpleNamespace(train=TRAIN, item_count=ITEMS)
    return SimpleNamespace(folder=tmp_path, config=Config(), dataset=dataset)


@pytest.mark.parametrize("name", ["popular", "recent-popular", "item-knn"])
def test_baselines_need_only_the_data(bare_run: SimpleNamespace, name: str) -> None:
    retriever = open_retriever(bare_run, name)
    assert retriever.name == name
    assert (retriever.retrieve(queries_of([[1]]), 5).ids != NO_ITEM).all()


def test_counts_read_the_lists_of_the_run(bare_run: SimpleNamespace) -> None:
    indptr, items, values = transition_lists()
    arrays = {"indptr": indptr.astype(np.int64), "items": items.astype(np.int32), "values": values.astype(np.float32)}
    write_arrays(bare_run.folder / "model" / "transitions.safetensors", arrays)
    hits = open_retriever(bare_run, "counts").retrieve(queries_of([[5, 0]]), 2)
    assert hits.ids[0].tolist() == [2, 3]
    np.testing.assert_allclose(hits.scores[0], [2.0, 0.7])
    assert "counts" in available(bare_run)
    assert "two-tower" not in available(bare_run)


@pytest.mark.parametrize(("name", "hint"), [("counts", "families.item"), ("two-tower", "--no-baselines")])
def test_missing_baselines_say_what_to_do(bare_run: SimpleNamespace, name: str, hint: str) -> None:
    with pytest.raises(RunError, match=hint):
        open_retriever(bare_run, name)


def test_two_tower_without_item_vectors(bare_run: SimpleNamespace) -> None:
    (bare_run.folder / "model").mkdir()
    (bare_run.folder / "model" / "two_tower.json").write_text("{}")
    write_arrays(bare_run.folder / "model" / "two_tower.safetensors", {"x": np.zeros(1, np.float32)})
    with pytest.raises(RunError, match="item_vectors_out"):
        open_two_tower(bare_run)


def test_unknown_name_suggests_the_right_one(bare_run: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="did you mean 'item-knn'"):
        open_retriever(bare_run, "item_knn")
    with pytest.raises(ConfigError, match="known: sparcode, sparcode-cache"):
        open_retriever(bare_run, "zzz")


def test_every_retriever_of_a_trained_run_keeps_the_contract(tiny_run) -> None:
    from sparcode.run import Run

    run = Run.open(tiny_run.folder)
    assert available(run) == list(RETRIEVERS)
    queries = run.dataset.test.queries.slice(0, 12)
    n = run.dataset.item_count
    for retriever in open_retrievers(run, list(RETRIEVERS)):
        for k in (4, n + 3):
            hits = retriever.retrieve(queries, k)
            assert hits.ids.shape == (12, k)
            for row in range(len(queries)):
                found = hits.ids[row][hits.ids[row] != NO_ITEM].tolist()
                history = set(queries.history(row).tolist())
                assert len(found) == len(set(found)) == min(k, n - len(history)), retriever.name
                assert not set(found) & history


def test_odd_histories_are_answered_by_a_trained_run(tiny_run) -> None:
    from sparcode.run import Run

    run = Run.open(tiny_run.folder)
    for retriever in open_retrievers(run, list(RETRIEVERS)):
        hits = retriever.retrieve(queries_of(HISTORIES), 6)
        assert (hits.ids != NO_ITEM).all(), retriever.name
        seen = retriever.retrieve(queries_of([[0] * 40]), 6, include_seen=True)
        assert (seen.ids != NO_ITEM).all(), retriever.name

"""Retrievers of a real run: opened by name, and true to the parts of the contract that need no known answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sparcode.config import Config, updated
from sparcode.errors import ConfigError, RunError
from sparcode.files import write_json
from sparcode.index.arrays import export_encoder, write_arrays
from sparcode.retrievers import registry
from sparcode.retrievers.exact import ExactRetriever
from sparcode.retrievers.registry import (
    ON_REQUEST,
    RETRIEVERS,
    available,
    default_retrievers,
    open_retriever,
    open_retrievers,
    open_two_tower,
)
from sparcode.types import NO_ITEM, EvaluationSet
from tests.retrievers.contract import (
    AGE_WEIGHTS,
    HISTORIES,
    ITEMS,
    SOURCES,
    TRAIN,
    VECTORS,
    LastItemEncoder,
    content_features,
    queries_of,
    transition_lists,
)


@pytest.fixture
def bare_run(tmp_path: Path) -> SimpleNamespace:
    """A run without any model: only what counted baselines need."""
    dataset = SimpleNamespace(train=TRAIN, item_count=ITEMS, validation=None, item_features=None)
    return SimpleNamespace(
        folder=tmp_path, config=Config(), dataset=dataset, held_out=lambda split: getattr(dataset, split)
    )


@pytest.fixture
def full_run(bare_run: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The same with arrays of the contract's world: two-tower, additive model, counts, content, validation."""
    folder = bare_run.folder / "model"
    _write_transitions(folder)
    write_json(folder / "two_tower.json", {"temperature": 0.25})
    spec = {"temperature": 0.125, "width": 2, "items": ITEMS, "history": len(AGE_WEIGHTS)}
    arrays = {"sources": SOURCES, "targets": VECTORS, "age_weights": AGE_WEIGHTS}
    export_encoder(folder, "additive", spec, arrays)
    targets = np.arange(len(HISTORIES), dtype=np.int32)
    indptr = np.arange(len(HISTORIES) + 1)
    bare_run.dataset.validation = EvaluationSet(targets, queries_of(HISTORIES), indptr, targets)
    bare_run.dataset.item_features = content_features()
    monkeypatch.setattr(registry, "open_two_tower", lambda run: ExactRetriever(LastItemEncoder(), VECTORS))
    return bare_run


def _write_transitions(folder: Path) -> None:
    indptr, items, values = transition_lists()
    arrays = {"indptr": indptr.astype(np.int64), "items": items.astype(np.int32), "values": values.astype(np.float32)}
    write_arrays(folder / "transitions.safetensors", arrays)


def test_the_order_of_tables() -> None:
    controls = ["two-tower", "additive", "two-tower+counts", "two-tower+counts+additive", "counts", "ease", "item-knn"]
    ours = ["sparcode", "sparcode-cache", "all-to-all"]
    assert list(RETRIEVERS) == [*ours, *controls, "content-knn", "recent-popular", "popular"]


def test_a_full_run_opens_every_control_and_evaluates_the_cheap_ones(full_run: SimpleNamespace) -> None:
    assert available(full_run) == list(RETRIEVERS)
    assert default_retrievers(full_run) == [name for name in RETRIEVERS if name not in ON_REQUEST]
    names = list(RETRIEVERS[3:])
    for name, retriever in zip(names, open_retrievers(full_run, names), strict=True):
        assert retriever.name == name
        assert (retriever.retrieve(queries_of(HISTORIES[:3]), 5).ids != NO_ITEM).all()


@pytest.mark.parametrize(
    ("without", "lost"),
    [
        ("two_tower.json", {"two-tower", "two-tower+counts", "two-tower+counts+additive"}),
        ("additive.json", {"additive", "two-tower+counts+additive"}),
        ("transitions.safetensors", {"counts", "two-tower+counts", "two-tower+counts+additive"}),
    ],
)
def test_only_what_the_files_allow_is_available(full_run: SimpleNamespace, without: str, lost: set[str]) -> None:
    (full_run.folder / "model" / without).unlink()
    assert set(RETRIEVERS) - set(available(full_run)) == lost


def test_only_what_the_data_allow_is_available(full_run: SimpleNamespace) -> None:
    full_run.dataset.validation = full_run.dataset.item_features = None
    full_run.config = updated(full_run.config, {"baselines.ease_most_items": ITEMS - 1})
    assert set(RETRIEVERS) - set(available(full_run)) == set(ON_REQUEST)
    with pytest.raises(RunError, match=r"no validation set, on which two-tower\+counts\+additive fits"):
        open_retriever(full_run, "two-tower+counts+additive")
    with pytest.raises(RunError, match="no categories or vectors of items"):
        open_retriever(full_run, "content-knn")
    with pytest.raises(ConfigError, match="12 items found, at most 11"):
        open_retriever(full_run, "ease")


def test_settings_of_ease_are_read(full_run: SimpleNamespace) -> None:
    before = open_retriever(full_run, "ease").retrieve(queries_of([[0]]), 3).scores
    full_run.config = updated(full_run.config, {"baselines.ease_regularisation": 1.0})
    assert (open_retriever(full_run, "ease").retrieve(queries_of([[0]]), 3).scores > 2 * before).all()


@pytest.mark.parametrize("temperature", [None, 0, "warm"])
def test_a_two_tower_without_a_temperature_is_refused(full_run: SimpleNamespace, temperature: object) -> None:
    write_json(full_run.folder / "model" / "two_tower.json", {"temperature": temperature})
    with pytest.raises(RunError, match="temperature .* expected a number above 0"):
        open_retriever(full_run, "two-tower+counts")


@pytest.mark.parametrize("name", ["popular", "recent-popular", "item-knn", "ease"])
def test_baselines_need_only_the_data(bare_run: SimpleNamespace, name: str) -> None:
    retriever = open_retriever(bare_run, name)
    assert retriever.name == name
    assert (retriever.retrieve(queries_of([[1]]), 5).ids != NO_ITEM).all()


def test_counts_read_the_lists_of_the_run(bare_run: SimpleNamespace) -> None:
    _write_transitions(bare_run.folder / "model")
    hits = open_retriever(bare_run, "counts").retrieve(queries_of([[5, 0]]), 2)
    assert hits.ids[0].tolist() == [2, 3]
    np.testing.assert_allclose(hits.scores[0], [2.0, 0.7])
    assert "counts" in available(bare_run)
    assert "two-tower" not in available(bare_run)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("counts", "families.item"),
        ("two-tower", "baselines=False"),
        ("two-tower+counts", "baselines=False"),
        ("additive", "families.item.additive"),
    ],
)
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

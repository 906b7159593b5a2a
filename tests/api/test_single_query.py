"""One query takes the compiled path, and answers as it does among others, to the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sparcode import SparCode
from sparcode.api import snapshot
from sparcode.errors import QueryError
from sparcode.query.pipeline import Pipeline
from sparcode.retrievers.learned import SparcodeRetriever
from sparcode.types import Hits, Queries

if TYPE_CHECKING:
    from tests.conftest import TinyRun


@pytest.fixture(scope="module")
def model(tiny_run: TinyRun) -> SparCode:
    return SparCode.load(tiny_run.folder)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rescore": 0},
        {"k": 40},
        {"include_seen": True},
        {"where": "year>=1980"},
        {"allow": [100, 104, 108], "k": 3},
        {"deny": [100, 104]},
    ],
    ids=str,
)
def test_one_query_equals_the_same_among_many(model: SparCode, settings: dict[str, Any]) -> None:
    users = [f"u{number:03d}" for number in range(40)]
    ids, scores = model.recommend(users=users, **settings)
    for row, user in enumerate(users):
        own, found = model.recommend(users=[user], **settings)
        assert own[0].tolist() == ids[row].tolist()
        np.testing.assert_array_equal(found[0], scores[row])


@pytest.mark.parametrize("history", [[], [100], [104, 100, 104, 108], ["nothing"]], ids=str)
@pytest.mark.filterwarnings("ignore:histories")
def test_histories_alike(model: SparCode, history: list[Any]) -> None:
    ids, scores = model.recommend(histories=[history, [112, 116]])
    own, found = model.recommend(histories=[history])
    assert own[0].tolist() == ids[0].tolist()
    np.testing.assert_array_equal(found[0], scores[0])


def test_everything_goes_through_one_function(model: SparCode, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("a query went by stages")

    def counted(pipeline: Pipeline, queries: Queries, *given: Any, **options: Any) -> Hits:
        asked.append(len(queries))
        return retrieve(pipeline, queries, *given, **options)

    retrieve = Pipeline.retrieve
    monkeypatch.setattr(Pipeline, "retrieve", counted)
    for stage in ("encode", "search", "rescore"):
        monkeypatch.setattr(Pipeline, stage, refused)
    assert model.recommend(users=["u000"])[0].shape == (1, 10)
    assert model.recommend(users=["u000", "u001"])[0].shape == (2, 10)
    assert model.similar_items([100], k=5)[0].shape == (1, 5)
    assert len(model.recommend_items(histories=[[100, 104]], k=3)[0]) == 3
    assert SparcodeRetriever(model.pipeline).retrieve(Queries.single(np.array([1, 2], np.int32)), 4).ids.shape == (1, 4)
    assert asked == [1, 2, 1, 1, 1]


def test_threads_share_a_batch_and_change_nothing(model: SparCode) -> None:
    users = [f"u{number:03d}" for number in range(40)]
    ids, scores = model.recommend(users=users)
    for threads in (2, 7, None):
        own, found = model.recommend(users=users, threads=threads)
        assert own.tolist() == ids.tolist()
        np.testing.assert_array_equal(found, scores)
    (table,) = model.predict_tables(users, threads=2)
    assert table.equals(next(iter(model.predict_tables(users))))
    assert model.similar_items([100, 104], threads=2)[0].tolist() == model.similar_items([100, 104])[0].tolist()


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two"])
def test_wrong_threads_are_one_line(model: SparCode, threads: Any) -> None:
    with pytest.raises(QueryError, match="threads is"):
        model.recommend(users=["u000"], threads=threads)


@pytest.mark.parametrize("users", [["u001"], ["u001", "u002"]], ids=["one", "two"])
def test_large_catalogues_keep_no_names_and_answer_alike(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, users: list[str]
) -> None:
    kept = SparCode.load(tiny_run.folder)
    expected, _ = kept.recommend(users=users, k=80)
    assert kept._snapshot._names is not None
    assert None in expected[0]
    monkeypatch.setattr(snapshot, "_MOST_NAMED", 10)
    model = SparCode.load(tiny_run.folder)
    ids, _ = model.recommend(users=users, k=80)
    assert model._snapshot._names is None
    assert ids.tolist() == expected.tolist()
    assert {type(item) for item in ids.ravel()} == {type(item) for item in expected.ravel()} == {int, type(None)}

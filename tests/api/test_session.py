"""A session answers as its whole history would, to the last bit, event by event."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from sparcode import SparCode
from sparcode.api.session import Session
from sparcode.errors import QueryError, UnknownIdError
from sparcode.query.pipeline import Pipeline
from sparcode.types import Queries
from tests.query.test_pipeline import ITEMS
from tests.worlds import random_pipeline

if TYPE_CHECKING:
    from tests.conftest import TinyRun

SETTINGS: list[dict[str, Any]] = [
    {},
    {"rescore": 0},
    {"k": 80},
    {"include_seen": True},
    {"where": "year>=1980"},
    {"allow": [100, 104, 108], "k": 3},
    {"deny": [100, 104]},
]


def check(session: Session, model: SparCode, history: list[Any], **settings: Any) -> None:
    ids, scores = session.recommend(**settings)
    wanted, values = model.recommend(histories=[history], **settings)
    assert ids.tolist() == wanted.tolist()
    assert scores.tobytes() == values.tobytes()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_event_is_answered_as_the_history_up_to_it(model: SparCode, settings: dict[str, Any]) -> None:
    history = [100 + number * 7 % 60 for number in range(model.run.config.model.history + 3)]  # the window overflows
    session = model.session()
    check(session, model, [], **settings)
    for count, item in enumerate(history, 1):
        assert session.append(item) is session
        check(session, model, history[:count], **settings)
    assert session.history == history
    assert len(session) == len(history)
    check(model.session(history), model, history, **settings)


TOKENIZERS = ["sasrec", "gru4rec", "dnn", "self-attentive", "capsule"]


@pytest.mark.parametrize("features", [0, 3], ids=["no features", "features"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_known_tokens_answer_as_encoded_ones_for_every_tokenizer(tokenizer: str, features: int) -> None:
    pipeline: Pipeline = random_pipeline(ITEMS, table=True, features=features, **{"model.tokenizer": tokenizer})
    encoder, described = pipeline.encoder, np.linspace(-1, 1, features, dtype=np.float32) if features else None
    history = np.array([number * 5 % ITEMS for number in range(encoder.history + 2)], np.int32)
    state = encoder.start()
    for count, item in enumerate(history, 1):
        state = encoder.append(state, int(item))
        queries = Queries.single(history[:count], described)
        hits = pipeline.retrieve(queries, 7, tokens=encoder.tokens_of(state, described)[None])
        wanted = pipeline.retrieve(queries, 7)
        assert hits.ids.tolist() == wanted.ids.tolist()
        assert hits.scores.tobytes() == wanted.scores.tobytes()


def test_one_event_is_encoded_and_no_history(model: SparCode, monkeypatch: pytest.MonkeyPatch) -> None:
    session = model.session([100, 101, 102])
    for name in ("start", "tokens"):
        monkeypatch.setattr(type(model.pipeline.encoder), name, lambda *given: pytest.fail("the history is encoded"))
    session.append(103).recommend()


def test_unknown_items_are_told_and_left_out_as_in_recommend(model: SparCode) -> None:
    with pytest.warns(UserWarning, match="1 of 2 ids unknown, left out: 'nothing'") as told:
        session = model.session([100, "nothing"])
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="item: 1 of 1 ids unknown, left out: 'nothing'") as told:
        session.append("nothing")
    assert told[0].filename == __file__
    assert session.history == [100]
    check(session, model, [100])
    strict = model.session([100], unknown="raise")
    with pytest.raises(UnknownIdError, match="nothing"):
        strict.append("nothing")
    assert strict.append(101).history == [100, 101]


@pytest.mark.parametrize("item", [2.5, True, [100]], ids=str)
def test_what_cannot_be_an_id_changes_nothing(model: SparCode, item: Any) -> None:
    session = model.session([100])
    with pytest.raises(QueryError, match="^item is "):
        session.append(item)
    assert session.history == [100]


@pytest.mark.parametrize(
    ("given", "message"),
    [({"history": "100"}, "list of lists|list of ids"), ({"features": {"age": 3}}, "reads no user features"),
     ({"unknown": "maybe"}, "unknown is")], ids=["text", "features", "policy"],
)  # fmt: skip
def test_bad_beginnings_are_one_line(model: SparCode, given: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        model.session(**given)


def test_a_session_keeps_the_run_in_which_it_began(tiny_run: TinyRun, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    model = SparCode.load(folder)
    session, snapshot = model.session([100, 101]), model._snapshot
    model.reload()
    assert model._snapshot is not snapshot
    assert session._snapshot is snapshot
    check(session.append(102), model, [100, 101, 102])


def test_sessions_are_not_pickled(model: SparCode) -> None:
    session = model.session([100])
    with pytest.raises(QueryError, match="keep its history"):
        pickle.dumps(session)
    assert repr(session).startswith("Session(1 events, ")

"""Ids that the run does not know: raise, warn, ignore, in every place that takes ids."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from sparcode import SparCode
from sparcode.errors import QueryError, UnknownIdError


def test_histories_warn_and_go_on_without_the_unknown_ids(model: SparCode):
    with pytest.warns(UserWarning, match=r"histories: 5 of 8 ids unknown, left out: 'x', 'y', 999, \.\.\.$") as caught:
        ids, scores = model.recommend(histories=[["x", 100, 104, "y"], [999, "z", "x"], [100]], k=5)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    wanted, wanted_scores = model.recommend(histories=[[100, 104], [], [100]], k=5)
    assert ids.tolist() == wanted.tolist()
    np.testing.assert_array_equal(scores, wanted_scores)


def test_ignore_says_nothing_and_known_ids_warn_of_nothing(model: SparCode):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.recommend(histories=[["x", 100]], unknown="ignore")
        model.recommend(histories=[[100]], users=None, allow=[100, 101])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"users": ["u000", "nobody"]}, "unknown user 'nobody'"),
        ({"users": ["u000", None]}, "unknown user None"),
        ({"users": [float("nan")]}, "unknown user nan"),
        ({"histories": [[100]], "allow": [100, "x"]}, "unknown item 'x'"),
        ({"histories": [[100]], "deny": [999]}, "unknown item 999"),
        ({"histories": [[999]], "unknown": "raise"}, "unknown item 999"),
        ({"histories": [[10**40]], "unknown": "raise"}, "unknown item 1000000"),
        ({"histories": [["1" * 5000]], "unknown": "raise"}, "unknown item '1111"),
    ],
)
def test_everything_else_raises(model: SparCode, arguments: dict, message: str):
    for method in (model.recommend, model.recommend_items, model.recommend_table):
        with pytest.raises(UnknownIdError, match=message) as caught:
            method(**arguments)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("policy", ["warn", "ignore"])
@pytest.mark.filterwarnings("ignore")
def test_rows_stay_aligned(model: SparCode, policy: str):
    popular = model.recommend(histories=[[]], k=4)[0][0].tolist()
    known = model.recommend(users=["u001", "u002"], k=4)[0].tolist()
    users = ["u001", "nobody", None, "u002"]
    wanted = [known[0], popular, popular, known[1]]
    assert model.recommend(users=users, k=4, unknown=policy)[0].tolist() == wanted
    assert model.predict(users, k=4, unknown=policy)[0].tolist() == wanted
    table = next(model.predict_tables(users, k=4, unknown=policy))
    assert table["user_id"].to_pylist() == [user for user in users for _ in range(4)]
    assert table["item_id"].to_pylist() == [item for row in wanted for item in row]
    similar = model.similar_items([100, "x"], k=4, unknown=policy)[0].tolist()
    assert similar == [model.similar_items([100], k=4)[0][0].tolist(), popular]


def test_filters_leave_unknown_ids_out(model: SparCode):
    with pytest.warns(UserWarning, match="deny: 1 of 2 ids unknown, left out: 'gone'"):
        ids, _ = model.recommend(histories=[[100]], k=60, deny=[104, "gone"], unknown="warn")
    assert ids[0].tolist() == model.recommend(histories=[[100]], k=60, deny=[104])[0][0].tolist()
    nothing, scores = model.recommend(histories=[[100]], k=3, allow=["gone"], unknown="ignore")
    assert nothing.tolist() == [[None] * 3]
    assert np.isneginf(scores).all()


def test_unknown_items_asked_for(model: SparCode):
    with pytest.raises(UnknownIdError, match="unknown item 'x'"):
        model.similar_items([100, "x"])
    for policy in (None, "warn", "ignore", "raise"):
        with pytest.raises(UnknownIdError, match="unknown item 'x'"):
            model.explain(user="u000", item="x", unknown=policy)
    with pytest.raises(UnknownIdError, match="nobody"):
        model.explain(user="nobody", item=100)
    with pytest.warns(UserWarning, match="history: 1 of 2 ids unknown, left out: 'x'"):
        told = model.explain(history=[100, "x"], item=104)
    assert told == model.explain(history=[100], item=104)


def test_one_warning_however_many_blocks(model: SparCode, monkeypatch: pytest.MonkeyPatch):
    import sparcode.api.snapshot as snapshot

    monkeypatch.setattr(snapshot, "_BLOCK", 7)
    users = [f"u{number:03d}" for number in range(30)] + ["nobody", "none"]
    with pytest.warns(UserWarning, match="users: 2 of 32 ids unknown, answered as users without history") as caught:
        ids, _ = model.predict(users, k=3, unknown="warn")
    assert len(caught) == 1
    monkeypatch.undo()
    assert ids.tolist() == model.recommend(users=users, k=3, unknown="ignore")[0].tolist()


@pytest.mark.parametrize("policy", ["skip", True, 1, "", ["warn"]])
def test_a_policy_that_is_none(model: SparCode, policy: object):
    with pytest.raises(QueryError, match="unknown is .*; expected one of 'raise', 'warn', 'ignore'"):
        model.recommend(users=["u000"], unknown=policy)  # type: ignore[arg-type]

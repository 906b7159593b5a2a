"""What callers may give: lists of every kind are read, everything else is one QueryError that names the argument."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
import polars
import pyarrow
import pytest

from sparcode import SparCode
from sparcode.errors import ConfigError, QueryError, RunError, SparcodeError

if TYPE_CHECKING:
    from tests.conftest import TinyRun

USERS = ["u001", "u005"]
LISTS: dict[str, Any] = {
    "tuple": tuple,
    "generator": lambda values: (value for value in values),
    "iterator": iter,
    "deque": deque,
    "keys": lambda values: dict.fromkeys(values).keys(),
    "numpy": np.array,
    "numpy objects": lambda values: np.array(values, object),
    "pandas": pandas.Series,
    "pandas category": lambda values: pandas.Series(values, dtype="category"),
    "pandas index": pandas.Index,
    "polars": polars.Series,
    "pyarrow": pyarrow.array,
    "pyarrow chunks": lambda values: pyarrow.chunked_array([values[:1], values[1:]]),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_every_kind(model: SparCode, kind: str):
    make = LISTS[kind]
    wanted = model.recommend(users=USERS, k=6)[0].tolist()
    assert model.recommend(users=make(USERS), k=6)[0].tolist() == wanted
    assert model.predict(make(USERS), k=6)[0].tolist() == wanted
    wanted = model.recommend(histories=[[100, 104], [108, 112]], k=6, allow=[111, 120, 131], deny=[120, 121])[0]
    filters = {"allow": make([111, 120, 131]), "deny": make([120, 121])}
    ids, _ = model.recommend(histories=[make([100, 104]), make([108, 112])], k=6, **filters)
    assert ids.tolist() == wanted.tolist()
    assert model.similar_items(make([100, 104]), k=3)[0].shape == (2, 3)
    assert model.explain(history=make([100, 104]), item=108)["item_id"] == 108


def test_outer_lists_of_histories(model: SparCode):
    rows = [[100, 104], [108, 112]]
    wanted = model.recommend(histories=rows, k=4)[0].tolist()
    column = pyarrow.array(rows)
    for given in (
        np.array(rows),
        iter(rows),
        pandas.Series(rows),
        polars.Series(rows),
        column,
        tuple(map(tuple, rows)),
    ):
        assert model.recommend(histories=given, k=4)[0].tolist() == wanted
    assert model.recommend(histories=[[100.0, 104.0], np.array([108, 112], np.int16)], k=4)[0].tolist() == wanted


def test_sets_where_order_does_not_matter(model: SparCode):
    wanted = model.recommend(users=USERS, k=4, allow=[111, 120], deny=[130])[0].tolist()
    assert model.recommend(users=USERS, k=4, allow={120, 111}, deny=frozenset([130]))[0].tolist() == wanted


TABLE = pandas.DataFrame({"user_id": USERS})
BAD: list[tuple[dict[str, Any], str]] = [
    ({"users": 1}, "users is 1; expected a list, e.g. \\[1\\]"),
    ({"users": 2.5}, "users is 2.5"),
    ({"users": object()}, "users is <object"),
    ({"users": {"u001": 1}}, "users is a dict"),
    ({"users": {"u001"}}, "users is a set, which has no order"),
    ({"users": "u001"}, "users must be a list of ids, found the text 'u001'"),
    ({"users": b"u001"}, "users must be a list of ids, found the text b'u001'"),
    ({"users": np.array("u001")}, "users has 0 dimensions"),
    ({"users": np.array([["u001"]])}, "users has 2 dimensions"),
    ({"users": TABLE}, "users is a DataFrame; expected a list, or one column"),
    ({"users": polars.from_pandas(TABLE)}, "users is a DataFrame"),
    ({"users": pyarrow.table(TABLE)}, "users is a Table"),
    ({"users": [True]}, r"users\[0\] is True, a bool; an id is text or a whole number"),
    ({"users": ["u001", ["u002"]]}, r"users\[1\] is \['u002'\], a list"),
    ({"users": ["u001", 2.5]}, r"users\[1\] is 2.5, a float"),
    ({"users": ["u001", float("inf")]}, r"users\[1\] is inf, a float"),
    ({"users": [b"u001"]}, r"users\[0\] is b'u001', a bytes"),
    ({"users": [{}], "unknown": "ignore"}, r"users\[0\] is {}, a dict"),
    ({"histories": [50, 181]}, r"histories\[0\] is 50; histories must be a list of lists"),
    ({"histories": ["50", "181"]}, r"histories\[0\] is '50'; histories must be a list of lists"),
    ({"histories": [[100], None]}, r"histories\[1\] is None"),
    ({"histories": [[100], float("nan")]}, r"histories\[1\] is nan"),
    ({"histories": "abc"}, "histories is the text 'abc'"),
    ({"histories": b"abc"}, "histories is the text b'abc'"),
    ({"histories": 5}, "histories is 5"),
    ({"histories": {0: [100]}}, "histories is a dict"),
    ({"histories": {(100,)}}, "histories is a set"),
    ({"histories": [{100, 101}]}, r"histories\[0\] is a set"),
    ({"histories": [{100: 1}]}, r"histories\[0\] is a dict"),
    ({"histories": np.array([100, 101])}, r"histories\[0\] is 100"),
    ({"histories": np.zeros((1, 1, 1))}, "histories has 3 dimensions"),
    ({"histories": [[100, [101]]]}, r"histories\[0\]\[1\] is \[101\]"),
    ({"histories": [[], [100], [100, True]]}, r"histories\[2\]\[1\] is True"),
    ({"histories": [[100, 1.5]]}, r"histories\[0\]\[1\] is 1.5"),
    ({"features": {"age": 3}}, "features is a dict; expected a list of dictionaries"),
    ({"features": [3]}, r"features\[0\] is 3; expected a list of dictionaries"),
    ({"features": ["age"]}, r"features\[0\] is 'age'"),
    ({"features": 3}, "features is 3"),
    ({"features": TABLE}, "features is a DataFrame"),
    ({"histories": [[100]], "allow": 100}, "allow is 100"),
    ({"histories": [[100]], "allow": "100"}, "allow must be a list of ids"),
    ({"histories": [[100]], "deny": {100: 1}}, "deny is a dict"),
    ({"histories": [[100]], "deny": [True, False]}, r"deny\[0\] is True"),
    ({"histories": [[100]], "deny": np.zeros((2, 2))}, "deny has 2 dimensions"),
    ({"histories": [[100]], "where": b"year>1960"}, "where is a bytes"),
    ({"histories": [[100]], "where": ["year>1960"]}, "where is a list"),
    ({"histories": [[100]], "include_seen": "yes"}, "include_seen is 'yes'; expected True or False"),
    *[({"users": USERS, "k": k}, "k is .*expected a whole number, at least 1")
      for k in (3.0, None, "3", 0, -1, True, [3], float("nan"), np.float32(3), np.bool_(True))],
    *[({"users": USERS, "rescore": rescore}, "rescore is .*expected a whole number, at least 0")
      for rescore in (-1, 1.5, "3", True, [3], float("inf"))],
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=[f"{place} {message}" for place, (_, message) in enumerate(BAD)]
)
def test_one_line_names_the_argument(model: SparCode, arguments: dict[str, Any], message: str):
    for method in (model.recommend, model.recommend_items, model.recommend_table):
        with pytest.raises(QueryError, match=message) as caught:
            method(**arguments)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.similar_items(100), "ids is 100"),
        (lambda model: model.similar_items("100"), "ids must be a list"),
        (lambda model: model.similar_items({100}), "ids is a set"),
        (lambda model: model.similar_items([100], k=None), "k is None"),
        (lambda model: model.similar_items([[100]]), r"ids\[0\] is \[100\]"),
        (lambda model: model.similar_items(None), "ids is None"),
        (lambda model: model.predict(None), "users is None"),
        (lambda model: model.predict(3), "users is 3"),
        (lambda model: model.predict(USERS, k="3"), "k is '3'"),
        (lambda model: model.predict_tables(None), "users is None"),
        (lambda model: model.items_where(None), "where is a NoneType"),
        (lambda model: model.items_where(3), "where is a int"),
        (lambda model: model.explain(history=5, item=100), "history is 5"),
        (lambda model: model.explain(history="100", item=100), "history must be a list"),
        (lambda model: model.explain(user=["u000"], item=100), r"user\[0\] is \['u000'\]"),
        (lambda model: model.explain(user="u000", item=[100]), r"item is \[100\]"),
        (lambda model: model.explain(user="u000", item=1.5), "item is 1.5"),
        (lambda model: model.explain(user="u000", item=100, include_seen=1), "include_seen is 1"),
        (lambda model: SparCode.load(None), "run is None"),
        (lambda model: SparCode.load(3), "run is 3"),
        (lambda model: SparCode.load(""), "run is ''"),
        (lambda model: SparCode.load(b"x"), "run is b'x'"),
        (lambda model: SparCode.load("a\0b"), "run is"),
        (lambda model: SparCode.load(model.run.folder, verify="yes"), "verify is 'yes'"),
        (lambda model: SparCode.load(model.run.folder, verify=None), "verify is None"),
        (lambda model: SparCode.train(model.run.folder, None), "out is None"),
        (lambda model: SparCode.train(model.run.folder, model.run.folder / "x", like=3), "like is 3"),
        (lambda model: SparCode(str(model.run.folder)), "expected a Run, or SparCode.load"),
        (lambda model: SparCode(model.run, verify="yes"), "verify is 'yes'"),
        (lambda model: model.info(verify="yes"), "verify is 'yes'; expected True or False"),
        (lambda model: SparCode.train(model.run.folder, 3), "out is 3"),
    ],
)
def test_other_calls(model: SparCode, call: Any, message: str):
    with pytest.raises(QueryError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_options_of_training(model: SparCode):
    with pytest.raises(ConfigError, match="train has no option 'overwritte'; did you mean 'overwrite'"):
        SparCode.train(model.run.folder, model.run.folder / "x", overwritte=True)
    with pytest.raises(ConfigError, match="config has the key 5; expected dotted keys"):
        SparCode.train(model.run.folder, model.run.folder / "x", {5: 1})  # type: ignore[dict-item]


def test_a_file_is_no_run(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="no run"):
        SparCode.load(tmp_path / "file")
    with pytest.raises(RunError):
        SparCode.load(tmp_path / "absent")
    with pytest.raises(SparcodeError):
        SparCode.load("x" * 5000)


def test_numbers_of_numpy_count(model: SparCode):
    wanted = model.recommend(users=USERS, k=3, rescore=20)[0].tolist()
    assert model.recommend(users=USERS, k=np.int64(3), rescore=np.uint8(20))[0].tolist() == wanted


@pytest.mark.parametrize("k", [1001, 10**9, 10**30])
def test_a_k_beyond_the_items_takes_no_memory(model: SparCode, k: int):
    ids, scores = model.recommend(users=USERS, k=k, rescore=k)
    assert ids.shape == scores.shape == (2, 1000)
    eligible = [item for item in ids[0] if item is not None]
    assert len(eligible) == len(set(eligible)) == 60 - len(set(model.run.dataset.serving.row(0)))
    assert np.isneginf(scores[0, len(eligible) :]).all()
    assert model.recommend(users=USERS, k=70)[0].shape == (2, 70)
    assert model.predict([], k=k)[0].shape == (0, 1000)
    assert len(model.recommend_items(users=USERS, k=k)[0]) == 60 - len(
        set(model.run.dataset.serving.row(model.run.dataset.user_ids.get(USERS[0])))
    )


def test_results_of_no_queries_are_alike(model: SparCode):
    for nothing in ({"users": []}, {"histories": []}, {"users": np.array([])}, {"histories": iter(())}):
        ids, scores = model.recommend(**nothing, k=3)
        assert (ids.shape, ids.dtype, scores.shape, scores.dtype) == ((0, 3), object, (0, 3), np.float32)
        assert model.recommend_items(**nothing) == []
        assert model.recommend_table(**nothing).num_rows == 0
    assert model.similar_items([], k=3)[0].shape == (0, 3)
    (table,) = model.predict_tables([], k=3)
    assert table.num_rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": "2"}, "threads='2': expected a whole number"),
        ({"threads": 1.5}, r"threads=1\.5: expected a whole number"),
        ({"threads": True}, "threads=True: expected a whole number"),
        ({"threads": 0}, "threads=0: expected a whole number, at least 1"),
        ({"resume": "yes"}, "resume is 'yes'; expected True or False"),
        ({"overwrite": 1}, "overwrite is 1; expected True or False"),
        ({"baselines": None}, "baselines is None; expected True or False"),
        ({"progress": "bar"}, "progress is 'bar'; expected True or False"),
        ({"callback": 3}, "callback is 3; expected a function"),
        ({"callback": "print"}, "callback is 'print'; expected a function"),
    ],
    ids=lambda value: "-".join(f"{key}={text}" for key, text in value.items()) if isinstance(value, dict) else "",
)
def test_options_of_train_are_what_they_should_be(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    table = {"user": [1, 1, 1, 2, 2, 2], "item": [1, 2, 3, 3, 2, 1], "time": [1, 2, 3, 4, 5, 6]}
    with pytest.raises(SparcodeError, match=message):
        SparCode.train(table, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_what_works_on_a_run_says_what_it_expects(tiny_run: TinyRun, tmp_path: Path) -> None:
    from sparcode.build.job import build_index
    from sparcode.retrievers.evaluation import evaluate_run
    from sparcode.run import Run
    from sparcode.train.tune import tune

    wrong: list[tuple[Any, str]] = [
        (lambda: Run.open(5), "run is 5; expected the path of a run folder"),  # type: ignore[arg-type]
        (lambda: evaluate_run(None), "run is None; expected the path"),  # type: ignore[arg-type]
        (lambda: evaluate_run(tiny_run.folder, include_seen="yes"), "include_seen is 'yes'"),  # type: ignore[arg-type]
        (lambda: build_index(tiny_run.folder, workers="2", runner="threads"), "'2' workers asked for"),  # type: ignore
        (lambda: build_index(tiny_run.folder, threads=0.5), r"threads=0\.5: expected"),  # type: ignore[arg-type]
        (lambda: tune({}, tmp_path / "t.toml", trials="3"), "trials='3'"),  # type: ignore[arg-type]
        (lambda: tune({}, tmp_path / "t.toml", trials=0), "trials=0 minutes=None: expected at least one trial"),
        (lambda: tune({}, tmp_path / "t.toml", threads="1"), "threads='1': expected"),  # type: ignore[arg-type]
    ]
    for call, message in wrong:
        with pytest.raises(SparcodeError, match=message):
            call()
    named = evaluate_run(tiny_run.folder, retrievers="popular")
    assert [result["retriever"] for result in named["results"]] == ["popular"]

"""A model as an object: tables, what it looks like, copies that travel, a folder that changes under it."""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from sparcode import SparCode, __version__
from sparcode.build.job import build_index
from sparcode.errors import QueryError, RunError
from tests.worlds import random_pipeline


@pytest.fixture
def copied(model: SparCode, tmp_path: Path) -> Path:
    """A copy of the run, to be changed."""
    shutil.copytree(model.run.folder, tmp_path / "run")
    return tmp_path / "run"


def test_a_model_opened_by_a_relative_path_answers_from_anywhere(copied: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(copied.parent)
    model = SparCode.load(copied.name)
    monkeypatch.chdir("/")
    wanted = SparCode.load(copied).recommend(users=["u001"], k=5)
    found = model.recommend(users=["u001"], k=5)
    assert found[0].tolist() == wanted[0].tolist()
    assert model.info(verify=True)["verified"]


def test_a_table_of_answers(model: SparCode):
    arguments = {"users": ["u003", "u001"], "k": 58}
    table = model.recommend_table(**arguments)
    assert table.schema == pyarrow.schema(
        {"query": pyarrow.int64(), "rank": pyarrow.int32(), "item_id": pyarrow.int64(), "score": pyarrow.float32(),
         "title": pyarrow.string(), "filled": pyarrow.bool_()}
    )  # fmt: skip
    items = model.recommend_items(**arguments)
    rows = [
        {"query": query, "rank": rank, **row} for query, found in enumerate(items) for rank, row in enumerate(found)
    ]
    assert table.to_pylist() == rows
    assert len(rows) < 2 * 58, "places without an item are left out"
    frame = table.to_pandas()
    assert frame["item_id"].dtype == np.int64
    assert frame["title"].iloc[0].startswith("Item ")


def test_filled_places_have_no_score(model: SparCode):
    table = model.recommend_table(histories=[[], [100]], k=3)
    filled = table["filled"].to_pylist()
    assert filled[:3] == [True] * 3
    assert [score is None for score in table["score"].to_pylist()] == filled


def test_it_says_what_it_is(model: SparCode):
    text, page = repr(model), model._repr_html_()
    assert text.startswith(f"SparCode(folder={str(model.run.folder)!r}, items=60, users=120, megabytes=")
    for part in ("seed=0", f"trained={model.run.record['created']!r}", "index_generation=1", model.run.model_hash[:12]):
        assert part in text
    assert page.startswith("<table>")
    assert all(f">{value}<" in page for value in ("60", "120", "items", "index generation"))
    assert "\n" not in text


def test_the_page_is_escaped(model: SparCode, tmp_path: Path):
    folder = tmp_path / "<b>&\u202e"
    shutil.copytree(model.run.folder, folder)
    page = SparCode.load(folder)._repr_html_()
    assert "&lt;b&gt;&amp;?" in page
    assert "<b>" not in page


@pytest.mark.parametrize("travel", [lambda model: pickle.loads(pickle.dumps(model)), copy.copy, copy.deepcopy])
def test_copies_answer_alike(model: SparCode, travel):
    other = travel(model)
    assert other is not model
    assert other.recommend(users=["u001"])[0].tolist() == model.recommend(users=["u001"])[0].tolist()


def test_a_pickle_is_a_path(copied: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(copied.parent)
    model = SparCode.load("run", verify="full")
    monkeypatch.chdir("/")
    content = pickle.dumps(model)
    assert len(content) < 1000
    other = pickle.loads(content)
    assert other.run.folder == copied
    assert other._snapshot.verify == "full"
    shutil.rmtree(copied)
    with pytest.raises(RunError, match="no run found there") as caught:
        pickle.loads(content)
    assert "\n" not in str(caught.value)


def _answer(model: SparCode) -> list:
    return model.recommend(users=["u001"], k=4)[0].tolist()


def test_another_process_is_given_one(model: SparCode):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_answer, (model,)) == _answer(model)


def test_pipelines_travel_too(model: SparCode):
    settings = dataclasses.replace(model.pipeline.settings, probes=1, learned_weight=2)
    other = pickle.loads(pickle.dumps(model.pipeline.with_settings(settings)))
    assert other.settings == settings
    assert other.item_count == 60
    with pytest.raises(QueryError, match="over arrays in memory cannot be pickled"):
        pickle.dumps(random_pipeline())


def test_reload_answers_from_what_the_folder_holds_now(copied: Path):
    model = SparCode.load(copied)
    before, generation = model.pipeline, model.info()["index"]["generation"]
    build_index(copied, policy="length", length=2)
    assert model.info()["index"]["generation"] == generation
    assert model.reload() is model
    assert model.info()["index"]["generation"] == generation + 1
    assert model.pipeline is not before
    assert _answer(model) == _answer(SparCode.load(copied))


def test_a_folder_that_cannot_be_opened_leaves_the_model_answering(copied: Path):
    model = SparCode.load(copied)
    wanted = _answer(model)
    (copied / "run.json").unlink()
    with pytest.raises(RunError):
        model.reload()
    assert _answer(model) == wanted


def test_a_folder_that_is_moved_leaves_the_model_answering(copied: Path):
    opened = SparCode.load(copied)
    copied.rename(copied.with_name("elsewhere"))
    ids, _ = opened.recommend(users=["u000"], k=3)
    assert ids.shape == (1, 3)
    assert opened.explain(user="u000", item="105")
    assert len(opened.similar_items(["100"], k=3)[0])


def test_threads_answer_while_it_is_reloaded(copied: Path):
    model = SparCode.load(copied)
    wanted, seen, stop = _answer(model), [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            seen.append(_answer(model) == wanted)

    with ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        try:
            for _ in range(5):
                model.reload()
        finally:
            stop.set()
        for each in asking:
            each.result()
    assert seen
    assert all(seen)


def test_ids_are_those_of_the_run_that_was_opened(copied: Path, model: SparCode, tmp_path: Path):
    """Ids are opened with the model: a training that replaces the folder later does not rename its items."""
    opened = SparCode.load(copied)
    shutil.rmtree(copied / "data")
    assert _answer(opened) == _answer(model)


def test_explain_of_an_item_in_the_history(model: SparCode):
    told = model.explain(history=[100, 104], item=104)
    assert (told["seen"], told["eligible"], told["excluded_because"]) == (True, False, "seen")
    assert told["exhaustive_rank"] is not None, "its place among all items"
    ranked = model.explain(history=[100, 104], item=104, include_seen=True)
    assert (ranked["seen"], ranked["eligible"], ranked["excluded_because"]) == (True, True, None)
    assert ranked["exhaustive_rank"] == told["exhaustive_rank"]
    scores = model.pipeline.retrieve_exhaustive(model._snapshot.history_queries([[100, 104]], "", "raise"), 60,
                                                include_seen=True)  # fmt: skip
    (place,) = np.flatnonzero(model._snapshot.external(scores.ids[0]) == 104)
    assert told["exhaustive_rank"] == place


def test_explain_says_what_a_filter_excludes(model: SparCode):
    told = model.explain(history=[100], item=104, where="year<1952")
    assert (told["eligible"], told["excluded_because"]) == (False, "filtered")
    told = model.explain(history=[100], item=104, allow=[104], deny=[105])
    assert (told["eligible"], told["excluded_because"]) == (True, None)


def test_python_m_sparcode(tmp_path: Path):
    done = subprocess.run([sys.executable, "-m", "sparcode", "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"sparcode {__version__}{os.linesep}", "")

"""An explanation adds up to the score and names families and codes."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.errors import QueryError
from sparcode.index.layout import Family, make_index
from sparcode.query.explain import explain, impact_of
from sparcode.query.search.searcher import Searcher
from tests.query import reference

LISTS = reference.random_lists(4, 7, 30, 25)
BARE = reference.lists_to_index(LISTS, 30)
FAMILIES = [Family("learned", 0, 3), Family("item", 3, 4, 0.25)]
INDEX = make_index(BARE.indptr, BARE.postings, 30, 0.5, FAMILIES, code_table=[[1, 2], [3, 4], [5, 6]])
ROWS, WEIGHTS = np.array([0, 2, 2, 5, 6], np.int32), np.array([4, 1, 2, 3, 7], np.int32)


@pytest.mark.parametrize("item", range(30))
def test_contributions_add_up_to_the_score(item):
    entries = explain(INDEX, ROWS, WEIGHTS, item)
    total = Searcher(INDEX).sums_of(ROWS, WEIGHTS, np.array([item], np.int32))[0]
    assert sum(entry["contribution"] for entry in entries) == total * 0.5
    assert [e["contribution"] for e in entries] == sorted((e["contribution"] for e in entries), reverse=True)


def test_entries_name_family_code_and_value():
    index = make_index([0, 1, 2], [3 << 8 | 10, 3 << 8 | 20], 4, 0.5,
                       [Family("learned", 0, 1), Family("item", 1, 1, 0.25)], code_table=[[7, 9]])  # fmt: skip
    assert explain(index, np.array([0, 1]), np.array([1, 2]), 3) == [
        {"family": "item", "row": 1, "code": 0, "weight": 2, "impact": 20, "contribution": 20.0, "value": 2.5},
        {"family": "learned", "row": 0, "code": [7, 9], "weight": 1, "impact": 10, "contribution": 5.0, "value": 5.0},
    ]
    assert explain(index, np.array([0, 1]), np.array([1, 2]), 2) == []


def test_impact_of_every_item_of_every_row():
    for row, postings in enumerate(LISTS):
        assert [impact_of(INDEX, row, item) for item in range(30)] == [postings.get(item, 0) for item in range(30)]


@pytest.mark.parametrize(("rows", "item", "message"), [([0], 30, "item 30"), ([0], -1, "item -1"), ([7], 0, "row 7")])
def test_what_is_outside_is_named(rows, item, message):
    with pytest.raises(QueryError, match=message):
        explain(INDEX, np.array(rows), np.array([1]), item)


def test_rows_and_weights_must_match():
    with pytest.raises(QueryError, match="2 rows beside 1"):
        explain(INDEX, np.array([0, 1]), np.array([1]), 0)

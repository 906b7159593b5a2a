from __future__ import annotations

import numpy as np

from sparcode.data.repeats import count_repeats, training_advice
from sparcode.types import EvaluationSet, Queries


def held(repeated: int, others: int) -> EvaluationSet:
    count = repeated + others
    targets = np.array([1] * repeated + [2] * others, np.int32)
    queries = Queries(np.arange(count + 1), np.ones(count, np.int32))
    return EvaluationSet(np.arange(count, dtype=np.int32), queries, np.arange(count + 1), targets)


def test_repeats_are_counted_in_their_own_history_only() -> None:
    part = EvaluationSet(
        np.array([0, 1], np.int32), Queries(np.array([0, 3, 4]), np.array([5, 6, 5, 7], np.int32)),
        np.array([0, 3, 5]), np.array([5, 7, 6, 7, 5], np.int32),
    )  # fmt: skip
    assert count_repeats(part) == 3


def test_advice_from_a_tenth_on() -> None:
    assert training_advice(held(10, 90), "validation") is None
    text = training_advice(held(11, 89), "validation")
    assert text is not None
    assert text.startswith("11 of 100 validation targets (11 %) are already in the history of their query and count as")
    assert "query.include_seen=true" in text
    assert training_advice(None, "test") is None

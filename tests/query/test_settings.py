"""What ``query.json`` may say, and what is refused by file and key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sparcode.errors import ConfigError, RunError
from sparcode.query.settings import MOST_AGES, QuerySettings

GOOD: dict[str, Any] = {"learned_weight": 3, "probes": 4, "item_weights": [32, 0, 7], "evidence_weight": 0.25}
BAD_COUNT = [-1, 65536, 2**63, 10**5000, True, False, 1.0, "1", None, [], {}, float("nan")]
BAD_FACTOR = [-0.5, float("nan"), float("inf"), 1e300, 10**400, True, "0.5", None, [0.5], {}]
BAD_WEIGHTS = [
    None,
    3,
    "12",
    {"0": 1},
    [1, -1],
    [True],
    [0.5],
    ["1"],
    [[1]],
    [2**31],
    [0] * (MOST_AGES + 1),
    [0] * 10**6,
]
CASES = [
    *(("learned_weight", value) for value in BAD_COUNT),
    *(("segment_weight", value) for value in BAD_COUNT),
    *(("probes", value) for value in [0, 1025, *BAD_COUNT]),
    *((name, value) for name in ("evidence_weight", "cached_weight") for value in BAD_FACTOR),
    *((name, value) for name in ("item_weights", "category_weights") for value in BAD_WEIGHTS),
    ("item_weights", [65535] * 300),
]


@pytest.mark.parametrize(("key", "value"), CASES, ids=lambda value: str(value)[:30] if isinstance(value, str) else "")
def test_a_bad_value_is_refused_by_file_and_key(key: str, value: Any):
    with pytest.raises(RunError, match=rf"runs/a/query.json: {key}: .*(expected|at most)") as caught:
        QuerySettings.from_json(GOOD | {key: value}, "runs/a/query.json")
    assert len(str(caught.value)) < 300
    with pytest.raises(ConfigError, match=key):
        QuerySettings(**GOOD | {key: value})


@pytest.mark.parametrize("key", GOOD)
def test_a_missing_key_is_named(key: str):
    with pytest.raises(RunError, match=f"query.json: {key} is missing"):
        QuerySettings.from_json({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize("values", [None, [], "x", 3])
def test_what_is_no_object_is_refused(values: Any):
    with pytest.raises(RunError, match="expected an object"):
        QuerySettings.from_json(values)


def test_good_values_pass_and_notes_are_left_alone():
    settings = QuerySettings.from_json(GOOD | {"validation_queries": 7, "note": None})
    assert settings == QuerySettings(3, 4, (32, 0, 7), 0.25)
    assert QuerySettings.from_json(settings.to_json()) == settings
    assert QuerySettings(np.int64(3), np.int32(4), (np.int16(32), 0, 7), np.float32(0.25)) == settings

"""Sizes that follow the data."""

from __future__ import annotations

import pytest

from sparcode.data.dataset import load_dataset
from sparcode.train.defaults import codewords, epochs, resolve
from tests.worlds import planted_table, tiny_config

OPEN = [
    "model.heads",
    "model.blocks",
    "model.attention_heads",
    "model.dropout",
    "quantizer.books",
    "quantizer.codewords",
    "train.epochs",
]


@pytest.fixture(scope="module")
def dataset():
    return load_dataset(planted_table(), tiny_config().data, seed=0)


def test_resolve_leaves_nothing_open_that_training_needs(dataset):
    config = resolve(tiny_config(**dict.fromkeys(OPEN)), dataset)
    values = config.model_dump()
    for key in OPEN:
        section, name = key.split(".")
        assert values[section][name] is not None, key
    assert resolve(config, dataset) == config


def test_resolve_keeps_what_was_given(dataset):
    given = tiny_config(**{"model.heads": 3, "quantizer.codewords": 9, "train.epochs": 2})
    assert resolve(given, dataset) == given


@pytest.mark.parametrize("items", [10, 1_000, 100_000, 10_000_000])
@pytest.mark.parametrize("books", [1, 2, 4])
def test_codes_stay_within_bounds(items, books):
    words = codewords(items, books)
    assert 8 <= words <= 65536
    assert words & (words - 1) == 0
    assert words**books <= 2 * 65536


def test_epochs_fall_with_the_size_of_the_data():
    assert epochs(0) == 40
    assert epochs(100_000) == 30
    assert epochs(10**9) == 12

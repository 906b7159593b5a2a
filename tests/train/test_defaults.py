"""Sizes that follow the data."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from sparcode.data.dataset import load_dataset
from sparcode.train import defaults
from sparcode.train.defaults import codewords, config_of, dropout, epochs, resolve, temperature
from tests.worlds import planted_table, tiny_config

OPEN = [
    "model.heads",
    "model.blocks",
    "model.attention_heads",
    "model.dropout",
    "model.temperature",
    "model.item_content",
    "quantizer.books",
    "quantizer.codewords",
    "train.epochs",
    "train.fine_tune_epochs",
    "additive.width",
    "additive.history",
    "additive.epochs",
    "additive.dropout",
    "additive.temperature",
    "additive.item_id_dropout",
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
    given = {"model.heads": 3, "quantizer.codewords": 9, "train.epochs": 2, "model.temperature": 0.3}
    given |= {"train.fine_tune_epochs": 7, "additive.width": 5, "additive.epochs": 4, "additive.dropout": 0.25}
    config = resolve(tiny_config(**given), dataset)
    assert config == resolve(config, dataset)
    values = config.model_dump()
    for key, value in given.items():
        section, name = key.split(".")
        assert values[section][name] == value, key


def test_the_additive_model_follows_the_model_beside_it(dataset):
    config = resolve(tiny_config(**{"model.temperature": 0.3, "model.history": 6, "train.epochs": 20}), dataset)
    own = config.additive
    assert (own.width, own.history, own.temperature, own.epochs) == (16, 6, 0.3, 14)
    assert own.item_id_dropout == 0.0, "no content, so ids are all there is"


def test_content_is_used_where_there_is_any(dataset):
    rich = replace(dataset, item_features=SimpleNamespace())
    open_content = tiny_config(**{"model.item_content": None})
    assert resolve(open_content, dataset).model.item_content is False
    assert resolve(open_content, rich).model.item_content is True
    assert resolve(tiny_config(**{"model.item_content": False}), rich).model.item_content is False


def test_ids_are_hidden_from_the_additive_model_where_content_and_many_events_make_up_for_them(dataset, monkeypatch):
    rich = replace(dataset, item_features=SimpleNamespace())
    open_content = tiny_config(**{"model.item_content": None})
    density = int(dataset.train.indptr[-1]) / dataset.item_count
    monkeypatch.setattr(defaults, "SPARSE", density)
    assert resolve(open_content, rich).additive.item_id_dropout == 0.1
    assert resolve(open_content, dataset).additive.item_id_dropout == 0.0
    monkeypatch.setattr(defaults, "SPARSE", density + 1)
    assert resolve(open_content, rich).additive.item_id_dropout == 0.0


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"scorer.kind": "dot"}, 0),
        ({"scorer.kind": "counts"}, 0),
        ({"scorer.kind": "dot", "model.heads": 3}, 4),
        ({"scorer.kind": "dot", "model.item_tokens": 2}, 4),
        ({"scorer.kind": "hadamard"}, 4),
        ({"scorer.kind": "concatenation"}, 4),
        ({"scorer.kind": "dot", "sparsity.target_density": 5.0}, 4),
        ({"scorer.kind": "dot", "sparsity.bias": 0.0}, 4),
        ({"scorer.kind": "hadamard", "train.fine_tune_epochs": 0}, 0),
    ],
)
def test_fine_tuning_is_for_what_the_two_tower_has_not(dataset, changes, wanted):
    assert (
        resolve(tiny_config(**{"train.epochs": 10, "model.heads": 1} | changes), dataset).train.fine_tune_epochs
        == wanted
    )


def test_config_of_each_system(dataset):
    given = {"train.stop_after": 2, "train.fine_tune_stop_after": 1, "train.fine_tune_epochs": 5}
    given |= {"additive.width": 4, "additive.epochs": 9, "additive.stop_after": 3, "additive.history_dropout": 0.2}
    config = resolve(tiny_config(**given), dataset)
    assert config_of("two-tower", config) == config_of("sparcode", config) == config
    warm = config_of("sparcode", config, warm=True)
    assert (warm.train.epochs, warm.train.stop_after, warm.quantizer.warmup) == (5, 1, 0.0)
    assert warm.train.learning_rate == pytest.approx(config.train.learning_rate / 2)
    assert warm.model == config.model
    additive = config_of("additive", config)
    assert (additive.model.width, additive.train.epochs, additive.train.stop_after) == (4, 9, 3)
    assert additive.train.history_dropout == 0.2
    assert additive.train.learning_rate == config.additive.learning_rate
    assert additive.train.batch_positions == config.train.batch_positions


@pytest.mark.parametrize("items", [10, 1_000, 100_000, 10_000_000])
@pytest.mark.parametrize("books", [1, 2, 4])
def test_codes_stay_within_bounds(items, books):
    words = codewords(items, books)
    assert 8 <= words <= 65536
    assert words & (words - 1) == 0
    assert words**books <= 2 * 65536


def test_epochs_fall_with_the_size_of_the_data():
    lengths = [epochs(events) for events in (0, 50_000, 200_000, 1_000_000, 10**9)]
    assert lengths == sorted(lengths, reverse=True)
    assert 20 <= lengths[0] <= 40
    assert 5 <= lengths[-1] <= 15


def test_sparser_data_are_held_back_more_and_told_apart_more_sharply():
    assert dropout(10) > dropout(100) > dropout(1000)
    assert temperature(10) < temperature(100) == temperature(1000)

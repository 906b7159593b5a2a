"""Posting lists of the ``category`` and ``segment`` families: what follows an item, what a user takes, by word.

A word is one ``column=value`` of item or user metadata; row w of a family is the list of word w of the vocabulary.
Words seen in fewer than ``LEAST_EVENTS`` training events have an empty list.

* category: T[w, c] = sum over the items i with word w of count(i -> c) / (number of words of i), divided by
  (events of w)^source_power. count is that of ``transitions``, its division by popularity(c)^target_power included.
* segment: P(c | w) = (n_wc + mu p_c) / (n_w + mu), n_wc the events of users with word w on item c, p_c the item's share
  of all events. A list holds log P less the log of the best P left out, so that an absent item counts 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparcode.build.items.transitions import Transitions, count_transitions
from sparcode.config import FamiliesConfig, ItemFamilyConfig
from sparcode.data.features import Features, gather_rows
from sparcode.data.storage import Dataset
from sparcode.errors import ConfigError
from sparcode.index.arrays import Arrays, write_arrays
from sparcode.query.model_checks import WORD_FILES, read_lists
from sparcode.types import Sequences

LEAST_EVENTS = 5
SMOOTHING = 20.0
"""mu: events that the popularity of all users weighs beside those of a segment."""
COUNTED_LENGTH = 200
"""Targets of an item that are counted towards its words."""
SOURCES_AT_ONCE = 1 << 14


def write_word_lists(dataset: Dataset, config: FamiliesConfig, folder: Path) -> None:
    """Count and write the lists of the families that are on, as far as the data hold words for them.

    Files hold ``indptr``, ``items``, ``values`` of the lists; that of the category family also ``item_indptr`` (n + 1,)
    and ``item_words``, the words of every item that have a list, which queries read.
    """
    train, items, users = dataset.train, dataset.item_features, dataset.user_features
    if config.category.enabled and items is not None and items.vocabulary:
        lists = count_categories(train, items, config.item, config.category.length)
        write_arrays(folder / WORD_FILES["category"], lists._asdict() | words_with_lists(items, lists))
    if config.segment.enabled and users is not None and users.vocabulary:
        lists = count_segments(train, users, dataset.item_count, config.segment.length)
        write_arrays(folder / WORD_FILES["segment"], lists._asdict())


def open_word_lists(model: Path, config: FamiliesConfig, item_count: int) -> dict[str, Arrays]:
    """Read the files of the families that are on, by family; ConfigError when the run was trained without one."""
    found: dict[str, Arrays] = {}
    for name, enabled in (("category", config.category.enabled), ("segment", config.segment.enabled)):
        path = model / WORD_FILES[name]
        if enabled and not path.exists():
            raise ConfigError(
                f"families.{name}.enabled=true, but {path} does not exist; the lists are counted in training: train "
                f"the run again with --set families.{name}.enabled=true"
            )
        if enabled:
            found[name] = read_lists(path, item_count)
    return found


def count_categories(train: Sequences, words: Features, counts: ItemFamilyConfig, length: int) -> Transitions:
    """Return the ``length`` best items of every word of ``words`` (one row an item), ties by smaller id.

    ``counts``: how transitions are counted and divided by popularity; its own list length is not used.
    """
    item_count = len(words)
    changes = {"source_power": 0.0, "length": max(1, min(COUNTED_LENGTH, item_count))}
    next_items = count_transitions(train, item_count, counts.model_copy(update=changes))
    popularity = np.bincount(train.items, minlength=item_count)
    shares = 1.0 / np.maximum(np.diff(words.categories_indptr), 1)
    lists = []
    for sources in _rows_by_word(words):
        events = popularity[sources].sum()
        sums = np.zeros(item_count)
        if events >= LEAST_EVENTS:
            sums = _sum_of_rows(next_items, sources, shares[sources]) * float(events) ** -counts.source_power
        lists.append(_best(sums.astype(np.float32), length))
    return _stacked(lists)


def count_segments(train: Sequences, words: Features, item_count: int, length: int) -> Transitions:
    """Return the ``length`` most probable items of every word of ``words`` (one row a user), ties by smaller id.

    Where no item is left out, the least probable one is the cut and is not stored.
    """
    popularity = np.bincount(train.items, minlength=item_count)
    prior = SMOOTHING * popularity / max(len(train.items), 1)
    lists = []
    for users in _rows_by_word(words):
        _, items = gather_rows(train.indptr, train.items, users)
        values = np.zeros(item_count, np.float32)
        if len(items) >= LEAST_EVENTS:
            counts = np.bincount(items, minlength=item_count)
            values = _over_the_cut((counts + prior) / (len(items) + SMOOTHING), length)
        lists.append(_best(values, length))
    return _stacked(lists)


def words_with_lists(words: Features, lists: Transitions) -> Arrays:
    """Return the words of every item as CSR, those with an empty list left out: reading them would find nothing."""
    read = (np.diff(lists.indptr) > 0)[words.categories_items]
    places = np.concatenate([[0], np.cumsum(read)]).astype(np.int64)
    return {
        "item_indptr": places[words.categories_indptr],
        "item_words": words.categories_items[read].astype(np.int32),
    }


def _rows_by_word(words: Features) -> list[np.ndarray]:
    """Return the rows that have each word, ascending."""
    owners = np.repeat(np.arange(len(words), dtype=np.int64), np.diff(words.categories_indptr))
    order = np.argsort(words.categories_items, kind="stable")
    edges = np.cumsum(np.bincount(words.categories_items, minlength=len(words.vocabulary)))
    return np.split(owners[order], edges[:-1])


def _sum_of_rows(lists: Transitions, rows: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return the sum (n,) float64 of the given rows times their factors; some rows at a time, to bound the memory."""
    sums = np.zeros(len(lists.indptr) - 1)
    for low in range(0, len(rows), SOURCES_AT_ONCE):
        chosen = rows[low : low + SOURCES_AT_ONCE]
        place, items = gather_rows(lists.indptr, lists.items, chosen)
        _, values = gather_rows(lists.indptr, lists.values, chosen)
        sums += np.bincount(items, values * factors[low : low + SOURCES_AT_ONCE][place], len(sums))
    return sums


def _over_the_cut(shares: np.ndarray, length: int) -> np.ndarray:
    """Return log share - log cut (n,) float32; the cut is the best share > 0 that ``length`` items leave out."""
    ranked = -np.sort(-shares[shares > 0])
    cut = ranked[min(length, len(ranked) - 1)]
    values = np.zeros(len(shares), np.float32)
    values[shares > 0] = np.log(shares[shares > 0]) - np.log(cut)
    return values


def _best(values: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids (ascending int32) and values of the ``length`` best values > 0, ties by smaller id."""
    found = np.flatnonzero(values > 0)
    kept = np.sort(found[np.argsort(-values[found], kind="stable")[:length]])
    return kept.astype(np.int32), values[kept]


def _stacked(lists: list[tuple[np.ndarray, np.ndarray]]) -> Transitions:
    indptr = np.concatenate([[0], np.cumsum([len(items) for items, _ in lists])]).astype(np.int64)
    return Transitions(
        indptr, np.concatenate([items for items, _ in lists]), np.concatenate([values for _, values in lists])
    )

"""Windows and batches: every event but a user's first is a target once, little padding, seeded order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.train.batches import GROUP_POSITIONS, bucket_lengths, cut_windows, epoch_batches
from sparcode.types import Sequences
from tests.worlds import random_sequences, sequences_of

ROWS = st.lists(st.integers(0, 40), min_size=1, max_size=12)


def numbered(lengths: list[int]) -> Sequences:
    """Return sequences in which every event is an item of its own: its number."""
    indptr = np.cumsum([0, *lengths]).astype(np.int64)
    return Sequences(indptr, np.arange(indptr[-1], dtype=np.int32), np.empty(0))


def targets_of(lengths: list[int]) -> list[int]:
    """Return the numbers of all events that have a predecessor."""
    starts = np.cumsum([0, *lengths])
    return [event for low, high in zip(starts[:-1], starts[1:], strict=True) for event in range(low + 1, high)]


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(1, 13), st.integers(0, 3))
def test_every_event_but_the_first_is_a_target_once(lengths, history, seed):
    windows = cut_windows(numbered(lengths), history, np.random.default_rng(seed))
    covered = [
        event + 1
        for start, length in zip(windows.starts, windows.lengths, strict=True)
        for event in range(start, start + length)
    ]
    assert sorted(covered) == targets_of(lengths)
    assert (windows.lengths <= history).all()
    assert (windows.lengths >= 1).all()
    starts = np.cumsum([0, *lengths])
    for start, length, user, first in zip(*vars(windows).values(), strict=True):
        assert starts[user] <= start
        assert start + length < starts[user + 1]
        assert first == (start == starts[user])


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 13), st.integers(1, 300), st.integers(0, 3))
def test_batches_hold_the_windows(lengths, history, batch_positions, seed):
    sequences = numbered(lengths)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    found: list[int] = []
    for batch in epoch_batches(sequences, history, batch_positions, seed, epoch=1):
        assert batch.items.shape == batch.targets.shape == batch.valid.shape
        assert batch.items.shape[1] in bucket_lengths(history)
        assert len(batch.items) % batch.group_rows == 0
        assert batch.group_rows * batch.items.shape[1] <= max(GROUP_POSITIONS, history)
        # Padding is on the right, and every input precedes its target.
        assert (np.diff(batch.valid.astype(int), axis=1) <= 0).all()
        assert (batch.targets[batch.valid] == batch.items[batch.valid] + 1).all()
        assert (owner[batch.items[batch.valid]] == batch.users[np.nonzero(batch.valid)[0]]).all()
        found += batch.targets[batch.valid].tolist()
    assert sorted(found) == targets_of(lengths)


def test_the_last_event_of_all_is_a_target_too():
    (batch,) = epoch_batches(numbered([3]), 5, 64, seed=0, epoch=0)
    assert batch.targets[batch.valid].tolist() == [1, 2]


def test_at_most_half_of_the_positions_are_padding():
    sequences = random_sequences(np.random.default_rng(0), rows=600, longest=70, items=100)
    for epoch in range(3):
        batches = list(epoch_batches(sequences, 50, 1024, seed=0, epoch=epoch))
        used = sum(batch.valid.sum() for batch in batches)
        assert used / sum(batch.valid.size for batch in batches) >= 0.5


def test_batches_stay_near_the_wanted_size():
    sequences = random_sequences(np.random.default_rng(0), rows=300, longest=70, items=100)
    assert max(batch.valid.size for batch in epoch_batches(sequences, 50, 1024, seed=0, epoch=0)) <= 1024


def test_same_seed_same_batches_other_epoch_other_order():
    sequences = random_sequences(np.random.default_rng(1), rows=40, longest=30, items=9)

    def run(seed: int, epoch: int) -> bytes:
        batches = epoch_batches(sequences, 8, 128, seed, epoch)
        return b"".join(batch.items.tobytes() + batch.valid.tobytes() + batch.users.tobytes() for batch in batches)

    assert run(0, 0) == run(0, 0)
    assert run(0, 0) != run(0, 1)
    assert run(0, 0) != run(1, 0)


def test_boundaries_of_long_sequences_move_between_epochs():
    starts = {tuple(cut_windows(numbered([40]), 8, np.random.default_rng(seed)).starts) for seed in range(20)}
    assert len(starts) > 3


def test_short_users_give_no_batch():
    assert list(epoch_batches(sequences_of([[3], [], [1]]), 8, 64, seed=0, epoch=0)) == []


@pytest.mark.parametrize("history", [1, 2, 3, 4, 5, 8, 50, 64, 100])
def test_bucket_lengths_waste_less_than_half(history):
    lengths = bucket_lengths(history)
    assert lengths[-1] == history
    assert lengths == sorted(set(lengths))
    for longer, shorter in zip(lengths[1:], lengths[:-1], strict=True):
        assert longer <= 2 * shorter

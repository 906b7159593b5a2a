"""Independent streams from one seed, the same everywhere."""

from __future__ import annotations

import hashlib

import numpy as np

from sparcode.seeding import derive, generator


def test_values_are_fixed_for_all_time():
    assert derive(0, "batches", 3) == 2391220022673577543
    assert derive(0) == int.from_bytes(hashlib.sha256(b"0").digest()[:8], "little") >> 1


def test_every_part_matters_and_parts_do_not_run_together():
    seeds = [derive(0, "a"), derive(1, "a"), derive(0, "b"), derive(0, "a", 1), derive(0, "a1"), derive(0, "a", 1, 1)]
    assert len(set(seeds)) == len(seeds)
    assert derive(0, "ab", "c") != derive(0, "a", "bc")
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_are_repeatable_and_leave_the_global_one_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (that it is left alone is the point)
    assert generator(0, "x").random() == generator(0, "x").random()
    assert generator(0, "x").random() != generator(0, "y").random()
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

"""Normalisation: formulas, inverse, blocks, columns and rows without content."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.quantize import normalize
from sparcode.quantize.normalize import fit_normalizer

X = (np.random.default_rng(0).normal(size=(50, 4)) * [1, 5, 0.1, 0] + [0, 3, -1, 2]).astype(np.float32)
ROWS = np.arange(0, 50, 2)


@pytest.mark.parametrize("how", ["scale", "columns", "rows", "none"])
def test_restore_is_the_inverse(how):
    fitted = fit_normalizer(X, ROWS, how)
    wanted = X / np.linalg.norm(X, axis=1, keepdims=True) if how == "rows" else X
    np.testing.assert_allclose(fitted.restore(fitted.apply(X)), wanted, atol=1e-5)
    assert fitted.apply(X).dtype == np.float32


def test_columns_are_scores_of_the_training_rows_and_constant_ones_stay():
    found = fit_normalizer(X, ROWS, "columns").apply(X)[ROWS]
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0), [1, 1, 1, 0], atol=1e-5)


def test_one_scale_keeps_the_proportions_of_distances():
    fitted = fit_normalizer(X, ROWS, "scale")
    found = fitted.apply(X)
    assert len(set(fitted.scale.tolist())) == 1
    assert np.square(found[ROWS]).mean() == pytest.approx(1, rel=1e-4)


def test_blocks_change_nothing_and_rows_stand_alone(monkeypatch):
    whole = fit_normalizer(X, ROWS, "rows")
    monkeypatch.setattr(normalize, "BLOCK_ROWS", 7)
    parts = fit_normalizer(X, ROWS, "rows")
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-7)
    assert np.array_equal(np.vstack([whole.apply(row[None]) for row in X]), whole.apply(X))


def test_a_zero_row_stays_zero():
    assert not fit_normalizer(X, ROWS, "rows").target(np.zeros((1, 4), np.float32)).any()

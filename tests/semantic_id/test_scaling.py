"""Scaling rows, and back; matrices that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.errors import ConfigError, DataError
from sparcode.semantic_id import scaling
from sparcode.semantic_id.scaling import ScaledRows, checked_matrix, fit_scaling

X = (np.random.default_rng(0).normal(size=(50, 4)) * [1, 2, 3, 0] + 7).astype(np.float32)


def test_modes() -> None:
    whole = fit_scaling(X, "global").apply(X)
    assert abs(whole.mean(axis=0)).max() < 1e-5
    assert whole.var(axis=0).mean() == pytest.approx(1, rel=1e-5)
    columns = fit_scaling(X, "columns").apply(X)
    np.testing.assert_allclose(columns.std(axis=0), [1, 1, 1, 0], rtol=1e-5)
    np.testing.assert_array_equal(fit_scaling(X, "none").apply(X), X)
    np.testing.assert_array_equal(fit_scaling(X, True).scale, fit_scaling(X, "columns").scale)
    with pytest.raises(ConfigError, match="standardise='rows': one of global, columns, none"):
        fit_scaling(X, "rows")


@pytest.mark.parametrize("mode", scaling.MODES)
def test_undo_is_the_inverse_and_blocks_do_not_matter(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = fit_scaling(X, mode)
    np.testing.assert_allclose(fitted.undo(fitted.apply(X)), X, rtol=1e-5)
    np.testing.assert_array_equal(ScaledRows(X, fitted)[3:5], fitted.apply(X[3:5]))
    np.testing.assert_array_equal(np.asarray(ScaledRows(X, fitted)), fitted.apply(X))
    monkeypatch.setattr(scaling, "BLOCK_ROWS", 7)
    np.testing.assert_allclose(fit_scaling(X, mode).scale, fitted.scale, rtol=1e-6)


@pytest.mark.parametrize("value", [1.0, 0.1, 1e20])
def test_equal_rows_are_refused_whatever_their_values(value: float) -> None:
    with pytest.raises(DataError, match="all 9 vectors are equal"):
        fit_scaling(np.full((9, 3), value, np.float32), "global")


def test_types_and_shapes() -> None:
    assert checked_matrix(X.astype(np.float16)).dtype == np.float16
    assert checked_matrix([[1, 2], [3, 4]]).shape == (2, 2)
    for bad in (X.astype(str), X[0], X[:0], np.zeros((2, 2), complex)):
        with pytest.raises(DataError, match="found"):
            checked_matrix(bad)
    with pytest.raises(DataError, match="row 0 has inf"), np.errstate(over="ignore"):
        checked_matrix(np.array([[1e300, 1.0]]))

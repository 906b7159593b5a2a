"""Hierarchical k-means, scalar quantization and hashing against their literal forms."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.quantize import hashing, hierarchical, scalar
from sparcode.quantize.rotation import mapped, principal_axes
from tests.quantize.literal import finite_scalars, gap, mapped_row, nearest_word, packed_signs

RNG = np.random.default_rng(7)
VECTORS = (RNG.normal(size=(300, 10)) * np.linspace(3, 0.3, 10) + 1).astype("f")


def error(decoded: np.ndarray) -> float:
    return float(np.square(VECTORS - decoded, dtype=np.float64).sum())


def walk(x: np.ndarray, tree: hierarchical.Tree) -> list[int]:
    """The nearest child of each node on the way."""
    node, code = 0, []
    for words, indptr in zip(tree.words, tree.indptr, strict=True):
        code.append(nearest_word(x, words[indptr[node] : indptr[node + 1]]))
        node = indptr[node] + code[-1]
    return code


@pytest.mark.parametrize("large", [1, 20, 10_000])
def test_tree_codes_equal_loops(monkeypatch, large):
    monkeypatch.setattr(hierarchical, "LARGE_NODE", large)
    tree = hierarchical.fit(VECTORS, [4, 5, 8], seed=1)
    codes = hierarchical.encode(VECTORS, tree)
    assert codes.tolist() == [walk(x, tree) for x in VECTORS]
    assert np.array_equal(codes[17:18], hierarchical.encode(VECTORS[17:18], tree))
    decoded = hierarchical.decode(codes, tree)
    assert error(decoded) < 0.5 * error(VECTORS.mean(axis=0))


def test_every_node_of_the_tree_has_items_and_distinct_items_end_apart():
    tree = hierarchical.fit(VECTORS, [4, 4, 64], seed=1)
    codes = hierarchical.encode(VECTORS, tree)
    assert len(np.unique(codes, axis=0)) == len(VECTORS) == len(tree.words[-1])
    assert np.array_equal(hierarchical.decode(codes, tree), VECTORS)
    for level, words in enumerate(tree.words):
        assert len(np.unique(codes[:, : level + 1], axis=0)) == len(words)


def test_digits_without_child_stand_for_the_node():
    vectors = VECTORS[:3]
    tree = hierarchical.fit(vectors, [8, 4], seed=0)
    codes = hierarchical.encode(vectors, tree)
    assert np.array_equal(hierarchical.decode(codes, tree), vectors)
    off = codes.copy()
    off[:, 1] = 3
    assert np.array_equal(hierarchical.decode(off, tree), vectors)
    assert np.array_equal(hierarchical.decode(np.array([[7, 0]]), tree), tree.root[None])
    costs = hierarchical.last_digit_costs(vectors, np.array([[0, 0], [7, 0], [1, 2]]), tree, 4)
    assert costs[1].tolist() == pytest.approx([gap(vectors[1], tree.root)] * 4)
    assert costs[2].tolist() == pytest.approx([gap(vectors[2], tree.words[0][1])] * 4)


def test_fits_of_trees_repeat():
    first, second = (hierarchical.fit(VECTORS, [4, 4], seed=3) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first.words, second.words, strict=True))


def test_scalars_equal_tanh_and_rounding():
    levels = [8, 5, 2, 3]
    fitted = scalar.fit(VECTORS, levels, gain=1.3)
    codes = scalar.encode(VECTORS, fitted)
    deviations = np.sqrt(principal_axes(VECTORS)[1][:4])
    for x, code in zip(VECTORS, codes, strict=True):
        y = mapped_row(x, fitted.mean, fitted.axes)
        assert finite_scalars(y, levels, deviations, 1.3) == code.tolist()
    assert np.array_equal(codes[3:4], scalar.encode(VECTORS[3:4], fitted))
    assert error(scalar.decode(codes, fitted)) < 0.5 * error(VECTORS.mean(axis=0))


def test_a_coordinate_on_an_edge_is_below_it():
    edges, values = [np.array([-1, 0, 1], "f")], [np.arange(4, dtype="f")]
    fitted = scalar.Scalar(np.zeros(1, "f"), np.eye(1, dtype="f"), edges, values)
    on_or_off = np.array([[-2], [-1], [-0.5], [0], [1], [1.5]], "f")
    assert scalar.encode(on_or_off, fitted).ravel().tolist() == [0, 0, 1, 1, 2, 3]


def test_scalars_use_their_levels_evenly():
    vectors = np.random.default_rng(0).normal(size=(20_000, 3)).astype("f")
    for column in scalar.encode(vectors, scalar.fit(vectors, [8, 6, 4])).T:
        counts = np.bincount(column)
        assert counts.max() < 2 * counts.min()


def test_constant_coordinates_do_not_scatter():
    vectors = np.concatenate([VECTORS[:, :2], np.full((300, 2), 5, "f")], axis=1)
    fitted = scalar.fit(vectors, [4, 4, 3, 3])
    codes = scalar.encode(vectors, fitted)
    assert np.isfinite(scalar.decode(codes, fitted)).all()
    assert len(np.unique(codes[:, 2:])) == 1


@pytest.mark.parametrize("levels", [[1, 4], [4] * 11])
def test_scalars_refuse(levels):
    with pytest.raises(ValueError, match="levels"):
        scalar.fit(VECTORS, levels)


def test_hashes_equal_signs():
    fitted = hashing.fit(VECTORS, [16, 2, 8], seed=1)
    codes = hashing.encode(VECTORS, fitted)
    for x, code in zip(VECTORS, codes, strict=True):
        assert packed_signs(mapped_row(x, fitted.mean, fitted.planes), [4, 1, 3]) == code.tolist()
    assert np.array_equal(codes[9:10], hashing.encode(VECTORS[9:10], fitted))


def test_hashes_decode_by_least_squares():
    fitted = hashing.fit(VECTORS, [16, 16], seed=1)
    codes = hashing.encode(VECTORS, fitted)
    signs = np.where(mapped(VECTORS, fitted.planes, fitted.mean) > 0, 1.0, -1.0)
    best = np.linalg.lstsq(signs, VECTORS - fitted.mean.astype(float), rcond=None)[0]
    assert np.allclose(hashing.decode(codes, fitted), fitted.mean + signs @ best, atol=1e-3)
    with pytest.raises(ValueError, match="powers of two"):
        hashing.fit(VECTORS, [16, 12], seed=1)


def test_kernels_equal_their_python_source():
    tree = hierarchical.fit(VECTORS[:40], [3, 3], seed=1)
    node, rows = np.zeros(40, np.int64), np.arange(40)
    fast, slow = np.zeros(40, np.int32), np.zeros(40, np.int32)
    for kernel, out in ((hierarchical.nearest_children, fast), (hierarchical.nearest_children.py_func, slow)):
        kernel(VECTORS[:40], rows, node, tree.words[0], tree.indptr[0], out)
    assert np.array_equal(fast, slow)
    costs = np.empty((40, 4), np.float32), np.empty((40, 4), np.float32)
    node[3] = -1
    kernels = (hierarchical.gaps_of_children, hierarchical.gaps_of_children.py_func)
    for kernel, out in zip(kernels, costs, strict=True):
        kernel(VECTORS[:40], node, VECTORS[:40], tree.words[1], tree.indptr[1], out)
    assert np.array_equal(*costs)


def test_a_tree_of_doubles_has_a_leaf_for_each_distinct_row():
    vectors = np.repeat(VECTORS[:50], 4, axis=0)
    tree = hierarchical.fit(vectors, [3, 40], seed=2)
    codes = hierarchical.encode(vectors, tree)
    assert len(tree.words[1]) == 50
    assert np.array_equal(hierarchical.decode(codes, tree), vectors)
    for words, indptr in zip(tree.words, tree.indptr, strict=True):
        assert indptr[-1] == len(words)
        assert (np.diff(indptr) > 0).all()

"""Product and residual quantization against plain loops, and whatever must not change a code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.quantize import beam as beam_module
from sparcode.quantize import product, residual
from sparcode.quantize.rotation import balanced_axes, map_rows, mapped
from tests.quantize.literal import beam_code, gap, greedy_code, mapped_row, nearest_word

RNG = np.random.default_rng(0)
VECTORS = (RNG.normal(size=(120, 12)) * np.linspace(3, 0.3, 12)).astype("f")


def error(vectors: np.ndarray, decoded: np.ndarray) -> float:
    return float(np.square(vectors - decoded, dtype=np.float64).sum())


def test_product_equals_loops():
    books = product.fit(VECTORS, 3, 4, seed=1)
    codes = product.encode(VECTORS, books)
    assert books.shape == (3, 4, 4)
    assert codes.dtype == np.int32
    for vector, code, decoded in zip(VECTORS, codes, product.decode(codes, books), strict=True):
        assert [nearest_word(vector[4 * m : 4 * m + 4], books[m]) for m in range(3)] == code.tolist()
        assert np.array_equal(decoded, np.concatenate([books[m][code[m]] for m in range(3)]))


def test_product_equals_faiss():
    faiss = pytest.importorskip("faiss")
    vectors = np.random.default_rng(3).normal(size=(2000, 32)).astype("f")
    theirs = faiss.ProductQuantizer(32, 4, 6)
    theirs.cp.niter = 4
    theirs.train(vectors[:1500])
    books = faiss.vector_to_array(theirs.centroids).reshape(4, 64, 8)
    packed = theirs.compute_codes(vectors)
    bits = np.unpackbits(packed, axis=1, bitorder="little")[:, :24].reshape(len(vectors), 4, 6)
    assert np.array_equal(product.encode(vectors, books), bits @ (1 << np.arange(6)))
    assert np.allclose(product.decode(product.encode(vectors, books), books), theirs.decode(packed))


@pytest.mark.parametrize("beam", [1, 5])
def test_residual_equals_faiss(beam):
    faiss = pytest.importorskip("faiss")
    vectors = np.random.default_rng(3).normal(size=(1500, 16)).astype("f")
    books = residual.fit(vectors, [256, 256, 256], seed=1, iterations=3)
    theirs = faiss.ResidualQuantizer(16, 3, 8)
    faiss.copy_array_to_vector(np.concatenate([book.ravel() for book in books]), theirs.codebooks)
    theirs.is_trained, theirs.max_beam_size = True, beam
    packed = theirs.compute_codes(vectors)
    codes = residual.encode(vectors, books, beam)
    assert np.array_equal(codes, packed)
    assert np.allclose(residual.decode(codes, books), theirs.decode(packed), atol=1e-5)


@pytest.mark.parametrize("beam", [1, 2, 5])
@pytest.mark.parametrize("table", [0, 4096])
def test_residual_equals_loops(monkeypatch, beam, table):
    monkeypatch.setattr(beam_module, "TABLE_WORDS", table)
    monkeypatch.setattr(beam_module, "BLOCK_VALUES", 200)
    books = residual.fit(VECTORS, [8, 5, 4], seed=1)
    assert [book.shape for book in books] == [(8, 12), (5, 12), (4, 12)]
    codes = residual.encode(VECTORS, books, beam)
    assert codes.dtype == np.int32
    assert codes.tolist() == [beam_code(vector, books, beam) for vector in VECTORS]
    decoded = residual.decode(codes, books)
    assert np.allclose(decoded, sum(book[column] for book, column in zip(books, codes.T, strict=True)), atol=1e-5)
    if beam == 1:
        assert codes.tolist() == [greedy_code(vector, books) for vector in VECTORS]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1e-25, 1.0, 1e25]))
def test_ties_and_extreme_values_are_decided_as_the_loops_do(seed, beam, scale):
    rng = np.random.default_rng(seed)
    vectors = (rng.integers(-2, 3, (12, 5)) * scale).astype("f")
    books = [(rng.integers(-2, 3, (size, 5)) * scale).astype("f") for size in (6, 3, 5)]
    codes = residual.encode(vectors, books, beam)
    assert codes.tolist() == [beam_code(vector, books, beam) for vector in vectors]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 300), st.sampled_from([1, 3]))
def test_codes_do_not_depend_on_the_batch(seed, cut, beam):
    rng = np.random.default_rng(seed)
    # A large common offset makes float32 screening blind: the second look decides.
    vectors = (rng.normal(size=(300, 16)) + rng.choice([0, 300])).astype("f")
    books = residual.fit(vectors, [16, 8], seed=seed, iterations=2)
    stack = beam_module.stack_of(books)
    whole = residual.encode(vectors, stack, beam)
    parts = [residual.encode(part, stack, beam) for part in (vectors[:cut], vectors[cut:])]
    assert np.array_equal(whole, np.concatenate(parts))
    assert np.array_equal(whole[::-1], residual.encode(vectors[::-1], books, beam))
    words = product.fit(vectors, 2, 8, seed)
    assert np.array_equal(product.encode(vectors, words)[cut - 1], product.encode(vectors[cut - 1 : cut], words)[0])


def test_a_wider_beam_and_refined_books_err_less():
    errors = []
    for refine, beam in ((0, 1), (0, 4), (2, 4)):
        books = residual.fit(VECTORS, [8, 8, 8], seed=2, refine=refine, beam=beam)
        errors.append(error(VECTORS, residual.decode(residual.encode(VECTORS, books, beam), books)))
    assert errors[0] > errors[1] > errors[2]


def test_every_book_is_fitted_to_what_the_earlier_ones_left():
    books = residual.fit(VECTORS, [6, 6, 6], seed=0)
    rest = VECTORS.copy()
    for book in books:
        nearest = np.array([nearest_word(x, book) for x in rest])
        means = np.stack([rest[nearest == word].mean(axis=0) for word in range(6)])
        np.testing.assert_allclose(means, book, atol=1e-4)
        rest = rest - book[nearest]


def test_refined_books_are_the_least_squares_optimum():
    books = residual.fit(VECTORS, [4, 3], seed=2)
    codes = residual.encode(VECTORS, books, 2)
    onehot = np.concatenate([np.eye(4)[codes[:, 0]], np.eye(3)[codes[:, 1]]], axis=1)
    best = np.linalg.lstsq(onehot, VECTORS.astype(np.float64), rcond=None)[0]
    optimum = error(VECTORS, onehot @ best)
    moved = residual.refined(VECTORS, books, 2)
    assert error(VECTORS, residual.decode(codes, moved)) == pytest.approx(optimum, rel=1e-4)


def test_last_digit_costs_equal_loops():
    books = residual.fit(VECTORS, [4, 6], seed=2)
    codes = residual.encode(VECTORS, books)
    costs = residual.last_digit_costs(VECTORS, codes, books)
    assert costs.argmin(axis=1).tolist() == codes[:, 1].tolist()
    rest = VECTORS[7].astype(np.float64) - books[0][codes[7, 0]].astype(np.float64)
    assert costs[7].tolist() == pytest.approx([gap(rest, word) for word in books[1]], rel=1e-6)
    words = product.fit(VECTORS, 3, 5, seed=2)
    codes = product.encode(VECTORS, words)
    costs = product.last_digit_costs(VECTORS, codes, words)
    assert costs.shape == (120, 5)
    assert costs[np.arange(120), codes[:, 2]].sum() == pytest.approx(error(VECTORS, product.decode(codes, words)))


@pytest.mark.parametrize("levels", [1, 2])
def test_fit_is_deterministic_and_better_with_more_words(levels):
    for quantizer, fit in (
        (residual, lambda words: residual.fit(VECTORS, [words] * levels, seed=5)),
        (product, lambda words: product.fit_books(VECTORS, [words] * levels, 5)),
    ):
        errors = []
        for words in (2, 16):
            books = fit(words)
            assert all(np.array_equal(a, b) for a, b in zip(books, fit(words), strict=True))
            errors.append(error(VECTORS, quantizer.decode(quantizer.encode(VECTORS, books), books)))
        assert errors[1] < errors[0]


def test_books_must_divide_the_width():
    with pytest.raises(ValueError, match="do not divide"):
        product.fit(VECTORS, 5, 2, seed=0)


def test_a_learned_rotation_is_orthogonal_and_errs_less():
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0].astype("f")
    vectors = VECTORS @ turn
    rotation, books = product.fit_rotated(vectors, [8, 8, 8], seed=1)
    assert np.allclose(rotation.T @ rotation, np.eye(12), atol=1e-5)
    turned = mapped(vectors, rotation)
    plain = product.fit(vectors, 3, 8, seed=1)
    rotated_error = error(turned, product.decode(product.encode(turned, books), books))
    assert rotated_error < 0.9 * error(vectors, product.decode(product.encode(vectors, plain), plain))


def test_rounds_of_rotation_lower_the_error():
    # Two clouds askew to the principal axes: the axes alone are not the best rotation.
    vectors, errors = np.concatenate([VECTORS[:, :8], VECTORS[:, ::-1][:, :8] ** 2]), []
    for rounds in (0, 4, 16):
        rotation, books = product.fit_rotated(vectors, [6, 6], 1, rounds)
        turned = mapped(vectors, rotation)
        errors.append(error(turned, product.decode(product.encode(turned, books), books)))
    assert errors[0] > errors[1]
    assert errors[1] >= errors[2]


def test_maps_sum_in_one_order():
    matrix = RNG.normal(size=(12, 7)).astype("f")
    offset = VECTORS.mean(axis=0)
    whole = mapped(VECTORS, matrix, offset)
    assert np.array_equal(whole[5:6], mapped(VECTORS[5:6], matrix, offset))
    assert np.array_equal(whole[5], mapped_row(VECTORS[5], offset, matrix))
    for part in (VECTORS[:4], np.ascontiguousarray(VECTORS[:4, :7])):
        out = np.empty((4, 7), np.float32), np.empty((4, 7), np.float32)
        for kernel, filled in zip((map_rows, map_rows.py_func), out, strict=True):
            kernel(part, offset[: part.shape[1]], matrix[: part.shape[1]], filled)
        assert np.array_equal(*out)


def test_axes_are_dealt_so_that_variances_balance():
    variances = np.array([16.0, 8.0, 4.0, 2.0, 1.0, 0.5])
    order = balanced_axes(variances, 2)
    products = variances[order].reshape(2, 3).prod(axis=1)
    assert sorted(order.tolist()) == list(range(6))
    assert products.max() / products.min() < variances[:3].prod() / variances[3:].prod()

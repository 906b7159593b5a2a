"""Product and residual quantization against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.quantize import product, residual

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(120, 6)).astype("f")


def nearest_word(vector: np.ndarray, book: np.ndarray) -> int:
    return int(np.argmin([((vector - word) ** 2).sum() for word in book]))


def test_product_equals_loops():
    books = product.fit(VECTORS, 3, 4, seed=1)
    codes = product.encode(VECTORS, books)
    assert books.shape == (3, 4, 2)
    assert codes.dtype == np.uint16
    for vector, code, decoded in zip(VECTORS, codes, product.decode(codes, books), strict=True):
        assert [nearest_word(vector[2 * m : 2 * m + 2], books[m]) for m in range(3)] == code.tolist()
        assert np.array_equal(decoded, np.concatenate([books[m][code[m]] for m in range(3)]))


def test_residual_equals_loops():
    books = residual.fit(VECTORS, 3, 4, seed=1)
    codes = residual.encode(VECTORS, books)
    assert books.shape == (3, 4, 6)
    for vector, code, decoded in zip(VECTORS, codes, residual.decode(codes, books), strict=True):
        rest = vector.copy()
        for m in range(3):
            assert nearest_word(rest, books[m]) == code[m]
            rest -= books[m][code[m]]
        assert np.allclose(decoded, vector - rest, atol=1e-5)


@pytest.mark.parametrize("quantizer", [product, residual])
def test_fit_is_deterministic_and_better_with_more_words(quantizer):
    errors = []
    for words in (2, 16):
        books = quantizer.fit(VECTORS, 2, words, seed=5)
        assert np.array_equal(books, quantizer.fit(VECTORS, 2, words, seed=5))
        errors.append(((VECTORS - quantizer.decode(quantizer.encode(VECTORS, books), books)) ** 2).sum())
    assert errors[1] < errors[0]


def test_books_must_divide_the_width():
    with pytest.raises(ValueError, match="do not divide"):
        product.fit(VECTORS, 4, 2, seed=0)

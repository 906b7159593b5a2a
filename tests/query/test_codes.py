"""Composite codes to posting lists."""

from __future__ import annotations

import numpy as np
import pytest

from sparcode.index.layout import Family, make_index
from sparcode.quantize import product, residual
from sparcode.query.codes import CodeResolver, decode, nearest_stored

STORED, BOOKS, CODEWORDS = 9, 2, 5


def made(kind: str, table: bool, first_row: int = 0) -> tuple[CodeResolver, np.ndarray, np.ndarray]:
    """Return a resolver, its stored codes (C, M) and its codebooks."""
    random = np.random.default_rng(0)
    books = random.normal(size=(BOOKS, CODEWORDS, 3)).astype(np.float32)
    every = np.array([(a, b) for a in range(CODEWORDS) for b in range(CODEWORDS)], np.uint16)
    codes = every[random.permutation(len(every))[:STORED]]  # rows need not be in the order of codes
    families = [Family("item", 0, first_row)] if first_row else []
    rows = nearest_stored(decode(every, books, kind), decode(codes, books, kind)) if table else None
    index = make_index(
        np.zeros(first_row + STORED + 1), np.empty(0), 3, 1.0, [*families, Family("learned", first_row, STORED)],
        code_table=codes, code_rows=rows,
    )  # fmt: skip
    return CodeResolver(index, books, kind), codes, books


@pytest.mark.parametrize("first_row", [0, 4])
@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("kind", ["product", "residual"])
def test_every_code_reads_its_nearest_stored_list(kind, table, first_row):
    resolver, stored, books = made(kind, table, first_row)
    vectors = decode(stored, books, kind).astype(np.float64)
    queries = np.array([(a, b) for a in range(CODEWORDS) for b in range(CODEWORDS)], np.uint16)
    found = resolver.rows(queries)
    assert found.dtype == np.int32
    for code, row in zip(queries, found, strict=True):
        own = [place for place, known in enumerate(stored) if tuple(known) == tuple(code)]
        parts = [books[m][code[m]].astype(np.float64) for m in range(BOOKS)]
        vector = np.concatenate(parts) if kind == "product" else sum(parts)
        wanted = own[0] if own else int(np.argmin([((vector - other) ** 2).sum() for other in vectors]))
        assert row == wanted + first_row


@pytest.mark.parametrize("table", [False, True])
def test_any_shape_and_repeated_calls(table):
    resolver, _, _ = made("product", table)
    codes = np.random.default_rng(1).integers(0, CODEWORDS, (4, 3, 2, BOOKS)).astype(np.uint16)
    found = resolver.rows(codes)
    assert found.shape == (4, 3, 2)
    np.testing.assert_array_equal(found, resolver.rows(codes))
    np.testing.assert_array_equal(found.ravel(), [resolver.rows(code[None])[0] for code in codes.reshape(-1, BOOKS)])
    assert resolver.rows(codes[:0]).shape == (0, 3, 2)


def test_decode_agrees_with_the_quantizers():
    books = np.random.default_rng(2).normal(size=(3, 4, 5)).astype(np.float32)
    codes = np.random.default_rng(3).integers(0, 4, (11, 3)).astype(np.uint16)
    np.testing.assert_array_equal(decode(codes, books, "product"), product.decode(codes, books))
    np.testing.assert_allclose(decode(codes, books, "residual"), residual.decode(codes, books), atol=1e-6)


def test_nearest_in_blocks(monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(4)
    vectors, stored = random.normal(size=(37, 3)).astype(np.float32), random.normal(size=(6, 3)).astype(np.float32)
    whole = nearest_stored(vectors, stored)
    monkeypatch.setattr("sparcode.query.codes.BLOCK_CELLS", 20)
    np.testing.assert_array_equal(nearest_stored(vectors, stored), whole)
    assert nearest_stored(vectors[:0], stored).shape == (0,)
    np.testing.assert_array_equal(nearest_stored(stored[:1], np.repeat(stored[:1], 3, axis=0)), [0])

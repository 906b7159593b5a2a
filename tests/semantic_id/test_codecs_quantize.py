"""Codecs made of the quantizers: round trips through arrays and spec, costs of last digits, bad options."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from sparcode.errors import ConfigError, CorruptIndexError, DataError, QueryError
from sparcode.quantize import product, residual
from sparcode.semantic_id.codec import FITTERS, Codec, FitContext, open_codec
from sparcode.semantic_id.codecs.fsq import factors

RNG = np.random.default_rng(2)
VECTORS = (RNG.normal(size=(400, 12)) * np.linspace(3, 0.3, 12)).astype("f")
CASES = {
    "rq-kmeans": {"codebooks": 3, "codebook_size": [16, 8, 4]},
    "rq-kmeans beam": {"codebooks": 3, "codebook_size": 8, "beam": 3, "refine": 1},
    "pq": {"codebooks": 3, "codebook_size": [8, 16, 4]},
    "opq": {"codebooks": 3, "codebook_size": 8, "rounds": 2},
    "fsq": {"codebooks": 3, "codebook_size": 16},
    "fsq levels": {"levels": [[5, 3], 4, [2, 2, 2]]},
    "hierarchical-kmeans": {"codebooks": 3, "codebook_size": 4},
    "lsh": {"codebooks": 3, "codebook_size": 8},
}


def fitted(case: str, vectors: np.ndarray = VECTORS, seed: int = 0) -> Codec:
    return FITTERS[case.split()[0]](vectors, seed=seed, options=dict(CASES[case]), context=FitContext())


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def codec(case: str) -> Codec:
    return fitted(case)


def test_codes_are_in_range_and_say_something(codec: Codec) -> None:
    codes = codec.encode(VECTORS)
    assert codes.dtype == np.int32
    assert codes.shape == (400, len(codec.sizes))
    assert (codes >= 0).all()
    assert (codes < np.array(codec.sizes)).all()
    decoded = codec.decode(codes)
    assert decoded.dtype == np.float32
    mean = np.square(VECTORS - VECTORS.mean(axis=0)).sum()
    assert np.square(VECTORS - decoded).sum() < 0.75 * mean


def test_codes_do_not_depend_on_the_batch(codec: Codec) -> None:
    whole = codec.encode(VECTORS)
    for size in (1, 7, 399):
        parts = [codec.encode(VECTORS[low : low + size]) for low in range(0, 400, size)]
        assert np.array_equal(whole, np.concatenate(parts))
    assert np.array_equal(codec.decode(whole)[5:6], codec.decode(whole[5:6]))
    assert codec.encode(VECTORS[:0]).shape == (0, len(codec.sizes))


def test_a_codec_opens_again(codec: Codec) -> None:
    opened = open_codec(json.loads(json.dumps(codec.spec())), {k: v.copy() for k, v in codec.arrays().items()})
    assert opened.spec() == codec.spec()
    assert np.array_equal(opened.encode(VECTORS), codec.encode(VECTORS))
    assert np.array_equal(opened.decode(codec.encode(VECTORS)), codec.decode(codec.encode(VECTORS)))


def test_the_same_seed_gives_the_same_arrays(case: str, codec: Codec) -> None:
    again = fitted(case)
    assert all(np.array_equal(a, again.arrays()[name]) for name, a in codec.arrays().items())


def test_last_digit_costs_are_squared_errors(codec: Codec) -> None:
    some = VECTORS[:20]
    codes = codec.encode(some)
    costs = codec.last_digit_costs(some, codes)
    assert costs.shape == (20, codec.sizes[-1])
    for digit in range(codec.sizes[-1]):
        changed = codes.copy()
        changed[:, -1] = digit
        errors = np.square(some - codec.decode(changed), dtype=np.float64).sum(axis=1)
        assert costs[:, digit] == pytest.approx(errors, rel=1e-3, abs=1e-4)
    if codec.kind in {"rq-kmeans", "pq", "opq"} and codec.spec()["options"].get("beam", 1) == 1:
        assert np.array_equal(costs.argmin(axis=1), codes[:, -1])


def test_any_code_in_range_decodes_and_no_other(codec: Codec) -> None:
    codes = np.array([[size - 1 for size in codec.sizes], [0] * len(codec.sizes)], np.int32)
    assert np.isfinite(codec.decode(codes)).all()
    with pytest.raises(QueryError, match="out of range"):
        codec.decode(codes + 1)
    with pytest.raises(QueryError, match="expected"):
        codec.decode(codes[:, 1:])


def test_other_widths_are_refused(codec: Codec) -> None:
    with pytest.raises(DataError, match="expected"):
        codec.encode(VECTORS[:, 1:])


def test_arrays_of_another_shape_are_refused(codec: Codec) -> None:
    for name, array in codec.arrays().items():
        with pytest.raises(CorruptIndexError):
            open_codec(codec.spec(), codec.arrays() | {name: array[:-1, ..., :-1] if array.ndim > 1 else array[:-1]})


def test_residual_and_product_codes_are_those_of_the_quantizers() -> None:
    codec = fitted("rq-kmeans")
    books = [codec.arrays()[f"book.{level}"] for level in range(3)]
    assert np.array_equal(codec.encode(VECTORS), residual.encode(VECTORS, books))
    codec = fitted("pq")
    assert np.array_equal(
        codec.encode(VECTORS), product.encode(VECTORS, [codec.arrays()[f"book.{m}"] for m in range(3)])
    )


@pytest.mark.parametrize(
    ("kind", "options", "problem"),
    [
        ("rq-kmeans", {"codebooks": 0}, "codebooks=0"),
        ("rq-kmeans", {"codebook_size": 1}, "codebook_size=1"),
        ("rq-kmeans", {"beam": 0}, "beam=0"),
        ("rq-kmeans", {"beam": 1000}, "beam=1000"),
        ("rq-kmeans", {"codebooks": 3, "codebook_size": 2048, "refine": 1}, "at most 4,096 codewords"),
        ("rq-kmeans", {"bean": 2}, "did you mean 'beam'"),
        ("rq-kmeans", {"codebooks": 2, "codebook_size": [4]}, "one each"),
        ("pq", {"codebooks": 5}, "does not divide the width 12"),
        ("opq", {"codebooks": 2, "rounds": -1, "codebook_size": 4}, "rounds=-1"),
        ("lsh", {"codebook_size": 100}, "powers of two"),
        ("fsq", {"codebooks": 13, "codebook_size": 4}, "13 coordinates"),
        ("fsq", {"levels": [1, 4]}, "levels"),
        ("fsq", {"levels": [4, 4], "codebooks": 2}, "leave codebooks away"),
        ("fsq", {"gain": 0}, "gain=0"),
        ("hierarchical-kmeans", {"iterations": 0}, "iterations=0"),
    ],
)
def test_wrong_options_are_one_clear_line(kind: str, options: dict, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FITTERS[kind](VECTORS, seed=0, options=options, context=FitContext())
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["rq-kmeans", "pq", "opq"])
def test_fewer_items_than_words_are_refused(kind: str) -> None:
    with pytest.raises(DataError, match="20 items cannot fill 256 codewords"):
        FITTERS[kind](VECTORS[:20], seed=0, options={"codebook_size": 256}, context=FitContext())


@pytest.mark.parametrize("kind", ["rq-kmeans", "pq", "opq", "fsq", "hierarchical-kmeans", "lsh"])
def test_duplicate_vectors_share_a_code(kind: str) -> None:
    vectors = np.repeat(VECTORS[:40], 5, axis=0)
    options = {"codebooks": 2, "codebook_size": 64}
    codes = FITTERS[kind](vectors, seed=0, options=options, context=FitContext()).encode(vectors)
    assert np.array_equal(codes, np.repeat(codes[::5], 5, axis=0))


def test_sizes_split_into_small_factors() -> None:
    for size in range(2, 300):
        assert math.prod(factors(size)) == size
    assert factors(256) == [4, 4, 4, 4]
    assert factors(32) == [8, 4]
    assert factors(240) == [5, 4, 4, 3]
    assert factors(7) == [7]

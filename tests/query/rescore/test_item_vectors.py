"""Item vectors in fewer bytes: what is lost is bounded, and every path scores the vectors as stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from sparcode.errors import CorruptIndexError
from sparcode.index.arrays import export_encoder, open_encoder_files
from sparcode.query.pipeline import Pipeline
from sparcode.query.rescore import item_vectors
from sparcode.query.rescore.item_vectors import decoded, item_row, open_items, stored_arrays
from sparcode.query.rescore.rescorer import Rescorer
from tests.query.rescore.test_rescorer import CANDIDATES, TOKENS
from tests.query.scorers import SETTINGS, literal, random_rescorer
from tests.query.stages import by_stages
from tests.worlds import queries_of


@njit
def rows_of(items, count, width):
    out = np.empty((count, width), np.float32)
    buffer = np.empty(width, np.float32)
    for item in range(count):
        out[item] = item_row(items, item, buffer)
    return out


def test_every_finite_half_is_decoded_exactly():
    bits = np.arange(1 << 16, dtype=np.uint16)
    bits = bits[np.isfinite(bits.view(np.float16))][:, None]
    expected = bits.view(np.float16).astype(np.float32)
    np.testing.assert_array_equal(rows_of(bits, len(bits), 1).view(np.uint32), expected.view(np.uint32))
    np.testing.assert_array_equal(decoded(bits), expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(item_vectors.KINDS), st.sampled_from([1e-3, 1.0, 50.0]))
def test_the_error_is_within_the_stated_bound(seed, kind, size):
    tokens = (np.random.default_rng(seed).normal(size=(9, 2, 5)) * size).astype(np.float32)
    tokens[3] = 0
    arrays = stored_arrays(tokens, kind)
    items = open_items(arrays, kind, tokens.shape)
    found = decoded(items).reshape(tokens.shape)
    largest = np.abs(tokens).max(axis=(1, 2), keepdims=True)
    bound = {"float32": 0 * tokens, "float16": np.abs(tokens) * 2.0**-11 + 6e-8, "int8": largest / 253.9}[kind]
    assert (np.abs(found - tokens) <= bound).all()
    compiled = rows_of(items, 9, 10)
    np.testing.assert_array_equal(compiled, decoded(items))
    for item in range(9):
        np.testing.assert_array_equal(item_row(items, item, np.empty(10, np.float32)), compiled[item])
    assert sum(a.nbytes for a in arrays.values()) == {"float32": 360, "float16": 180, "int8": 90 + 36}[kind]


@pytest.mark.parametrize("stored", ["float16", "int8"])
@pytest.mark.parametrize(("kind", "layers", "item_tokens"), SETTINGS)
def test_every_path_scores_what_is_stored(stored, kind, layers, item_tokens, tmp_path):
    _, spec, arrays = random_rescorer(kind, layers=layers, item_tokens=item_tokens)
    small = arrays | stored_arrays(arrays["item_tokens"], stored)
    export_encoder(tmp_path, "rescorer", spec | {"item_vectors": stored}, small)
    rescorer = Rescorer.open(tmp_path)
    as_stored = arrays | {"item_tokens": rescorer.flat.reshape(arrays["item_tokens"].shape)}
    plain = Rescorer(spec, as_stored)
    table = np.array([[literal(spec, as_stored, token, item) for item in range(37)] for token in TOKENS])
    tolerance = {"rtol": 1e-4, "atol": 1e-4 * np.abs(table).max()}
    assert np.allclose(rescorer.token_scores(TOKENS, slice(5, 9)), table[:, 5:9], **tolerance)
    own, expected = rescorer.score(TOKENS, CANDIDATES), plain.score(TOKENS, CANDIDATES)
    # Sums of decoded rows may be ordered otherwise.
    np.testing.assert_allclose(own, expected, rtol=1e-5, atol=1e-6 * np.abs(table).max())
    np.testing.assert_array_equal(rescorer.score_all(TOKENS[None]), plain.score_all(TOKENS[None]))
    assert rescorer.bytes == sum(a.nbytes for a in small.values())


def test_types_and_shapes_are_checked():
    _, spec, arrays = random_rescorer("dot")
    small = arrays | stored_arrays(arrays["item_tokens"], "int8")
    with pytest.raises(CorruptIndexError, match="'item_tokens' is float32 of shape .*, its spec says int8"):
        Rescorer(spec | {"item_vectors": "int8"}, arrays)
    with pytest.raises(CorruptIndexError, match="'item_tokens' is int8 .*, its spec says float32"):
        Rescorer(spec, small)
    with pytest.raises(CorruptIndexError, match="no array 'item_scales'"):
        Rescorer(spec | {"item_vectors": "int8"}, {n: a for n, a in small.items() if n != "item_scales"})
    with pytest.raises(CorruptIndexError, match="kind 'int4', expected one of float32"):
        Rescorer(spec | {"item_vectors": "int4"}, arrays)
    with pytest.raises(ValueError, match="int4"):
        stored_arrays(arrays["item_tokens"], "int4")


@pytest.mark.parametrize("stored", ["float16", "int8"])
def test_a_pipeline_answers_alike_on_every_path(stored, tiny_run):
    pipeline = Pipeline.open(tiny_run.folder)
    spec, arrays = open_encoder_files(tiny_run.folder / "model", "rescorer")
    small = Rescorer(spec | {"item_vectors": stored}, arrays | stored_arrays(arrays["item_tokens"], stored))
    pipeline.rescorer = small
    pipeline = pipeline.with_settings(pipeline.settings)
    queries = queries_of([[1, 2, 3], [7], [11, 4, 4, 9]])
    hits = pipeline.retrieve(queries, 5)
    staged = by_stages(pipeline, queries, 5, pipeline.default_rescore, False)
    np.testing.assert_array_equal(hits.ids, staged.ids)
    np.testing.assert_array_equal(hits.scores, staged.scores)
    for row in range(len(queries)):
        one = pipeline.retrieve(queries.slice(row, row + 1), 5)
        np.testing.assert_array_equal(one.ids[0], hits.ids[row])
        np.testing.assert_array_equal(one.scores[0], hits.scores[row])

"""The served encoder against the torch tokenizers, and nearest codes against brute force."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode import arithmetic as encoder_math
from sparcode.arithmetic import add_product, add_products
from sparcode.config import ModelConfig
from sparcode.errors import CorruptIndexError, QueryError
from sparcode.index.arrays import export_encoder, write_arrays
from sparcode.model.tokenizers import KINDS as REGISTERED
from sparcode.model.tokenizers import arrays as tokenizer_arrays
from sparcode.model.tokenizers import part_of
from sparcode.model.tokenizers.layers import Tokenizer, build_tokenizer
from sparcode.quantize import nearest as quantize_nearest
from sparcode.quantize.nearest import prepare_books
from sparcode.query.encoder import codes as encoder_codes
from sparcode.query.encoder import encode
from sparcode.query.encoder import encoder as encoder_module
from sparcode.query.encoder.encoder import Encoder
from sparcode.types import Queries

KINDS = list(REGISTERED)
ITEMS, WIDTH, HISTORY, FEATURES = 40, 8, 6, 3


class Pair:
    """A torch tokenizer with its item table, and the encoder made from its arrays."""

    def __init__(self, kind: str, heads: int = 2, blocks: int = 1, features: bool = False, **more: Any) -> None:
        torch.manual_seed(7)
        config = ModelConfig(
            tokenizer=kind, width=WIDTH, history=HISTORY, heads=heads, blocks=blocks, user_features=features, **more
        )
        self.tokenizer: Tokenizer = build_tokenizer(config, ITEMS, FEATURES).eval()
        with torch.no_grad():
            for parameter in self.tokenizer.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        rng = np.random.default_rng(8)
        self.table = rng.normal(size=(ITEMS, WIDTH)).astype(np.float32)
        self.books = (rng.normal(size=(2, 16, WIDTH // 2)) / 3).astype(np.float32)
        self.arrays = self.tokenizer.arrays() | {"item_vectors": self.table, "codebooks": self.books}
        self.spec = {
            "tokenizer": self.tokenizer.spec(),
            "items": ITEMS,
            "quantizer": {"kind": "product", "books": 2, "codewords": 16},
        }

    def encoder(self) -> Encoder:
        return Encoder(self.spec, self.arrays)

    def torch_tokens(self, queries: Queries) -> np.ndarray:
        """Unit tokens of the last event of every query, from one right-padded batch; zeros where nothing is known."""
        lengths = np.minimum(np.diff(queries.indptr), HISTORY)
        rows = np.zeros((len(queries), HISTORY), np.int64)
        for b, length in enumerate(lengths):
            rows[b, :length] = queries.history(b)[len(queries.history(b)) - length :]
        valid = torch.from_numpy(np.arange(HISTORY) < lengths[:, None])
        own = None if queries.user_features is None else torch.from_numpy(queries.user_features)
        with torch.no_grad():
            every = self.tokenizer(torch.from_numpy(self.table[rows]), valid, own)
            tokens = every[torch.arange(len(rows)), torch.from_numpy(np.maximum(lengths - 1, 0))]
            empty = torch.zeros(1) if own is None else self.tokenizer.empty(own) * own.any(1)[:, None, None]
            tokens = torch.where(torch.from_numpy(lengths > 0)[:, None, None], tokens, empty)
            return torch.nn.functional.normalize(tokens, dim=-1, eps=1e-8).numpy()


def random_queries(seed: int, lengths: list[int], features: bool = False) -> Queries:
    rng = np.random.default_rng(seed)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = rng.integers(0, ITEMS, indptr[-1]).astype(np.int32)
    user_features = rng.normal(size=(len(lengths), FEATURES)).astype(np.float32) if features else None
    return Queries(indptr, items, user_features)


LENGTHS = [1, 2, 0, HISTORY - 1, HISTORY, HISTORY + 1, 3 * HISTORY, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("features", [False, True])
def test_served_tokens_are_the_torch_tokens(kind: str, heads: int, blocks: int, features: bool) -> None:
    pair = Pair(kind, heads, blocks, features, attention_heads=2)
    encoder = pair.encoder()
    queries = random_queries(1, LENGTHS, features)
    if queries.user_features is not None:
        queries.user_features[-1] = 0
    tokens = encoder.tokens(queries)
    np.testing.assert_allclose(tokens, pair.torch_tokens(queries), atol=1e-5)
    known = encoder.has_tokens(queries)
    np.testing.assert_array_equal((tokens != 0).any(2), np.repeat(known[:, None], heads, 1))
    assert known.tolist() == [True, True, features, True, True, True, True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_batch_equals_single_bit_for_bit(kind: str) -> None:
    encoder = Pair(kind, 2, 2, True).encoder()
    queries = random_queries(2, LENGTHS, True)
    batch = encoder.tokens(queries)
    assert queries.user_features is not None
    for b in range(len(queries)):
        one = encoder.encode_one(queries.history(b), queries.user_features[b])
        np.testing.assert_array_equal(one, batch[b])
        np.testing.assert_array_equal(encoder.tokens(queries.slice(b, b + 1))[0], batch[b])


@pytest.mark.parametrize("kind", KINDS)
def test_same_codes_on_thousands_of_histories(kind: str) -> None:
    pair = Pair(kind)
    lengths = np.random.default_rng(3).integers(1, 2 * HISTORY, 10_000).tolist()
    queries = random_queries(4, lengths)
    tokens = pair.torch_tokens(queries)
    served = pair.encoder().codes(pair.encoder().tokens(queries))[0][:, :, 0]
    near_ties = 0
    for m in range(2):
        part = torch.from_numpy(tokens[..., m * 4 : m * 4 + 4])
        squares = torch.cdist(part, torch.from_numpy(pair.books[m])).square()
        best, second = squares.topk(2, largest=False).values.unbind(-1)
        different = squares.argmin(-1).numpy() != served[..., m]
        # Float rounding may decide between two codewords that are equally near, and only between those.
        assert ((second - best).numpy()[different] < 1e-5).all()
        near_ties += int(different.sum())
    assert near_ties <= 5


def brute_product(token: np.ndarray, books: np.ndarray) -> list[tuple[float, tuple[int, ...]]]:
    parts = np.split(token.astype(float), len(books))
    tables = [((part - book) ** 2).sum(1) for part, book in zip(parts, books.astype(float), strict=True)]
    codes = itertools.product(*(range(len(table)) for table in tables))
    return sorted((sum(t[c] for t, c in zip(tables, code, strict=True)), code) for code in codes)


def brute_beam(token: np.ndarray, books: np.ndarray, width: int) -> list[tuple[float, tuple[int, ...]]]:
    beam: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    for book in books.astype(float):
        longer = []
        for _, code in beam:
            rest = token - sum((books[m, c] for m, c in enumerate(code)), np.zeros(len(token)))
            longer += [(float(((rest - word) ** 2).sum()), (*code, c)) for c, word in enumerate(book)]
        beam = sorted(longer)[:width]
    return beam


def encoder_with(books: np.ndarray, kind: str) -> Encoder:
    pair = Pair("dnn")
    quantizer = {"kind": kind, "books": len(books), "codewords": books.shape[1]}
    return Encoder(pair.spec | {"quantizer": quantizer}, pair.arrays | {"codebooks": books})


@given(seed=st.integers(0, 10_000), count=st.sampled_from([1, 2, 4]), probes=st.sampled_from([1, 2, 5, 16]))
@settings(max_examples=12, deadline=None)
@pytest.mark.parametrize("kind", ["product", "residual"])
def test_nearest_codes_against_brute_force(kind: str, seed: int, count: int, probes: int) -> None:
    rng = np.random.default_rng(seed)
    width = WIDTH // count if kind == "product" else WIDTH
    # Small integers make every sum exact: ties are frequent and must fall to the smaller code.
    books = rng.integers(-2, 3, size=(count, 5, width)).astype(np.float32)
    tokens = rng.integers(-3, 4, size=(2, 3, WIDTH)).astype(np.float32)
    codes, distances = encoder_with(books, kind).codes(tokens, probes)
    wide = min(probes, 5**count)
    assert codes.shape == (2, 3, wide, count)
    assert codes.dtype == np.uint16
    for b, k in np.ndindex(2, 3):
        token = tokens[b, k]
        expected = brute_product(token, books) if kind == "product" else brute_beam(token, books, wide)
        assert [tuple(code) for code in codes[b, k]] == [code for _, code in expected[:wide]]
        np.testing.assert_allclose(distances[b, k], [distance for distance, _ in expected[:wide]], atol=1e-4)


@pytest.mark.parametrize("kind", ["product", "residual"])
@pytest.mark.parametrize("probes", [1, 3])
def test_no_tokens_have_no_codes(kind: str, probes: int) -> None:
    books = np.ones((1, 5, WIDTH), np.float32)
    codes, distances = encoder_with(books, kind).codes(np.zeros((0, 2, WIDTH), np.float32), probes)
    assert codes.shape == (0, 2, probes, 1)
    assert distances.shape == (0, 2, probes)


@pytest.mark.parametrize("words", [1, 7, 16, 37])
def test_any_number_of_codewords(words: int) -> None:
    rng = np.random.default_rng(words)
    books = rng.normal(size=(2, words, 4)).astype(np.float32)
    tokens = rng.normal(size=(50, 1, WIDTH)).astype(np.float32)
    tokens.flags.writeable = False
    codes, _ = encoder_with(books, "product").codes(tokens)
    expected = [brute_product(token, books)[0][1] for token in tokens[:, 0]]
    assert [tuple(code) for code in codes[:, 0, 0]] == expected


def test_open_reads_what_was_exported(tmp_path: Path) -> None:
    pair = Pair("sasrec")
    export_encoder(tmp_path, "encoder", pair.spec, pair.arrays)
    queries = random_queries(5, LENGTHS)
    opened = Encoder.open(tmp_path)
    np.testing.assert_array_equal(opened.tokens(queries), pair.encoder().tokens(queries))
    assert opened.bytes == sum(array.nbytes for array in pair.arrays.values())
    assert opened.spec["items"] == ITEMS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("item", [-1, ITEMS])
def test_unknown_items_are_refused(kind: str, item: int) -> None:
    encoder = Pair(kind).encoder()
    with pytest.raises(QueryError, match=f"item {item}, .* 0..39"):
        encoder.encode_one(np.array([3, item, 4], np.int32))
    with pytest.raises(QueryError, match=f"item {item}"):
        encoder.tokens(Queries(np.array([0, 1, 3]), np.array([1, 2, item], np.int32)))


def test_bad_calls_are_one_line() -> None:
    pair = Pair("sasrec", features=True)
    encoder = pair.encoder()
    with pytest.raises(QueryError, match="user features have shape"):
        encoder.encode_one(np.array([1]), np.zeros(FEATURES + 1))
    with pytest.raises(QueryError, match="probes is 0"):
        encoder.codes(np.zeros((1, 2, WIDTH), np.float32), 0)
    with pytest.raises(QueryError, match="tokens have width"):
        encoder.codes(np.zeros((1, 2, WIDTH - 1), np.float32))
    with pytest.raises(QueryError, match="no codebooks"):
        Encoder(pair.spec | {"quantizer": None}, pair.arrays).codes(np.zeros((1, 2, WIDTH), np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_every_missing_or_misshapen_array_is_refused(kind: str, tmp_path: Path) -> None:
    pair = Pair(kind, blocks=2, features=True)
    for name in pair.arrays:
        less = {key: value for key, value in pair.arrays.items() if key != name}
        with pytest.raises(CorruptIndexError, match=name.replace(".", r"\.").removeprefix(r"tokenizer\.")):
            Encoder(pair.spec, less)
        with pytest.raises(CorruptIndexError, match=name.replace(".", r"\.")):
            Encoder(pair.spec, pair.arrays | {name: pair.arrays[name][:-1]})
    export_encoder(tmp_path, "encoder", pair.spec, pair.arrays)
    write_arrays(tmp_path / "encoder.safetensors", less)
    with pytest.raises(CorruptIndexError, match=r"encoder\.safetensors"):
        Encoder.open(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [{"tokenizer": {"kind": "other"}}, {"tokenizer": None}, {"quantizer": {"kind": "x", "books": 2, "codewords": 16}}],
)
def test_a_wrong_spec_is_refused(changes: dict[str, Any]) -> None:
    pair = Pair("dnn")
    with pytest.raises(CorruptIndexError, match="encoder"):
        Encoder(pair.spec | changes, pair.arrays)


def test_exponential_is_accurate() -> None:
    x = np.linspace(-87, 88, 4001).astype(np.float32)
    fast = np.array([encoder_math.exp32(value) for value in x], np.float64)
    np.testing.assert_allclose(fast, np.exp(x.astype(np.float64)), rtol=3e-7)
    assert encoder_math.exp32(np.float32(-1e30)) < 1e-37
    assert np.isfinite(encoder_math.exp32(np.float32(1e30)))


def make_plain(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Let every kernel run as ordinary Python: the same source, without the compiler."""
    modules = (encoder_math, quantize_nearest, encoder_codes, encode, tokenizer_arrays, part_of(kind, "arrays"))
    for module in modules:
        for name, value in list(vars(module).items()):
            if hasattr(value, "py_func"):
                monkeypatch.setattr(module, name, value.py_func)


def plain_tokens(encoder: Encoder, history: np.ndarray, features: np.ndarray) -> np.ndarray:
    """The steps of ``encode_history`` without calls by address."""
    _, inputs, tokens, weights, memory, output = encoder.single()
    kind, events = encoder._kind, history[-HISTORY:]
    output.states[:] = output.empty
    if len(events):
        assert kind.remember(inputs, events, 0, weights, memory) == -1
        kind.recall(len(events), weights, memory, output.states)
    encode.finish(output.states, len(events), features, output.head, tokens[0])
    return tokens[0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_and_plain_kernels_agree(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, queries = Pair(kind, 2, 2, True, attention_heads=2), random_queries(6, [2, 0, HISTORY + 2], True)
    encoder = pair.encoder()
    compiled = encoder.tokens(queries)
    single = encoder.single()
    monkeypatch.setattr(encoder, "single", lambda: single)
    books = np.random.default_rng(1).normal(size=(2, 5, WIDTH)).astype(np.float32)
    quantized = [encoder_with(books[..., :4].copy(), "product"), encoder_with(books, "residual")]
    codes = [each.codes(compiled, probes)[0] for each in quantized for probes in (1, 4)]
    make_plain(monkeypatch, kind)
    assert queries.user_features is not None
    for b, features in enumerate(queries.user_features):
        np.testing.assert_allclose(plain_tokens(encoder, queries.history(b), features), compiled[b], atol=1e-5)
    monkeypatch.setattr(encoder_module, "nearest_codes", encoder_codes.nearest_codes)
    for expected, (each, probes) in zip(codes, itertools.product(quantized, (1, 4)), strict=True):
        np.testing.assert_array_equal(each.codes(compiled, probes)[0], expected)


def test_prepared_books_hold_half_squared_norms() -> None:
    books, norms, *_ = prepare_books(np.array([[[3.0, 4.0], [0.0, 2.0]]], np.float32))
    np.testing.assert_array_equal(norms, [[12.5, 2.0]])
    np.testing.assert_array_equal(books, [[[3.0, 0.0], [4.0, 2.0]]])


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 9])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 3), (4, 16), (7, 33), (64, 64)])
def test_products_of_many_rows_are_those_of_each_row(rows: int, inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, inputs)).astype(np.float32)
    weight = rng.normal(size=(inputs, outputs)).astype(np.float32)
    together = rng.normal(size=(rows, outputs)).astype(np.float32)
    alone = together.copy()
    np.testing.assert_allclose(x @ weight + together, _added(x, weight, together), rtol=1e-4, atol=1e-4)
    for row in range(rows):
        add_product(x[row], weight, alone[row])
    np.testing.assert_array_equal(together, alone)


def _added(x: np.ndarray, weight: np.ndarray, out: np.ndarray) -> np.ndarray:
    add_products(x, weight, out)
    return out


def all_pairs(distances: np.ndarray, best: np.ndarray, prefixes: np.ndarray, indices: np.ndarray) -> list[Any]:
    """Return every pair of a code (A, M) and a codeword as (distance, code), the nearest first, ties by code."""
    twice = np.float32(2)
    return sorted(
        (float(np.float32(distances[a] + twice * best[b])), (*prefixes[a].tolist(), int(indices[b])))
        for a, b in itertools.product(range(len(distances)), range(len(best)))
    )


@pytest.mark.parametrize("step", [1.0, 2.0**-24, 1e-7])
@pytest.mark.parametrize("probes", [1, 2, 3, 8])
def test_joined_codes_are_the_best_of_all_pairs_with_ties(step: float, probes: int) -> None:
    """Steps of few values are ties as they are; small ones beside 1 become ties when the sum is rounded."""
    rng = np.random.default_rng(probes)
    for _ in range(60):
        count = int(rng.integers(1, probes + 1))
        distances = np.zeros(probes, np.float32)
        distances[:count] = np.sort(1 + step * rng.integers(0, 4, count))
        best = np.sort(step * rng.integers(0, 4, probes)).astype(np.float32)
        prefixes, indices = np.arange(probes)[:, None], rng.permutation(16)[:probes].astype(np.int64)
        codes = np.zeros((probes, 2), np.uint16)
        codes[:, :1] = prefixes
        expected = all_pairs(distances[:count].copy(), best, prefixes, indices)[:probes]
        filled = encoder_codes.join(codes, distances, count, 1, indices, best)
        assert filled == len(expected)
        found = [(float(distances[a]), tuple(codes[a].tolist())) for a in range(filled)]
        assert found == expected

"""The served query encoder: history and features -> K_u unit tokens -> composite codes. No torch.

It computes the last position of the trained tokenizer from exported weights; the arrays stay memory-mapped where
their layout allows (item vectors, the bulk) and are re-laid once where a kernel wants inputs first.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import CorruptIndexError, QueryError
from sparcode.index.arrays import Arrays, open_encoder_files, read_only
from sparcode.jit.addresses import entry_of, plain_address, status_address
from sparcode.jit.packing import pack
from sparcode.model.tokenizers import KINDS, part_of
from sparcode.model.tokenizers.arrays import Inputs, checked_sizes, tokenizer_shapes
from sparcode.quantize.nearest import Books, prepare_books
from sparcode.query.encoder.codes import nearest_codes
from sparcode.query.encoder.encode import Entries, Head, Output, encode_packed, finish, last_step
from sparcode.query.encoder.state import EncoderState
from sparcode.spec_values import count_of
from sparcode.types import Queries

_PREFIX = "tokenizer."
_NO_ITEMS = read_only(np.empty(0, np.int32))


class Encoder:
    """A tokenizer and, optionally, codebooks, ready to serve. Calls do not change it: threads may share one.

    ``spec``: {"tokenizer": {...}, "width": d, "heads": K_u, "history": H, "items": n, "feature_width": F,
    "quantizer": null | {"kind", "books", "codewords"}}. ``arrays``: "item_vectors" (n, d), the tokenizer's
    arrays named "tokenizer.*", and "codebooks" (M, N, d/M) or (M, N, d). Raises CorruptIndexError when a
    part is missing or has another shape than the spec says.
    """

    def __init__(self, spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray], source: str = "encoder") -> None:
        try:
            self._load(spec, arrays, source)
        except (KeyError, TypeError, ValueError, IndexError) as problem:
            text = f"{type(problem).__name__}: {problem}"
            raise CorruptIndexError(
                f"{source}: spec (.json) and arrays do not fit together ({text}); train the run again"
            ) from None

    @classmethod
    def open(cls, folder: Path, stem: str = "encoder") -> Encoder:
        """Open what ``export_encoder`` wrote; raises CorruptIndexError naming the file."""
        spec, arrays = open_encoder_files(folder, stem)
        return cls(spec, arrays, source=f"{Path(folder) / stem}.json and {stem}.safetensors")

    @property
    def bytes(self) -> int:
        """Bytes of the arrays the encoder was made from."""
        return self._bytes

    def tokens(self, queries: Queries) -> np.ndarray:
        """Return unit tokens (B, K_u, d) float32; zeros for a query with neither history nor features.

        Raises QueryError for an item the encoder does not know or features of another width.
        """
        items = np.ascontiguousarray(queries.items, dtype=np.int32)
        indptr = np.ascontiguousarray(queries.indptr, dtype=np.int64)
        return self._run(items, indptr, self.checked_features(queries.user_features, len(queries)))

    def has_tokens(self, queries: Queries) -> np.ndarray:
        """Return (B,) bool: False where a query has neither a history nor a non-zero feature."""
        known = np.diff(queries.indptr) > 0
        if self.feature_width and queries.user_features is not None:
            known |= (np.asarray(queries.user_features) != 0).any(axis=1)
        return known

    def encode_one(self, history: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        """Return unit tokens (K_u, d) of one query, oldest event first; equal to ``tokens`` bit for bit."""
        items = np.ascontiguousarray(history, dtype=np.int32)
        return self._run(items, np.array([0, len(items)], np.int64), self._row(features))[0]

    def _row(self, features: np.ndarray | None) -> np.ndarray:
        return self.checked_features(None if features is None else np.asarray(features)[None, :], 1)

    def single(self) -> tuple[Any, ...]:
        """Return what ``encode.encode`` takes after history and features: scratch for one thread included."""
        tokens = np.empty((1, self.heads, self.width), np.float32)
        states, memory = np.empty(self._empty.shape, np.float32), self._kind.memory(self._own)
        step = (np.int64(0), self._weights, memory)
        entries = Entries(
            status_address(self._kind.remember, (self._inputs, _NO_ITEMS, np.int64(0), self._weights, memory)),
            plain_address(self._kind.recall, (*step, states)),
            plain_address(finish, (states, np.int64(0), self._no_feature[0], self._head, tokens[0])),
        )
        output = Output(self.history, self._empty, self._head, states)
        return entries, self._inputs, tokens, self._weights, memory, output

    def start(self, history: np.ndarray = _NO_ITEMS) -> EncoderState:
        """Return the state after the events ``history`` (m,), internal ids, oldest first.

        Raises QueryError for an item the encoder does not know.
        """
        items = read_only(np.array(history, dtype=np.int32).reshape(-1)[-self.history :])
        state = EncoderState(items, len(history), self._kind.memory(self._own), self)
        return self._remember(state, items, 0) if len(items) else state

    def append(self, state: EncoderState, item: int) -> EncoderState:
        """Return the state after one event more; ``state`` stays as it was.

        It costs one event while the window has room for one (``len(state.items) < encoder.history``), else the whole
        window, see ``encoder.state``. Raises QueryError for an unknown item or a state of another encoder.
        """
        self._check_owner(state)
        if not 0 <= item < self.item_count:
            raise self._unknown(item)
        items = np.empty(len(state.items) + 1, np.int32)
        items[:-1], items[-1] = state.items, item
        items = read_only(items)
        if len(items) > self.history:
            return replace(self.start(items), seen=state.seen + 1)
        longer = EncoderState(items, state.seen + 1, type(state.memory)(*(part.copy() for part in state.memory)), self)
        return self._remember(longer, items[-1:], len(state.items))

    def tokens_of(self, state: EncoderState, features: np.ndarray | None = None) -> np.ndarray:
        """Return the unit tokens (K_u, d) of a state; equal to ``encode_one`` of its events bit for bit."""
        self._check_owner(state)
        entries, _, tokens, weights, _, output = self._own_thread().parts
        row = self._row(features)[0]
        last_step(np.int64(len(state.items)), row, entries, tokens[0], weights, state.memory, output)
        return tokens[0].copy()

    def _remember(self, state: EncoderState, items: np.ndarray, first: int) -> EncoderState:
        bad = self._kind.remember(self._inputs, items, np.int64(first), self._weights, state.memory)
        if bad >= 0:
            raise self._unknown(items[bad])
        return state

    def _check_owner(self, state: EncoderState) -> None:
        if state.owner is not self:
            raise QueryError("the state belongs to another encoder; start it again from its items")

    def _unknown(self, item: int) -> QueryError:
        return QueryError(f"the history holds item {item}, but the encoder knows items 0..{self.item_count - 1}")

    @property
    def item_count(self) -> int:
        """n, items it can read."""
        return len(self._inputs.table)

    @property
    def has_books(self) -> bool:
        """Whether tokens have codes."""
        return self._books is not None

    @property
    def books(self) -> Books:
        """The codebooks as ``codes.nearest_codes`` takes them; raises QueryError where there are none."""
        if self._books is None:
            raise QueryError("this encoder has no codebooks; it belongs to an unquantised model")
        return self._books

    def codes(self, tokens: np.ndarray, probes: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest composite codes of ``tokens`` (B, K_u, d): codes (B, K_u, P, M) uint16, best first,
        and squared distances (B, K_u, P) float32. Ties fall to the smaller code.

        P is ``probes``, or N^M if that is smaller. Product codes are the exact P nearest; residual codes come
        from a beam search of width P. Raises QueryError when the encoder has no codebooks.
        """
        if self._books is None:
            raise QueryError(
                "this encoder has no codebooks, so tokens have no codes; it belongs to an unquantised model"
            )
        if probes < 1:
            raise QueryError(f"probes is {probes}; expected at least 1")
        batch, heads, width = tokens.shape
        if width != self.width:
            raise QueryError(f"tokens have width {width}, the codebooks {self.width}")
        count, _, words = self._books.words.shape
        wide = min(probes, words**count)
        codes = np.empty((batch, heads, wide, count), np.uint16)
        distances = np.empty((batch, heads, wide), np.float32)
        ready = np.ascontiguousarray(tokens, dtype=np.float32)
        # Numba compiles a kernel anew for read-only arguments; copying such tokens is far cheaper.
        ready = ready if ready.flags.writeable else ready.copy()
        nearest_codes(ready, self._books, codes, distances)
        return codes, distances

    def _run(self, items: np.ndarray, indptr: np.ndarray, features: np.ndarray) -> np.ndarray:
        tokens = np.empty((len(indptr) - 1, self.heads, self.width), np.float32)
        held = self._own_thread()
        # Frozen views: numba compiles one version of a kernel for mapped and for ordinary arrays.
        bad = held.entry(read_only(items), read_only(indptr), features, tokens, held.address, held.kind)
        if bad >= 0:
            raise self._unknown(items[bad])
        return tokens

    def _own_thread(self) -> _Held:
        held: _Held | None = getattr(self._local, "held", None)
        if held is None:
            held = self._local.held = _Held(self.single(), self._no_feature)
        return held

    def checked_features(self, features: np.ndarray | None, batch: int) -> np.ndarray:
        """Return features (B, F) of a batch as kernels take them, (B, 0) for none; QueryError on another shape."""
        if not self.feature_width or features is None:
            return self._no_feature if batch == 1 else read_only(np.empty((batch, 0), np.float32))
        if features.shape != (batch, self.feature_width):
            raise QueryError(f"user features have shape {features.shape}, expected {(batch, self.feature_width)}")
        return read_only(np.ascontiguousarray(features, dtype=np.float32))

    def _load(self, spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray], source: str) -> None:
        self.spec = dict(spec)
        own: dict[str, Any] = dict(spec["tokenizer"])
        if own["kind"] not in KINDS:
            raise CorruptIndexError(f"{source}: tokenizer kind {own['kind']!r}, expected one of {', '.join(KINDS)}")
        self.width, self.heads, self.history, self.feature_width = checked_sizes(own)
        self._bytes = sum(array.nbytes for array in arrays.values())
        table = read_only(np.ascontiguousarray(arrays["item_vectors"], dtype=np.float32))
        items = count_of({"items": len(table)} | self.spec, "items", 0)
        _check(source, "item_vectors", table, (items, self.width))
        self._inputs = Inputs(table, np.float32(math.sqrt(self.width)))
        part: Arrays = {name[len(_PREFIX) :]: value for name, value in arrays.items() if name.startswith(_PREFIX)}
        _check_tokenizer(source, own, part)
        self._kind, self._own, self._local = part_of(own["kind"], "arrays"), own, threading.local()
        self._weights = _frozen(self._kind.prepare(own, part))
        self._empty = read_only(part["empty_state"])
        self._head = _frozen(self._head_of(part))
        self._no_feature = read_only(np.empty((1, 0), np.float32))
        self._load_books(spec.get("quantizer"), arrays, source)

    def _head_of(self, part: Arrays) -> Head:
        none = np.zeros((0, self.width), np.float32)
        features = np.ascontiguousarray(part["features.weight"].T) if self.feature_width else none
        if self._kind.INTERESTS:
            return Head(features, np.zeros((0, self.heads * self.width), np.float32), np.zeros(0, np.float32))
        return Head(features, np.ascontiguousarray(part["head.weight"].T), part["head.bias"])

    def _load_books(self, quantizer: Mapping[str, Any] | None, arrays: Mapping[str, np.ndarray], source: str) -> None:
        self._books: Books | None = None
        if quantizer is None:
            return
        count, words = count_of(quantizer, "books", 1, 64), count_of(quantizer, "codewords", 1, 1 << 16)
        product = {"product": True, "residual": False}[quantizer["kind"]]
        if product and self.width % count:
            raise CorruptIndexError(f"{source}: width {self.width} does not split into {count} sub-codebooks")
        _check(source, "codebooks", arrays["codebooks"], (count, words, self.width // count if product else self.width))
        self._books = prepare_books(arrays["codebooks"], residual=not product)


class _Held:
    """``encode_packed`` compiled for an encoder, and what a thread gives it."""

    def __init__(self, parts: tuple[Any, ...], no_feature: np.ndarray) -> None:
        self.parts = parts  # keeps the arrays alive
        self.address, self.kind, self.table = pack(parts)
        example = (_NO_ITEMS, read_only(np.zeros(1, np.int64)), no_feature, parts[2], self.address, self.kind)
        self.entry = entry_of(encode_packed, example)


def _frozen(parts: Any) -> Any:
    """Return a named tuple of arrays, numbers and such tuples with read-only views of the arrays."""
    if isinstance(parts, np.ndarray):
        return read_only(parts)
    return type(parts)(*map(_frozen, parts)) if isinstance(parts, tuple) else parts


def _check(source: str, name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.dtype != np.float32:
        raise CorruptIndexError(f"{source}: array {name!r} is {array.dtype}, expected float32; train the run again")
    if array.shape != shape:
        raise CorruptIndexError(
            f"{source}: array {name!r} has shape {array.shape}, expected {shape}; train the run again"
        )


def _check_tokenizer(source: str, own: dict[str, Any], part: Arrays) -> None:
    # Kernels index by these sizes without bounds checks, so every shape is compared before the first call.
    for name, shape in tokenizer_shapes(own).items():
        _check(source, _PREFIX + name, part[name], shape)

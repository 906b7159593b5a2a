"""The served query encoder: history and features -> K_u unit tokens -> composite codes. No torch.

It computes the last position of the trained tokenizer from exported weights; the arrays stay memory-mapped where
their layout allows (item vectors, the bulk) and are re-laid once where a kernel wants inputs first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.errors import CorruptIndexError, QueryError
from sparcode.index.arrays import Arrays, open_encoder_files, read_only
from sparcode.jit.addresses import plain_address, status_address
from sparcode.quantize.nearest import Books, prepare_books
from sparcode.query.encoder import kinds
from sparcode.query.encoder.codes import nearest_codes
from sparcode.query.encoder.finish import finish
from sparcode.query.encoder.sasrec import prepare, sasrec_states
from sparcode.query.encoder.shapes import INTERESTS, checked_sizes, tokenizer_shapes
from sparcode.query.encoder.state import MEMORIES, EncoderState
from sparcode.spec_values import count_of
from sparcode.types import Queries

_PREFIX = "tokenizer."
_NO_ITEMS = read_only(np.empty(0, np.int32))
_KINDS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sasrec": (prepare, sasrec_states),
    "gru4rec": (kinds.prepare_gru4rec, kinds.gru4rec_states),
    "dnn": (kinds.prepare_dnn, kinds.dnn_states),
    "self-attentive": (kinds.prepare_self_attentive, kinds.self_attentive_states),
    "capsule": (kinds.prepare_capsule, kinds.capsule_states),
}


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
        return self._encode(queries)[0]

    def has_tokens(self, queries: Queries) -> np.ndarray:
        """Return (B,) bool: False where a query has neither a history nor a non-zero feature."""
        known = np.diff(queries.indptr) > 0
        if self.feature_width and queries.user_features is not None:
            known |= (np.asarray(queries.user_features) != 0).any(axis=1)
        return known

    def encode_one(self, history: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        """Return unit tokens (K_u, d) of one query, oldest event first; equal to ``tokens`` bit for bit."""
        items = np.ascontiguousarray(history, dtype=np.int32)[-self.history :]
        rows = None if features is None else np.asarray(features)[None, :]
        start, stop = self._spans[len(items)]
        return self._run(items, start, stop, stop, rows)[0][0]

    def single(self) -> tuple[Any, ...]:
        """Return what ``encoder.single.encode`` takes after history and features: scratch for one thread included."""
        states = np.empty((1, len(self._empty), self.width), np.float32)
        tokens, valid = np.empty((1, self.heads, self.width), np.float32), np.empty(1, np.bool_)
        lengths = read_only(np.arange(self.history + 1, dtype=np.int64))
        start, stop = lengths[:1], lengths[1:2]
        inputs = (self._scale, self._empty, states, *self._weights)
        outputs = (*self._head, tokens, valid)
        return (
            status_address(self._states, (self._table, _NO_ITEMS, start, stop, *inputs)),
            plain_address(finish, (states, stop, self._no_feature, *outputs)),
            tokens, lengths, self._table, states, inputs, outputs,
        )  # fmt: skip

    def start(self, history: np.ndarray = _NO_ITEMS) -> EncoderState:
        """Return the state after the events ``history`` (m,), internal ids, oldest first.

        Raises QueryError for an item the encoder does not know.
        """
        items = read_only(np.array(history, dtype=np.int32).reshape(-1)[-self.history :])
        state = EncoderState(items, len(history), self._memory.make(self._own), self)
        return self._remember(state, items, 0)

    def append(self, state: EncoderState, item: int) -> EncoderState:
        """Return the state after one event more; ``state`` stays as it was.

        It costs one event while the window has room for one (``len(state.items) < encoder.history``), else the whole
        window, see ``encoder.state``. Raises QueryError for an unknown item or a state of another encoder.
        """
        self._check_owner(state)
        if not 0 <= item < len(self._table):
            raise self._unknown(item)
        items = np.empty(len(state.items) + 1, np.int32)
        items[:-1], items[-1] = state.items, item
        items = read_only(items)
        if len(items) > self.history:
            return replace(self.start(items), seen=state.seen + 1)
        longer = EncoderState(items, state.seen + 1, tuple(part.copy() for part in state.memory), self)
        return self._remember(longer, items[-1:], len(state.items))

    def tokens_of(self, state: EncoderState, features: np.ndarray | None = None) -> np.ndarray:
        """Return the unit tokens (K_u, d) of a state; equal to ``encode_one`` of its events bit for bit."""
        self._check_owner(state)
        count = len(state.items)
        states = self._empty[None]
        if count:
            states = np.empty(states.shape, np.float32)
            self._memory.recall(count, states[0], *state.memory, *self._weights)
        rows = None if features is None else np.asarray(features)[None, :]
        return self._finished(states, self._spans[count][1], rows)[0][0]

    def _remember(self, state: EncoderState, items: np.ndarray, first: int) -> EncoderState:
        bad = self._memory.remember(self._table, items, first, self._scale, *state.memory, *self._weights)
        if bad >= 0:
            raise self._unknown(items[bad])
        return state

    def _check_owner(self, state: EncoderState) -> None:
        if state.owner is not self:
            raise QueryError("the state belongs to another encoder; start it again from its items")

    def _unknown(self, item: int) -> QueryError:
        return QueryError(f"the history holds item {item}, but the encoder knows items 0..{len(self._table) - 1}")

    @property
    def item_count(self) -> int:
        """n, items it can read."""
        return len(self._table)

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

    def _encode(self, queries: Queries) -> tuple[np.ndarray, np.ndarray]:
        items = np.ascontiguousarray(queries.items, dtype=np.int32)
        indptr = np.ascontiguousarray(queries.indptr, dtype=np.int64)
        stops = indptr[1:]
        starts = np.maximum(stops - self.history, indptr[:-1])
        return self._run(items, read_only(starts), read_only(stops), read_only(stops - starts), queries.user_features)

    def _run(
        self,
        items: np.ndarray,
        starts: np.ndarray,
        stops: np.ndarray,
        lengths: np.ndarray,
        features: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        states = np.empty((len(starts), len(self._empty), self.width), np.float32)
        # Frozen views: numba compiles one version of a kernel for mapped and for ordinary arrays.
        bad = self._states(
            self._table, read_only(items), starts, stops, self._scale, self._empty, states, *self._weights
        )
        if bad >= 0:
            raise self._unknown(items[bad])
        return self._finished(states, lengths, features)

    def _finished(
        self, states: np.ndarray, lengths: np.ndarray, features: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        batch = len(states)
        tokens, valid = np.empty((batch, self.heads, self.width), np.float32), np.empty(batch, np.bool_)
        finish(states, lengths, self.checked_features(features, batch), *self._head, tokens, valid)
        return tokens, valid

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
        self.width, self.heads, self.history, self.feature_width = checked_sizes(own)
        self._bytes = sum(array.nbytes for array in arrays.values())
        self._scale = np.float32(math.sqrt(self.width))
        self._table = read_only(np.ascontiguousarray(arrays["item_vectors"], dtype=np.float32))
        items = count_of({"items": len(self._table)} | self.spec, "items", 0)
        _check(source, "item_vectors", self._table, (items, self.width))
        if own["kind"] not in _KINDS:
            raise CorruptIndexError(f"{source}: tokenizer kind {own['kind']!r}, expected one of {', '.join(_KINDS)}")
        part: Arrays = {name[len(_PREFIX) :]: value for name, value in arrays.items() if name.startswith(_PREFIX)}
        _check_tokenizer(source, own, part)
        prepare_weights, self._states = _KINDS[own["kind"]]
        self._memory, self._own = MEMORIES[own["kind"]], own
        self._weights = tuple(read_only(w) if isinstance(w, np.ndarray) else w for w in prepare_weights(own, part))
        self._empty = read_only(part["empty_state"])
        self._head = tuple(read_only(np.ascontiguousarray(a, np.float32)) for a in self._output_weights(own, part))
        self._no_feature = read_only(np.empty((1, 0), np.float32))
        # Start and stop arrays of single histories of every length, made once.
        self._spans = [
            (read_only(np.zeros(1, np.int64)), read_only(np.full(1, m, np.int64))) for m in range(self.history + 1)
        ]
        self._load_books(spec.get("quantizer"), arrays, source)

    def _output_weights(self, own: dict[str, Any], part: Arrays) -> tuple[np.ndarray, ...]:
        none = np.zeros((0, self.width), np.float32)
        feature_weight = part["features.weight"].T if self.feature_width else none
        if own["kind"] in INTERESTS:
            return feature_weight, np.zeros((0, self.heads * self.width), np.float32), np.zeros(0, np.float32)
        return feature_weight, part["head.weight"].T, part["head.bias"]

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

"""What every semantic-ID method gives once it is fitted, and the methods by name.

A codec is a pure function from vectors to codes and back. Collisions, item ids and files are not its business:
see ``tokenizer``, ``collisions`` and ``mapping``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from sparcode.errors import ConfigError, CorruptIndexError, DataError, QueryError
from sparcode.types import Sequences

COST_FLOATS = 1 << 22
"""Floats of the largest temporary of ``BaseCodec.last_digit_costs``: 16 MB."""
MAX_SIZE = 1 << 24
"""Most codewords of one digit."""


class Codec(Protocol):
    """A fitted method. Letters: n items, d width, L digits, ``sizes[l]`` codewords of digit l."""

    @property
    def kind(self) -> str:
        """Name of the method, e.g. ``rq-kmeans``."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Codewords of every digit, length L."""
        ...

    @property
    def one_to_one(self) -> bool:
        """Whether items never share a code when ``encode_items`` is given their numbers."""
        ...

    @property
    def width(self) -> int:
        """d of the vectors it takes."""
        ...

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes (n, L) int32 of vectors (n, d) float32; independent of the batch, bit for bit."""
        ...

    def encode_items(
        self, vectors: np.ndarray, *, numbers: np.ndarray | None = None, categories: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return codes as ``encode``, with what is known of the items beside their vectors."""
        ...

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return the vectors (n, d) float32 that codes (n, L) stand for; QueryError where a method has none."""
        ...

    def last_digit_costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return (n, sizes[-1]) float32: the squared error of every last digit behind the prefix of ``codes``."""
        ...

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays that encoding and decoding need."""
        ...

    def spec(self) -> dict[str, Any]:
        """Return kind, sizes, width and options, JSON-able."""
        ...


@dataclass(frozen=True)
class FitContext:
    """What some methods read beside the vectors.

    ``categories``: one text an item (category-prefix). ``sequences``: histories whose items are rows of the
    vectors (InfoNCE of rq-vae). ``validation``: vectors (m, d) held out. ``report``: receives one dict an epoch.
    """

    categories: list[str] | None = None
    sequences: Sequences | None = None
    validation: np.ndarray | None = None
    report: Callable[[dict[str, Any]], None] | None = None
    device: str = "auto"


class BaseCodec:
    """What codecs share: the spec, the costs of last digits through ``decode``, checks of what comes in."""

    kind: str
    sizes: tuple[int, ...]
    width: int
    options: Mapping[str, Any]
    one_to_one = False
    """Whether items never share a code when ``encode_items`` is given their numbers."""

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Return codes (n, L) int32; every method has its own."""
        raise NotImplementedError

    def encode_items(
        self, vectors: np.ndarray, *, numbers: np.ndarray | None = None, categories: Sequence[str | None] | None = None
    ) -> np.ndarray:
        """Return ``encode(vectors)``: most methods read nothing but vectors."""
        return self.encode(vectors)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Raise QueryError; methods that can reconstruct vectors have their own."""
        raise QueryError(
            f"{self.kind} codes hold no vector to decode; methods that do: rq-kmeans, rq-vae, pq, opq, fsq and others"
        )

    def last_digit_costs(self, vectors: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return (n, sizes[-1]) float32 squared errors, every last digit decoded in turn, in blocks of rows."""
        vectors, codes = self.checked_vectors(vectors), self.checked_codes(codes)
        count = self.sizes[-1]
        costs = np.empty((len(codes), count), np.float32)
        step = max(1, COST_FLOATS // (count * self.width))
        for start in range(0, len(codes), step):
            rows = slice(start, start + step)
            every = np.repeat(codes[rows], count, axis=0)
            every[:, -1] = np.tile(np.arange(count, dtype=np.int32), len(codes[rows]))
            gap = self.decode(every).reshape(-1, count, self.width) - vectors[rows, None, :]
            costs[rows] = np.einsum("nkd,nkd->nk", gap, gap)
        return costs

    def spec(self) -> dict[str, Any]:
        """Return kind, sizes, width and options, JSON-able."""
        return {"kind": self.kind, "sizes": list(self.sizes), "width": self.width, "options": dict(self.options)}

    def checked_vectors(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors (n, d) as float32 in C order; DataError for another shape."""
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.width:
            raise DataError(f"vectors of shape {vectors.shape} found, (items, {self.width}) expected by {self.kind}")
        return vectors

    def checked_codes(self, codes: np.ndarray) -> np.ndarray:
        """Return codes (n, L) as int32 in C order; QueryError for another length or a digit out of range."""
        return checked_codes(codes, self.sizes)


def checked_codes(codes: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return codes (n, L) as int32 in C order; QueryError names the first digit that is out of range."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != len(sizes):
        raise QueryError(f"SIDs of shape {codes.shape} found, (items, {len(sizes)}) expected: one column a digit")
    if codes.dtype.kind not in "iu":
        raise QueryError(f"SIDs of type {codes.dtype} found, integers expected")
    wrong = np.argwhere((codes < 0) | (codes >= np.asarray(sizes)))
    if len(wrong):
        row, digit = (int(place) for place in wrong[0])
        raise QueryError(
            f"SID {'-'.join(map(str, codes[row].tolist()))} is out of range: digit {digit + 1} lies in "
            f"0..{sizes[digit] - 1}, found {codes[row, digit]}; is it a SID of another tokenizer?"
        )
    return np.ascontiguousarray(codes, dtype=np.int32)


def code_matrix(codes: Any) -> np.ndarray:
    """Return SIDs as an array of any shape; QueryError where they differ in length."""
    try:
        return np.asarray(codes)
    except ValueError:
        raise QueryError("SIDs of different lengths found, one length expected; ask for each length apart") from None


def take_options(kind: str, given: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Return ``defaults`` with the given values; ConfigError for a name that is not among them, with the nearest."""
    for name in given:
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(defaults)) or 'none'}"
            raise ConfigError(f"unknown option {name!r} of {kind}; {hint}")
    return {**defaults, **given}


def digit_sizes(codebooks: int, codebook_size: int | Sequence[int]) -> tuple[int, ...]:
    """Return the codewords of every digit: one number for all, or a list of one each; ConfigError otherwise."""
    if isinstance(codebooks, bool) or not isinstance(codebooks, int) or codebooks < 1:
        raise ConfigError(f"codebooks={codebooks!r}: a whole number from 1 expected")
    sizes = [codebook_size] * codebooks if isinstance(codebook_size, int) else list(codebook_size)
    if len(sizes) != codebooks:
        raise ConfigError(
            f"codebook_size lists {len(sizes)} sizes for {codebooks} codebooks; give one each, or a number"
        )
    if any(isinstance(size, bool) or not isinstance(size, int) or not 2 <= size <= MAX_SIZE for size in sizes):
        raise ConfigError(f"codebook_size={codebook_size!r}: whole numbers from 2 to {MAX_SIZE:,} expected")
    return tuple(sizes)


MODULES = {
    "rq-kmeans": "rq_kmeans",
    "rq-vae": "autoencoder",
    "vq-vae": "autoencoder",
    "pq": "product",
    "opq": "product",
    "fsq": "fsq",
    "hierarchical-kmeans": "hierarchical",
    "lsh": "lsh",
    "category-prefix": "category_prefix",
    "base": "controls",
    "random": "controls",
}
"""Kind -> module of ``sparcode.semantic_id.codecs``. A module of several kinds has one ``fit_<kind>`` for each."""


def fit_codec(kind: str, vectors: np.ndarray, *, seed: int, options: dict[str, Any], context: FitContext) -> Codec:
    """Fit one method to vectors (n, d) float32; the same arguments give the same codec.

    ``options`` hold ``codebooks``, ``codebook_size`` and what the method alone knows. Raises ConfigError for an
    unknown kind or option and DataError for vectors that cannot be used.
    """
    module = _module(kind, ConfigError)
    fitter = getattr(module, f"fit_{kind.replace('-', '_')}", None) or module.fit
    return fitter(vectors, seed=seed, options=options, context=context)


FITTERS: dict[str, Callable[..., Codec]] = {kind: partial(fit_codec, kind) for kind in MODULES}
"""Kind -> ``fit(vectors, *, seed, options, context)``; modules are imported when a method is first fitted."""


def open_codec(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Codec:
    """Return the codec that gave ``spec()`` and ``arrays()``; CorruptIndexError when they do not belong together."""
    kind = str(spec.get("kind"))
    try:
        return _module(kind, CorruptIndexError).open_codec(spec, arrays)
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        raise CorruptIndexError(f"the arrays of a {kind} codec do not fit its spec ({problem}); fit it again") from None


def unknown_method(kind: object) -> str:
    """Return what to say of a method that there is none of, with the nearest."""
    near = difflib.get_close_matches(str(kind), MODULES, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown method {kind!r}, expected one of {', '.join(MODULES)}{hint}"


def _module(kind: str, error: type[Exception]) -> ModuleType:
    if kind not in MODULES:
        raise error(unknown_method(kind))
    return import_module(f"sparcode.semantic_id.codecs.{MODULES[kind]}")

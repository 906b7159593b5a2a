"""``SemanticIdTokenizer``: item vectors become semantic IDs, by any method, and stay what they are.

A tokenizer is a scaling, a codec (``codec``), the SIDs of the items it was fitted on (``mapping``) and a policy for
items that share a code (``collisions``). ``encode`` is a pure function of vectors; ``semantic_ids`` are the items'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.errors import ConfigError, CorruptIndexError, DataError, QueryError, RunError
from sparcode.seeding import generator
from sparcode.semantic_id import collisions as handling
from sparcode.semantic_id import store
from sparcode.semantic_id.codec import (
    MODULES,
    Codec,
    FitContext,
    checked_codes,
    code_matrix,
    fit_codec,
    open_codec,
    unknown_method,
)
from sparcode.semantic_id.codecs.checks import whole_number
from sparcode.semantic_id.mapping import SemanticIds, unique_ids
from sparcode.semantic_id.report import CodeReport
from sparcode.semantic_id.report import report as measure
from sparcode.semantic_id.rows import BLOCK_ROWS
from sparcode.semantic_id.scaling import ScaledRows, Scaling, checked_matrix, fit_scaling
from sparcode.types import Sequences

READ_BY_ROWS = ("rq-kmeans", "pq", "base", "random")
"""Methods that read a sample of the rows, or blocks of them: a mapped matrix is never scaled as a whole for these."""


class SemanticIdTokenizer:
    """Semantic IDs by ``method``, one of ``codec.MODULES``.

    ``codebooks`` L and ``codebook_size`` (one number, or one a digit) are 4 and 256 when absent, for most methods; the
    size is smaller for few items, see ``codecs.checks.fitting_size``.
    ``collisions``: none, extra-digit, next-best, sinkhorn-last. ``standardise``: global (centre, one scale), columns,
    none. ``fit_rows``: learn from this many items, drawn at random; all are encoded. ``extra_size``: values of the
    extra digit, chosen with room for new items when absent. ``options`` belong to the method.

    >>> SemanticIdTokenizer("rq-kmeans", codebooks=4, codebook_size=256).fit(x).encode(x)  # doctest: +SKIP
    """

    def __init__(
        self,
        method: str = "rq-kmeans",
        codebooks: int | None = None,
        codebook_size: int | Sequence[int] | None = None,
        collisions: str = "extra-digit",
        seed: int = 0,
        *,
        standardise: str | bool = "global",
        fit_rows: int | None = None,
        extra_size: int | None = None,
        device: str = "auto",
        **options: Any,
    ) -> None:
        if method not in MODULES:
            raise ConfigError(unknown_method(method))
        handling.check_policy(collisions)
        for name, value, least in (("fit_rows", fit_rows, 1), ("extra_size", extra_size, 1), ("seed", seed, 0)):
            if value is not None:
                whole_number(name, value, least)
        self.method, self.collisions, self.seed, self.device = method, collisions, seed, device
        self.standardise, self.fit_rows, self.extra_size = standardise, fit_rows, extra_size
        self.options = _sizes(method, codebooks, codebook_size) | options
        self._codec: Codec | None = None
        self._scaling: Scaling | None = None
        self._semantic_ids: SemanticIds | None = None
        self.report: dict[str, Any] = {}

    def fit(
        self,
        x: np.ndarray,
        ids: pa.Array | Sequence[Any] | None = None,
        categories: Sequence[str | None] | None = None,
        sequences: Sequences | None = None,
        *,
        validation: np.ndarray | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
        stage: Callable[[str], None] | None = None,
    ) -> SemanticIdTokenizer:
        """Learn the codes of vectors x (n, d) and give every item its SID; returns the tokenizer.

        ``ids``: one an item, 0..n-1 when absent. ``categories``: one text an item. ``sequences``: histories whose
        items are rows of x. ``validation``: (m, d) vectors held out. ``report`` receives a dict an epoch,
        ``stage`` the name of what begins. Raises DataError for vectors or ids that cannot be used and ConfigError for
        options, before anything is learned.
        """
        stage = stage or _unheard
        x = checked_matrix(x)
        names = unique_ids(pa.array(np.arange(len(x))) if ids is None else ids).external
        self._check_fit(x, names, categories, sequences)
        scaling = fit_scaling(x, self.standardise)
        rows = self._fit_rows(len(x), sequences)
        context = FitContext(
            categories=None if categories is None else [categories[row] or "" for row in _places(rows, len(x))],
            sequences=sequences,
            validation=None if validation is None else scaling.apply(checked_matrix(validation, x.shape[1])),
            report=report,
            device=self.device,
        )
        vectors: Any = ScaledRows(x, scaling)
        if rows is not None or self.method not in READ_BY_ROWS:
            vectors = scaling.apply(x if rows is None else x[rows])
        stage(f"fitting {self.method}")
        codec = fit_codec(self.method, vectors, seed=self.seed, options=dict(self.options), context=context)
        del vectors
        self._codec, self._scaling = codec, scaling
        self._give_sids(x, names, categories, stage)
        return self

    def encode(self, x: np.ndarray, categories: Sequence[str | None] | None = None) -> np.ndarray:
        """Return the codes (n, L) int32 of vectors x (n, d): what their content says, before collisions are handled.

        Depends on each row alone, bit for bit; see ``assign`` for the SIDs of items. Raises RunError before ``fit``.
        """
        x = checked_matrix(x, self.codec.width)
        if categories is not None and len(categories) != len(x):
            raise DataError(f"{len(categories):,} categories found for {len(x):,} items; one each expected")
        return self._encoded(x, None, categories)

    def decode(self, codes: np.ndarray | SemanticIds) -> np.ndarray:
        """Return the vectors (n, d) float32 that SIDs (n, L) stand for, in the scale of the input.

        An extra digit holds no content and is left out. Raises QueryError for digits out of range or a method without
        reconstruction, IndexMismatchError for SIDs that are known to be another tokenizer's.
        """
        if isinstance(codes, SemanticIds):
            codes.check_tokenizer(self.fingerprint)
            codes = codes.codes
        codes, digits = code_matrix(codes), len(self.codec.sizes)
        if codes.ndim == 2 and codes.shape[1] == digits + 1 == len(self.sizes):
            codes = checked_codes(codes, self.sizes)[:, :digits]
        return self._fitted_scaling.undo(self.codec.decode(codes))

    def assign(
        self, x: np.ndarray, ids: pa.Array | Sequence[Any], categories: Sequence[str | None] | None = None
    ) -> SemanticIds:
        """Return the SIDs of items: the stored one of an item that is known, a free one of each new item.

        Nothing is stored, see ``append``. New items are placed in order and never take the SID of an old one, unless
        ``collisions`` is none.
        """
        names = unique_ids(ids).external
        known, grown = self._grown(x, names, categories)
        return SemanticIds(names, grown.codes_of(names), grown.sizes, **_provenance(known))

    def append(
        self, x: np.ndarray, ids: pa.Array | Sequence[Any], categories: Sequence[str | None] | None = None
    ) -> SemanticIds:
        """Give new items SIDs, keep them, and return those of the given items. Known items keep theirs."""
        names = unique_ids(ids).external
        known, grown = self._grown(x, names, categories)
        self._semantic_ids = grown
        return SemanticIds(names, grown.codes_of(names), grown.sizes, **_provenance(known))

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer and its items to ``folder``, or replace the tokenizer there; see ``store``."""
        folder = store.folder_of(folder)
        record = {
            "method": self.method,
            "settings": self.settings(),
            "codec": self.codec.spec(),
            "fingerprint": self.fingerprint,
            "report": self.report,
        }
        store.save(folder, record, self._arrays(), self.semantic_ids)

    @classmethod
    def load(cls, folder: str | Path) -> SemanticIdTokenizer:
        """Open a saved tokenizer; its codes are the same bits. Raises RunError and CorruptIndexError as ``store``."""
        folder = store.folder_of(folder)
        record, arrays, mapping = store.load(folder)
        try:
            tokenizer = cls(**record["settings"])
            scaling = Scaling(arrays.pop("standardise.mean"), arrays.pop("standardise.scale"))
            tokenizer._codec, tokenizer._scaling = open_codec(record["codec"], arrays), scaling
            tokenizer.report, expected = record["report"], record["fingerprint"]
        except (AttributeError, KeyError, TypeError, ConfigError) as problem:
            raise CorruptIndexError(
                f"{folder}/tokenizer.json was edited ({problem}); fit the tokenizer again"
            ) from None
        found = tokenizer.fingerprint
        if {found, mapping.tokenizer} != {expected}:
            raise CorruptIndexError(
                f"{folder}: codec {found}, items of {mapping.tokenizer} and tokenizer.json of {expected} do not belong "
                "together; fit the tokenizer again"
            )
        tokenizer._semantic_ids = mapping
        return tokenizer

    @property
    def codec(self) -> Codec:
        """The fitted method, for vectors as ``standardise`` makes them; RunError before ``fit``."""
        if self._codec is None:
            raise RunError("this tokenizer is not fitted; call fit(x) or SemanticIdTokenizer.load(folder)")
        return self._codec

    @property
    def semantic_ids(self) -> SemanticIds:
        """The items and their SIDs, collisions handled, in the order they came."""
        _ = self.codec
        assert self._semantic_ids is not None
        return self._semantic_ids

    @property
    def sizes(self) -> tuple[int, ...]:
        """Values of every digit of a SID, the extra digit included."""
        return self.semantic_ids.sizes

    @property
    def fingerprint(self) -> str:
        """16 hex digits: equal for tokenizers that encode everything alike."""
        return store.fingerprint(self.codec.spec(), self._arrays())

    def settings(self) -> dict[str, Any]:
        """Return the arguments that make an unfitted twin, JSON-able."""
        shared = ("method", "collisions", "seed", "standardise", "fit_rows", "extra_size", "device")
        return {name: getattr(self, name) for name in shared} | self.options

    def quality(
        self,
        x: np.ndarray | None = None,
        categories: Sequence[str | None] | None = None,
        sequences: Sequences | None = None,
    ) -> CodeReport:
        """Return what the codes of the items keep: usage, perplexity, and as much as is given to compare with.

        ``x`` (n, d): the items' vectors, for neighbours, reconstruction and duplicates. ``categories``: for purity.
        ``sequences``: histories whose items are rows, for co-purchases. See ``report`` for the figures.
        """
        codes = self.semantic_ids.codes[:, : self.semantic_ids.content_digits]
        decoded = None
        if x is not None:
            x = checked_matrix(x, self.codec.width)
            with suppress(QueryError):
                decoded = self.decode(codes)
        return measure(
            codes, self.codec.sizes, vectors=x, decoded=decoded, categories=categories, histories=sequences,
            different=self._different() if x is None else None,
        )  # fmt: skip

    def _different(self) -> int:
        """Return how many vectors differed when the tokenizer was fitted, each item since then being another one."""
        items = len(self.semantic_ids)
        return int(self.report.get("distinct_vectors", items)) + max(items - int(self.report.get("items", items)), 0)

    def info(self) -> dict[str, Any]:
        """Return method, sizes, items, fill, use of the digits, collisions and their cost, JSON-able.

        Methods that train add ``training``: the errors and the epoch that was chosen.
        """
        mapping, quality = self.semantic_ids, self.quality()
        training = self.codec.spec().get("training")
        return {
            "method": self.method,
            "fingerprint": self.fingerprint,
            "width": self.codec.width,
            "sizes": list(self.sizes),
            "items": len(mapping),
            "distinct": mapping.distinct,
            "capacity": mapping.capacity,
            "fill": mapping.fill,
            "collision_rate": mapping.collision_rate,
            "usage": [digit.usage for digit in quality.digits],
            "perplexity": [digit.perplexity for digit in quality.digits],
            "notes": quality.notes(),
            "settings": self.settings(),
            "when_fitted": self.report,
        } | ({"training": training} if training else {})

    @property
    def _fitted_scaling(self) -> Scaling:
        assert self._scaling is not None
        return self._scaling

    def _arrays(self) -> dict[str, np.ndarray]:
        scaling = self._fitted_scaling
        return self.codec.arrays() | {"standardise.mean": scaling.mean, "standardise.scale": scaling.scale}

    def _check_fit(self, x: np.ndarray, names: pa.Array, categories: Any, sequences: Sequences | None) -> None:
        for what, given in (("ids", names), ("categories", categories)):
            if given is not None and len(given) != len(x):
                raise DataError(f"{len(given):,} {what} found for {len(x):,} vectors; one each expected")
        items = np.asarray(() if sequences is None else sequences.items)
        if len(items) and not 0 <= items.min() <= items.max() < len(x):
            raise DataError(f"sequences hold item {items.max()}; rows 0..{len(x) - 1} of the vectors expected")

    def _fit_rows(self, count: int, sequences: Sequences | None) -> np.ndarray | None:
        if self.fit_rows is None or self.fit_rows >= count or self.method == "base":
            return None
        if sequences is not None:
            raise ConfigError("fit_rows and sequences exclude each other: histories name items by their row")
        return np.sort(generator(self.seed, "fit rows").choice(count, self.fit_rows, replace=False))

    def _encoded(
        self, x: np.ndarray, numbers: np.ndarray | None, categories: Sequence[str | None] | None
    ) -> np.ndarray:
        codes = np.empty((len(x), len(self.codec.sizes)), np.int32)
        for low in range(0, len(x), BLOCK_ROWS):
            rows = slice(low, low + BLOCK_ROWS)
            codes[rows] = self.codec.encode_items(
                self._fitted_scaling.apply(x[rows]),
                numbers=None if numbers is None else numbers[rows],
                categories=None if categories is None else categories[rows],
            )
        return codes

    def _give_sids(
        self, x: np.ndarray, names: pa.Array, categories: Sequence[str | None] | None, stage: Callable[[str], None]
    ) -> None:
        vectors: Any = ScaledRows(x, self._fitted_scaling)
        stage("encoding items")
        codes = self._encoded(x, np.arange(len(x)), categories)
        policy = "none" if self.codec.one_to_one else self.collisions
        stage("measuring collisions" if policy == "none" else f"resolving collisions ({policy})")
        sids, report = handling.resolve(policy, self.codec, vectors, codes, extra_size=self.extra_size)
        sizes = (*self.codec.sizes, report.extra_size) if report.extra_size else self.codec.sizes
        self.report = report.as_dict()
        self._semantic_ids = SemanticIds(
            names,
            sids,
            sizes,
            method=self.method,
            tokenizer=self.fingerprint,
            content_digits=len(self.codec.sizes),
        )

    def _grown(
        self, x: np.ndarray, names: pa.Array, categories: Sequence[str | None] | None
    ) -> tuple[SemanticIds, SemanticIds]:
        x, known = checked_matrix(x, self.codec.width), self.semantic_ids
        for what, given in (("ids", names), ("categories", categories)):
            if given is not None and len(given) != len(x):
                raise DataError(f"{len(given):,} {what} found for {len(x):,} vectors; one each expected")
        new = np.flatnonzero(known.rows_of(names) < 0)
        if not len(new):
            return known, known
        numbers = np.arange(len(known), len(known) + len(new))
        kinds = None if categories is None else [categories[row] for row in new.tolist()]
        codes = self._encoded(x[new], numbers, kinds)
        vectors = self._fitted_scaling.apply(x[new])
        policy = "none" if self.codec.one_to_one else self.collisions
        sids = handling.append(policy, self.codec, vectors, codes, known.codes, known.sizes)
        return known, known.extended(names.take(pa.array(new)), sids)


def _unheard(name: str) -> None:
    """Take note of no stage."""


def _sizes(method: str, codebooks: int | None, codebook_size: int | Sequence[int] | None) -> dict[str, Any]:
    """Return the sizes that were given: what is absent, each method chooses."""
    given: dict[str, Any] = {} if codebooks is None else {"codebooks": _plain(codebooks)}
    if isinstance(codebook_size, str | float | np.floating):
        raise ConfigError(f"codebook_size={codebook_size!r}: a whole number, or a list of one a digit, expected")
    if isinstance(codebook_size, int | np.integer):
        given["codebook_size"] = _plain(codebook_size)
    elif codebook_size is not None:
        given["codebook_size"] = [_plain(size) for size in codebook_size]
        # A list counts its digits; beside a category prefix it holds the content digits alone.
        if method != "category-prefix":
            given.setdefault("codebooks", len(given["codebook_size"]))
    return given


def _plain(number: Any) -> Any:
    """Return whole numbers of numpy as Python's, which settings in JSON hold; anything else as it is."""
    return int(number) if isinstance(number, np.integer) else number


def _places(rows: np.ndarray | None, count: int) -> range | list[int]:
    return range(count) if rows is None else rows.tolist()


def _provenance(mapping: SemanticIds) -> dict[str, Any]:
    return {"method": mapping.method, "tokenizer": mapping.tokenizer, "content_digits": mapping.content_digits}

"""What a retrieval engine must offer to be compared with sparcode.

Dense peers answer the inner product over item vectors, sparse peers weighted sums over our own postings; no encoder is
inside either. All use one thread: builds pin it themselves, searches are to be run inside
``sparcode.eval.machine.one_thread()``, because pinning costs more than a search.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, Self

import numpy as np

from sparcode.errors import ConfigError, MissingExtraError

Parameters = dict[str, int]
"""Search parameters by name, for example {"ef": 64}; more of any of them never finds less and never costs less."""


class DensePeer(Protocol):
    """An engine over item vectors. Ids are row numbers of the vectors; -1 fills places where it found fewer than k.

    ``kind``: exact, graph or partition. ``most_items``: largest set on which it is measured unless asked for, None
    for any. ``build_seconds``, ``build_cpu_seconds``: wall and processor time of the build, kept by ``save``.
    ``settings``: built with these, JSON-able.
    """

    name: str
    kind: str
    most_items: int | None
    build_seconds: float
    build_cpu_seconds: float
    settings: dict[str, Any]

    @classmethod
    def build(cls, vectors: np.ndarray, *, seed: int = 0, **settings: Any) -> Self:
        """Index ``vectors``, (n, d) float32 C-contiguous, unit or not; ``settings`` override the engine's defaults.

        Raises MissingExtraError when the library is not installed, ConfigError on an unknown setting or wrong array.
        """
        ...

    def parameter_grid(self, k: int) -> list[Parameters]:
        """Return what may be given to ``set`` for searches of ``k`` results, cheapest first; [{}] when nothing may."""
        ...

    def set(self, parameters: Parameters) -> None:
        """Search with these parameters from now on."""
        ...

    def search(self, query: np.ndarray, k: int) -> np.ndarray:
        """Return (k,) ids, int32 or int64, best first, of one query (d,) float32; the call that is timed."""
        ...

    def search_batch(self, queries: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) ids of B queries (B, d) float32."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of the serialised index, vectors included."""
        ...

    def save(self, folder: Path) -> None:
        """Write the index into ``folder``; the folder is complete once it holds ``peer.json``, written last."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what ``save`` wrote; CorruptIndexError when the folder is not complete or of another engine."""
        ...


class SparsePeer(Protocol):
    """An engine over posting lists: the sum of weight * impact over the rows of a query.

    ``exact``: whether it promises the best k sums. An engine that ranks all items fills places beyond the items its
    lists hold with items of sum 0; one that ranks only what it read returns fewer ids, or -1 in a batch.
    """

    name: str
    exact: bool
    most_items: int | None
    build_seconds: float
    build_cpu_seconds: float
    settings: dict[str, Any]

    @classmethod
    def build(
        cls, indptr: np.ndarray, postings: np.ndarray, item_count: int, *, seed: int = 0, **settings: Any
    ) -> Self:
        """Take over lists: ``indptr`` (rows + 1,) uint64, ``postings`` (P,) uint32, id << 8 | impact, ids ascending.

        The times of the build are those to bring them into the engine's own form. Raises as ``DensePeer.build``.
        """
        ...

    def search(self, rows: np.ndarray, weights: np.ndarray, k: int) -> np.ndarray:
        """Return at most k ids, best sum first, of one query; ``rows``, ``weights``: int32, weights >= 1."""
        ...

    def search_batch(self, rows: np.ndarray, weights: np.ndarray, indptr: np.ndarray, k: int) -> np.ndarray:
        """Return (B, k) ids; query b has ``rows[indptr[b]:indptr[b + 1]]``, ``indptr`` (B + 1,) int64."""
        ...

    @property
    def bytes(self) -> int:
        """Bytes of lists and offsets in the engine's own form."""
        ...


def load_library(module: str, package: str) -> ModuleType:
    """Import an optional library; MissingExtraError names the package and the extra."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(package, "bench", "the comparison with other engines") from None


def with_overrides(defaults: dict[str, Any], overrides: dict[str, Any], name: str) -> dict[str, Any]:
    """Return ``defaults`` with some values replaced; ConfigError on a name the engine has not."""
    unknown = sorted(set(overrides) - set(defaults))
    if unknown:
        raise ConfigError(f"{name} has no setting {unknown[0]!r}; it has {', '.join(sorted(defaults)) or 'none'}")
    return {**defaults, **overrides}

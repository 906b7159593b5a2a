"""Item embeddings with their ids: read from the files people have, checked once, written whole or not at all.

.npy            float matrix (n, d), memory-mapped when it is float32; ids in STEM.ids.npy or STEM.ids.txt, else in
                ids.npy or ids.txt of the same folder, else 0..n-1
.parquet        a column of equally long lists of numbers, and an id column
.safetensors    a float matrix, memory-mapped when it is float32, and an integer array of ids if there is one
.pt, .pth       tensors saved by torch, read without torch and without executing anything (``torch_file``)
a folder        vectors.npy and ids.npy or ids.txt, as ``write_embeddings`` writes it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.data.ids import IdMap, as_id_array
from sparcode.errors import DataError
from sparcode.semantic_id.embedding_checks import VectorFacts, inspect
from sparcode.semantic_id.rows import as_array


@dataclass
class Embeddings:
    """``vectors``: (n, d) float32, C order, maybe a read-only memory map. ``ids``: int64 or large_string (n,)."""

    vectors: np.ndarray
    ids: pa.Array

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def width(self) -> int:
        """d."""
        return int(self.vectors.shape[1])

    def facts(self, *, alike: bool = False) -> VectorFacts:
        """Check every vector and count what is odd; see ``embedding_checks.inspect`` for policy and errors."""
        return inspect(self.vectors, self.ids, alike=alike)

    def require_width(self, width: int, whose: str = "the tokenizer") -> None:
        """Raise DataError unless vectors have ``width`` columns."""
        if self.width != width:
            raise DataError(
                f"the embeddings are {self.width} wide, {whose} takes {width}: give the embeddings it was fitted on, "
                "or fit it again"
            )

    def aligned(self, ids: pa.Array) -> np.ndarray:
        """Return float32 (len(ids), d) in the order of ``ids``; DataError names the first that has no vector."""
        place = IdMap(self.ids, kind="item").join(ids)
        absent = np.flatnonzero(place < 0)
        if len(absent):
            raise DataError(
                f"{len(absent):,} of {len(ids):,} items have no embedding, first {ids[int(absent[0])].as_py()!r}; "
                "embed them too, or leave them out"
            )
        return np.ascontiguousarray(self.vectors[place], dtype=np.float32)


def read_embeddings(path: str | Path, *, column: str | None = None, ids: Any = None, alike: bool = False) -> Embeddings:
    """Read and check embeddings; the kind of file is known by its ending.

    ``column``: the Parquet column, the tensor of a safetensors or torch file, where several fit. ``ids``: the name of
    a Parquet column or of an array in the file, a file of ids (.npy, .txt, .parquet), or the ids themselves.
    ``alike``: all vectors may be equal, as those of a few new items.
    DataError for a file that cannot be read, vectors with nan or infinite values (rows are named), vectors that
    are all equal, missing or repeated ids. Repeated vectors are kept; ``Embeddings.facts`` counts them.
    """
    from sparcode.semantic_id.embedding_files import read_vectors

    path = Path(path)
    vectors, found = read_vectors(path, column, ids)
    embeddings = Embeddings(_matrix(vectors, path), _ids(found, len(vectors), path))
    embeddings.facts(alike=alike)
    return embeddings


def from_arrays(vectors: np.ndarray, ids: Sequence[Any] | pa.Array | None = None) -> Embeddings:
    """Return checked embeddings of an array (n, d) of any float or integer type; ids default to 0..n-1."""
    source = Path("the given array")
    embeddings = Embeddings(_matrix(as_array(vectors), source), _ids(ids, len(vectors), source))
    embeddings.facts()
    return embeddings


def write_embeddings(path: str | Path, embeddings: Embeddings) -> None:
    """Write .npy, .parquet, .safetensors, or a folder (a name without ending), by the ending of ``path``.

    Folder, Parquet and safetensors are replaced in one step; the ids of a .npy stand in a second file, which is
    renamed just before the first. Equal embeddings give equal bytes. DataError for another ending.
    """
    from sparcode.semantic_id.embedding_files import write_vectors

    write_vectors(Path(path), embeddings.vectors, embeddings.ids)


def require_kind(path: str | Path) -> None:
    """Raise DataError or OSError unless ``write_embeddings`` could write ``path``; called before long work."""
    from sparcode.semantic_id.embedding_files import require_writable_kind

    require_writable_kind(Path(path))


def _matrix(vectors: np.ndarray, path: Path) -> np.ndarray:
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise DataError(
            f"{path} holds {vectors.dtype} of shape {vectors.shape}; expected a matrix of numbers, one row an item"
        )
    if 0 in vectors.shape:
        raise DataError(f"{path} holds an empty matrix of shape {vectors.shape}; expected at least one item and column")
    if vectors.dtype == np.float32 and vectors.flags.c_contiguous:
        return vectors
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(vectors, dtype=np.float32)


def _ids(found: Any, rows: int, path: Path) -> pa.Array:
    ids = pa.array(np.arange(rows, dtype=np.int64)) if found is None else as_id_array(found, "item")
    if len(ids) != rows:
        raise DataError(f"{path}: {rows:,} vectors but {len(ids):,} ids; expected one id a vector")
    if ids.null_count:
        row = int(np.flatnonzero(np.asarray(ids.is_null()))[0])
        raise DataError(f"{path}: row {row + 1:,} has no id ({ids.null_count:,} such rows); fill or remove these rows")
    _refuse_repeats(ids, path)
    return ids


def _refuse_repeats(ids: pa.Array, path: Path) -> None:
    encoded = ids.dictionary_encode()
    if len(encoded.dictionary) == len(ids):
        return
    counts = np.bincount(encoded.indices.to_numpy(), minlength=len(encoded.dictionary))
    first = int(np.argmax(counts > 1))
    rows = np.flatnonzero(encoded.indices.to_numpy() == first)[:2] + 1
    raise DataError(
        f"{path}: id {encoded.dictionary[first].as_py()!r} occurs in rows {rows[0]:,} and {rows[1]:,} "
        f"({int((counts > 1).sum()):,} such ids); keep one row an item"
    )

"""Does an index fit the model beside it? The hashes say so; sizes are compared all the same, for a hash proves nothing.

A store holds neither N nor what its items are, so its own rules cannot see an index of more items than the model
knows, or a fallback table of another number of codes: they would end in an IndexError at some query.
"""

from __future__ import annotations

import numpy as np

from sparcode.errors import IndexMismatchError
from sparcode.index.layout import Index


def check_agreement(index: Index, item_count: int, codebooks: np.ndarray | None) -> None:
    """Raise IndexMismatchError unless ``index`` has ``item_count`` items and its codes are those of ``codebooks``.

    ``codebooks``: (M, N, width) or None when the model has none; read only when the index has learned lists.
    """
    _compare("the index has {} items, the model has {}", index.item_count, item_count)
    if index.has_family("item"):
        _compare("the index has item lists of {} items, the model has {}", index.family("item").rows, item_count)
    if codebooks is None or not index.has_family("learned") or not index.family("learned").rows:
        return
    books, codewords = codebooks.shape[:2]
    if index.code_rows is not None:
        _compare("the index maps {} codes, the model has {}", len(index.code_rows), codewords**books)
        return
    stored = index.code_table
    _compare("the index stores codes of {} codewords each, those of the model have {}", stored.shape[1], books)
    _compare("the index stores {} codes for {} learned lists", len(stored), index.family("learned").rows)
    if int(stored.max()) >= codewords:
        raise _mismatch(f"the index stores codeword {int(stored.max())}, the model has {codewords} a book")


def _compare(message: str, found: int, expected: int) -> None:
    if found != expected:
        raise _mismatch(message.format(found, expected))


def _mismatch(message: str) -> IndexMismatchError:
    return IndexMismatchError(f"{message}; build the index again: sparcode build-index RUN")

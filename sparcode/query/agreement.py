"""Does an index fit the model beside it? The hashes say so; sizes are compared all the same, for a hash proves nothing.

A store holds neither N nor what its items are, so its own rules cannot see an index of more items than the model
knows, or a fallback table of another number of codes: they would end in an IndexError at some query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sparcode.errors import CorruptIndexError, IndexMismatchError
from sparcode.index.layout import Index

if TYPE_CHECKING:
    from sparcode.query.encoder.encoder import Encoder
    from sparcode.query.rescore.rescorer import Rescorer
    from sparcode.run import Run


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


def check_parts(run: Run, encoder: Encoder, rescorer: Rescorer) -> None:
    """Raise CorruptIndexError unless the encoder and the rescorer of a run have the same sizes.

    A kernel reads tokens as wide as the item vectors, so widths that differ would be read past the end.
    """
    scorer, model = run.model_folder / "rescorer.json", run.model_folder / "encoder.json"
    for path, what, found, expected in (
        (scorer, "vectors of width", rescorer.width, encoder.width),
        (scorer, "items:", rescorer.item_count, encoder.item_count),
        (run.folder / "run.json", "items:", run.record.get("items", encoder.item_count), encoder.item_count),
    ):
        if found != expected:
            raise CorruptIndexError(
                f"{path} has {what} {found}, {model} {expected}; they are of two trainings: put the files back, or "
                "train the run again"
            )


def _compare(message: str, found: int, expected: int) -> None:
    if found != expected:
        raise _mismatch(message.format(found, expected))


def _mismatch(message: str) -> IndexMismatchError:
    return IndexMismatchError(f"{message}; build the index again: sparcode build-index RUN")

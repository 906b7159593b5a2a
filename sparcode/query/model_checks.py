"""Arrays of a model folder that name places in other arrays: checked when read, for kernels do not check them.

The digest in ``run.json`` finds damage; a run of somebody else can carry any arrays under a right digest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from sparcode.errors import CorruptIndexError
from sparcode.index.arrays import Arrays, read_arrays
from sparcode.index.store import receipts
from sparcode.run import MODEL_FILES, Run

_REMEDY = "put the file back, or train the run again"

WORD_FILES = {"category": "categories.safetensors", "segment": "segments.safetensors"}
"""Family -> file of its lists of words, where the family is on."""


def read_lists(path: Path, item_count: int | None = None) -> Arrays:
    """Read lists of items: ``indptr``, ``items`` < ``item_count``, finite ``values``; CorruptIndexError on others.

    ``item_count`` absent: there is one list an item.
    """
    arrays = read_arrays(path)
    limit = len(arrays.get("indptr", ())) - 1 if item_count is None else item_count
    check_rows(path, arrays, "indptr", "items", limit)
    values = arrays.get("values", np.zeros(0))
    if values.shape != arrays["items"].shape or values.dtype != np.float32:
        raise _damaged(path, f"values are {values.dtype} of shape {values.shape}, one float32 an item expected")
    check_finite(path, {"values": values})
    return arrays


def verify_model(run: Run, verify: str) -> None:
    """Compare the digest of a run's model and look for NaN in its weights; ``verify`` as for an index.

    With ``auto`` this is left out when these very files were found whole before. Raises CorruptIndexError.
    """
    names = [name for name in MODEL_FILES if (run.model_folder / name).exists()]
    marks = {name: receipts.mark((run.model_folder / name).stat()) for name in names}
    known = verify == "auto" and receipts.is_verified(run.model_folder, run.model_hash, marks)
    if verify == "none" or known:
        return
    for name in names:
        if name.endswith(".safetensors"):
            read_arrays(run.model_folder / name, verify=True)  # first, for the digest of the whole names no file
    run.check_model()
    for stem in ("encoder", "rescorer"):
        path = run.model_folder / f"{stem}.safetensors"
        check_finite(path, read_arrays(path))
    receipts.remember(run.model_folder, run.model_hash, marks)


def check_rows(path: Path, arrays: Mapping[str, np.ndarray], indptr: str, values: str, limit: int) -> None:
    """Raise CorruptIndexError unless array ``indptr`` delimits rows of ``values``, int32 in 0 .. ``limit`` - 1."""
    for name, kind in ((indptr, np.int64), (values, np.int32)):
        if name not in arrays or arrays[name].dtype != kind or arrays[name].ndim != 1:
            raise _damaged(path, f"array {name} is missing or not {np.dtype(kind)} of one dimension")
    ends, held = arrays[indptr], arrays[values]
    if not len(ends) or ends[0] != 0 or ends[-1] != len(held) or bool((ends[1:] < ends[:-1]).any()):
        raise _damaged(path, f"{indptr} does not rise from 0 to {len(held)}, the length of {values}")
    if len(held) and not 0 <= held.min() <= held.max() < limit:
        raise _damaged(path, f"{values} holds {held.min()}..{held.max()}, expected 0..{limit - 1}")


def read_fill_order(path: Path, item_count: int) -> np.ndarray:
    """Read the order in which items fill an answer: every internal id once."""
    order = read_arrays(path).get("order", np.zeros(0))
    sound = order.shape == (item_count,) and order.dtype.kind in "iu"
    if not sound or not np.array_equal(np.sort(order), np.arange(item_count)):
        raise _damaged(path, f"order is not the numbers 0..{item_count - 1}, each once")
    return order


def read_item_words(path: Path, item_count: int, words: int) -> tuple[np.ndarray, np.ndarray]:
    """Read the words (0 .. ``words`` - 1) of every item as rows."""
    arrays = read_arrays(path)
    check_rows(path, arrays, "item_indptr", "item_words", words)
    if len(arrays["item_indptr"]) != item_count + 1:
        raise _damaged(path, f"it has words of {len(arrays['item_indptr']) - 1} items, expected {item_count}")
    return arrays["item_indptr"], arrays["item_words"]


def read_codes(path: Path, item_count: int, books: int | None = None, codewords: int = 1 << 16) -> Arrays:
    """Read the codes that training queries use, how often, and what followed them (see ``traffic``)."""
    arrays = read_arrays(path)
    codes, traffic = arrays.get("codes"), arrays.get("traffic")
    if codes is None or traffic is None or not len(codes):
        raise CorruptIndexError(f"{path} holds no codes; train the run again")
    if codes.ndim != 2 or codes.dtype != np.uint16 or books not in (None, codes.shape[1]):
        raise _damaged(path, f"codes are {codes.dtype} of shape {codes.shape}, uint16 (U, {books or 'M'}) expected")
    if codes.size and codes.max() >= codewords:
        raise _damaged(path, f"a code holds codeword {codes.max()}, the model has {codewords} a book")
    if traffic.shape != codes.shape[:1] or traffic.dtype != np.int64 or (len(traffic) and traffic.min() < 0):
        raise _damaged(path, "traffic is not one count a code")
    if "next_indptr" in arrays:
        check_rows(path, arrays, "next_indptr", "next_items", item_count)
        if len(arrays["next_indptr"]) != len(codes) + 1:
            raise _damaged(path, "next_indptr does not have one row a code")
        counts = arrays.get("next_counts", np.zeros(0))
        if counts.shape != arrays["next_items"].shape or counts.dtype != np.int32:
            raise _damaged(path, "next_counts is not one int32 a next item")
    return arrays


def check_finite(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Raise CorruptIndexError when an array of floats holds NaN or an infinity."""
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise _damaged(path, f"array {name} holds NaN or infinities")


def _damaged(path: Path, problem: str) -> CorruptIndexError:
    return CorruptIndexError(f"{path} is damaged: {problem}; {_REMEDY}")

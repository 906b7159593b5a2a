"""Items for training, for the choice of the epoch and for the test; which vectors are refused."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sparcode.errors import DataError
from sparcode.model.item_autoencoder_options import ItemAutoencoderOptions
from sparcode.seeding import generator


@dataclass(frozen=True)
class Parts:
    """Row numbers of the items that train, select the epoch, and are left out for the test."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_items(items: int, options: ItemAutoencoderOptions, seed: int, validation: bool = True) -> Parts:
    """Divide rows 0..items-1 at random by the shares; a share above zero gets at least one row."""
    order = generator(seed, "items of parts").permutation(items)
    counts = [math.ceil(items * share) for share in (options.test_share, options.validation_share * validation)]
    test, held, train = np.split(order, np.cumsum(counts))
    return Parts(np.sort(train), np.sort(held), np.sort(test))


def check_vectors(kind: str, vectors: np.ndarray, options: ItemAutoencoderOptions) -> None:
    """Raise DataError for vectors (n, d) that cannot be trained on, read in blocks."""
    if vectors.ndim != 2 or vectors.shape[1] < 1:
        raise DataError(f"{kind} needs a matrix of vectors (items, width), got shape {vectors.shape}")
    if len(vectors) < max(options.sizes):
        message = f"{len(vectors)} items for {max(options.sizes)} codewords; lower codebook_size"
        raise DataError(f"{kind}: fewer items than codewords: {message}")
    varies = False
    for start in range(0, len(vectors), 65_536):
        block = np.asarray(vectors[start : start + 65_536])
        if not np.isfinite(block).all():
            row = start + int(np.argmin(np.isfinite(block).all(1)))
            raise DataError(f"{kind}: the vector of row {row} holds NaN or infinity; repair or drop it")
        varies = varies or bool((block != vectors[0]).any())
    if not varies:
        raise DataError(f"{kind}: all {len(vectors)} vectors are equal; there is nothing to encode")


def check_validation(kind: str, validation: np.ndarray, width: int) -> None:
    """Raise DataError for held-out vectors that are not (m, width) finite numbers."""
    if validation.ndim != 2 or validation.shape[1] != width or len(validation) == 0:
        found = f"validation vectors of shape {validation.shape} found, (items, {width}) expected"
        raise DataError(f"{kind}: {found}, one item at least")
    if not np.isfinite(validation).all():
        raise DataError(f"{kind}: the validation vectors hold NaN or infinity; repair or drop such rows")

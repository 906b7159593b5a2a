"""Text of items as dense vectors: TF-IDF of words and word pairs, reduced by a truncated SVD.

Only fitting and transforming need scikit-learn; a saved encoder is opened without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparcode.errors import MissingExtraError

LONGEST = 2000
"""Characters of a document that are read."""

FEWEST_ROWS = 50
FEWEST_TERMS = 20
_MOST_TERMS = 50_000
# Of the largest singular value, and of a row's length (TF-IDF rows have length 1): below it is rounding, not content.
_NOISE = 1e-6


class TextEncoder:
    """A fitted encoding. Deterministic: the same texts give the same bytes, whatever the number of threads.

    ``terms``: T words and pairs of words. ``idf``: float64 (T,). ``components``: float32 (T, width).
    """

    def __init__(self, terms: Sequence[str], idf: np.ndarray, components: np.ndarray) -> None:
        self.terms = terms
        self.idf = idf
        self.components = components

    @property
    def width(self) -> int:
        """Columns of a vector."""
        return int(self.components.shape[1])

    @classmethod
    def fit(cls, texts: Sequence[str], width: int) -> TextEncoder | None:
        """Learn terms and directions from the texts that are not blank; None when they are too few.

        Too few: under 50 such texts, or under 20 terms that occur in two texts and not in more than half of them. The
        width is smaller than asked where the texts span fewer directions. Raises MissingExtraError without
        scikit-learn.
        """
        found = cls.fit_transform(texts, width)
        return None if found is None else found[0]

    @classmethod
    def fit_transform(cls, texts: Sequence[str], width: int) -> tuple[TextEncoder, np.ndarray] | None:
        """Return ``fit`` and, bit for bit, what ``transform`` makes of the same texts, which are read only once."""
        rows = _filled(texts)
        if len(rows) < FEWEST_ROWS:
            return None
        counter, weigher = _counter(), _weigher()
        try:
            counts = counter.fit_transform([texts[row] for row in rows])
        except ValueError:  # how scikit-learn says that no term is left
            return None
        if counts.shape[1] < FEWEST_TERMS:
            return None
        counts.sort_indices()  # the order in which transform adds them up
        weights = weigher.fit_transform(counts)
        encoder = cls(counter.get_feature_names_out().tolist(), weigher.idf_, _directions(weights, width))
        return encoder, encoder._vectors(len(texts), rows, weights)

    def transform(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 (rows, width) of length sqrt(width) / 4; zero where a text is blank or has no known term.

        Raises MissingExtraError without scikit-learn, unless all texts are blank.
        """
        rows = _filled(texts)
        if not rows:
            return np.zeros((len(texts), self.width), dtype=np.float32)
        counts = _counter(list(self.terms)).transform([texts[row] for row in rows])
        weigher = _weigher()
        weigher.idf_ = np.array(self.idf)
        return self._vectors(len(texts), rows, weigher.transform(counts))

    def _vectors(self, count: int, rows: list[int], weights: Any) -> np.ndarray:
        projected = weights @ self.components
        norms = np.sqrt(np.einsum("ij,ij->i", projected, projected))[:, None]
        scale = np.divide(np.sqrt(self.width) / 4, norms, out=np.zeros_like(norms), where=norms > _NOISE)
        result = np.zeros((count, self.width), dtype=np.float32)
        result[rows] = projected * scale
        return result

    def to_arrays(self) -> tuple[dict[str, np.ndarray], list[str]]:
        """Return the arrays ``idf`` and ``components``, and the terms, which are JSON-able."""
        return {"idf": self.idf, "components": self.components}, list(self.terms)

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], terms: Sequence[str]) -> TextEncoder:
        """Take what ``to_arrays`` returned; ``terms`` may be any sequence and is read when a text is transformed."""
        return cls(terms, arrays["idf"], arrays["components"])


@dataclass(frozen=True)
class ItemText:
    """How items' text became a vector feature: its name, whether titles are read, the other columns, the encoding."""

    name: str
    title: bool
    columns: list[str]
    encoder: TextEncoder


def _filled(texts: Sequence[str]) -> list[int]:
    return [row for row, text in enumerate(texts) if text.strip()]


def _counter(terms: list[str] | None = None) -> Any:
    """Return a counter of terms: of the given ones, else of those it will find."""
    try:
        from sklearn.feature_extraction.text import CountVectorizer
    except ImportError:
        purpose = "making vectors of the items' text (data.text_width=0 turns it off)"
        raise MissingExtraError("scikit-learn", "train", purpose) from None
    return CountVectorizer(
        ngram_range=(1, 2), min_df=2, max_df=0.5, max_features=_MOST_TERMS, stop_words="english", vocabulary=terms,
        dtype=np.float64,
    )  # fmt: skip


def _weigher() -> Any:
    # Apart from the counter (together they are a TfidfVectorizer), so that texts are read once.
    from sklearn.feature_extraction.text import TfidfTransformer

    return TfidfTransformer(sublinear_tf=True)


def _directions(weights: Any, width: int) -> np.ndarray:
    """Return float32 (T, <= width): right singular vectors of the TF-IDF matrix, largest first, without null ones."""
    from sklearn.decomposition import TruncatedSVD
    from threadpoolctl import threadpool_limits

    svd = TruncatedSVD(min(width, *weights.shape), random_state=0)
    # A BLAS with more threads may round sums differently: a run must not depend on the machine's cores.
    with threadpool_limits(1):
        svd.fit(weights)
    kept = int((svd.singular_values_ > _NOISE * svd.singular_values_[0]).sum())
    return np.ascontiguousarray(svd.components_[:kept].T, dtype=np.float32)

"""A tiny world whose right answers are computed the slow way, and every retriever built on it."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from sparcode.data.features import FeatureLayout, Features
from sparcode.index.layout import Family, Index
from sparcode.query.encoder.additive import AdditiveEncoder
from sparcode.query.pipeline import Pipeline, QuerySettings
from sparcode.query.rescore.rescorer import Rescorer
from sparcode.query.search.searcher import Searcher
from sparcode.retrievers.additive import additive
from sparcode.retrievers.blend import Blend, CountsPart, DensePart
from sparcode.retrievers.content_knn import ContentKnn
from sparcode.retrievers.counts import counts
from sparcode.retrievers.ease import ease
from sparcode.retrievers.exact import ExactRetriever
from sparcode.retrievers.hnsw import FaissHnsw, HnswlibHnsw
from sparcode.retrievers.item_knn import item_knn
from sparcode.retrievers.learned import AllToAllRetriever, SparcodeRetriever
from sparcode.retrievers.popular import popular
from sparcode.retrievers.ranking import check_request, rank_scores
from sparcode.retrievers.recent_popular import recent_popular
from sparcode.types import NO_ITEM, Hits, Queries, Retriever, Sequences

ITEMS = 12
# Items 2j and 2j + 1 share a vector; angles are marks of a Golomb ruler, so no other two items ever tie. Multiples
# of 1/64 make every dot product exact in float32, whatever order a BLAS adds in.
ANGLES = 0.15 * np.repeat([0, 1, 4, 10, 12, 17], 2)
VECTORS = (np.round(64 * np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])) / 64).astype(np.float32)

ROWS = [
    [0, 2, 4, 6, 0],
    [0, 2, 4, 8],
    [0, 1, 3, 5],
    [1, 3, 7],
    [0, 1, 2],
    [0, 9, 2, 9],
    [],
    [5],
]
TRAIN = Sequences(
    np.cumsum([0, *map(len, ROWS)]).astype(np.int64),
    np.array(sum(ROWS, []), np.int32),
    np.array([10 * place + row for row, items in enumerate(ROWS) for place in range(len(items))], np.float64),
)
# One row more for EASE: without it items 6 and 8 are interchangeable and only rounding would tell them apart.
EASE_ROWS = [*ROWS, [6, 3]]
EASE_TRAIN = Sequences(
    np.cumsum([0, *map(len, EASE_ROWS)]).astype(np.int64), np.array(sum(EASE_ROWS, []), np.int32), np.empty(0)
)
HISTORIES = [[], [3], [0, 1, 2], [5, 5, 3, 5], [11, 10], [*range(2, 12)], [*range(12)], [9, 0, 9, 4, 4, 2]]

EVIDENCE = 0.25
TRANSITIONS = {0: {2: 2.0, 4: 0.5, 1: 0.5}, 2: {4: 1.5, 0: 0.25}, 3: {5: 1.0}, 5: {3: 1.0, 7: 1.0}, 9: {2: 0.75}}

# Sources on one axis: the unit token is (1, 0), (-1, 0) or zero, exactly, whatever the age weights add up to.
SOURCES = np.column_stack([[2, -1, 0, 1, -2, 1, 3, -1, 0, 1, -1, 2], np.zeros(ITEMS)]).astype(np.float32)
AGE_WEIGHTS = np.array([1.0, 0.5, 0.25], np.float32)

# One number an item as its vector: products of one term are exact too. Items 7 and 10 have no content.
GENRES = [[0], [0, 1], [1, 2], [2], [0, 3], [3, 4], [1], [], [4, 2], [], [], [0, 1]]
GIVEN = [1.0, 0.0, -0.5, 2.0, 0.0, 1.0, 0.0, 0.0, -1.0, 3.0, 0.0, 0.0]


def queries_of(histories: list[list[int]]) -> Queries:
    """Return histories as a batch."""
    lengths = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    return Queries(lengths, np.array(sum(histories, []), np.int32))


class LastItemEncoder:
    """The token of a query is the vector of its last item."""

    has_books = False  # tokens without codes: the pipeline goes by stages

    def tokens(self, queries: Queries) -> np.ndarray:
        rows = [self.encode_one(queries.history(row)) for row in range(len(queries))]
        return np.array(rows, np.float32).reshape(len(queries), 1, 2)

    def has_tokens(self, queries: Queries) -> np.ndarray:
        return np.diff(queries.indptr) > 0

    def encode_one(self, history: np.ndarray, features: np.ndarray | None = None) -> np.ndarray:
        return VECTORS[history[-1]][None] if len(history) else np.zeros((1, 2), np.float32)


class PlantedPipeline:
    """Stands in for the index: the score of an item is its dot product with the last item, as all-to-all score."""

    def __init__(self) -> None:
        self.depths: list[int | None] = []

    def retrieve(self, queries: Queries, k: int, *, rescore: int | None = None, include_seen: bool = False) -> Hits:
        self.depths.append(rescore)
        return self.retrieve_exhaustive(queries, k, include_seen=include_seen)

    def retrieve_exhaustive(self, queries: Queries, k: int, *, include_seen: bool = False) -> Hits:
        check_request(queries, k, ITEMS)
        scores = np.array([dot_scores(list(queries.history(row))) for row in range(len(queries))], np.float32)
        block = scores.reshape(len(queries), ITEMS)
        return rank_scores(lambda start, stop: block[start:stop], queries, k, ITEMS, include_seen)


def dot_scores(history: list[int]) -> list[float]:
    """Reference of the dense retrievers."""
    if not history:
        return [-math.inf] * ITEMS
    return [float(np.dot(VECTORS[history[-1]], VECTORS[item])) for item in range(ITEMS)]


def popular_scores(history: list[int]) -> list[float]:
    """Reference of popular."""
    seen = Counter(int(item) for item in TRAIN.items)
    return [float(seen[item]) for item in range(ITEMS)]


def recent_scores(history: list[int]) -> list[float]:
    """Reference of recent-popular with a share of .3: the 8 latest of 24 events and those as late."""
    events = sorted(zip(TRAIN.times, TRAIN.items, strict=True), reverse=True)
    wanted = math.ceil(0.3 * len(events))
    recent = Counter(int(item) for time, item in events if time >= events[wanted - 1][0])
    return [float(recent[item]) if recent[item] else -math.inf for item in range(ITEMS)]


def knn_scores(history: list[int]) -> list[float]:
    """Reference of item-knn with 3 neighbours."""
    users = [{row for row, items in enumerate(ROWS) if item in items} for item in range(ITEMS)]
    sums: dict[int, float] = {}
    for item in set(history):
        near = []
        for other in range(ITEMS):
            if other != item and users[item] & users[other]:
                cosine = len(users[item] & users[other]) / math.sqrt(len(users[item]) * len(users[other]))
                near.append((-float(np.float32(cosine)), other))
        for score, other in sorted(near)[:3]:
            sums[other] = sums.get(other, 0.0) - score
    return [sums.get(item, -math.inf) for item in range(ITEMS)]


def count_scores(history: list[int]) -> list[float]:
    """Reference of counts with decay .5 over the last 4 events."""
    sums: dict[int, float] = {}
    for age, item in enumerate(reversed(history[-4:])):
        for target, value in TRANSITIONS.get(item, {}).items():
            sums[target] = sums.get(target, 0.0) + 0.5**age * value
    return [sums.get(item, -math.inf) for item in range(ITEMS)]


def ease_matrix(regularisation: Fraction) -> list[list[Fraction]]:
    """Return B of EASE in exact fractions: Gram matrix by counting, inverse by Gauss-Jordan."""
    users = [{row for row, items in enumerate(EASE_ROWS) if item in items} for item in range(ITEMS)]
    gram = [[Fraction(len(users[i] & users[j])) for j in range(ITEMS)] for i in range(ITEMS)]
    for i in range(ITEMS):
        gram[i][i] += regularisation
    inverse = [[Fraction(i == j) for j in range(ITEMS)] for i in range(ITEMS)]
    for pivot in range(ITEMS):
        for i in range(ITEMS):
            factor = gram[i][pivot] / gram[pivot][pivot]
            if i != pivot:
                gram[i] = [a - factor * b for a, b in zip(gram[i], gram[pivot], strict=True)]
                inverse[i] = [a - factor * b for a, b in zip(inverse[i], inverse[pivot], strict=True)]
    p = [[inverse[i][j] / gram[i][i] for j in range(ITEMS)] for i in range(ITEMS)]
    return [[-p[i][j] / p[j][j] if i != j else Fraction(0) for j in range(ITEMS)] for i in range(ITEMS)]


def ease_scores(history: list[int]) -> list[float]:
    """Reference of ease with lambda 1/2."""
    if not history:
        return [-math.inf] * ITEMS
    matrix = ease_matrix(Fraction(1, 2))
    return [float(sum(matrix[item][target] for item in set(history))) for target in range(ITEMS)]


def additive_encoder(temperature: float = 0.125) -> AdditiveEncoder:
    """Return the additive model of the world."""
    spec = {"temperature": temperature, "width": 2, "items": ITEMS, "history": len(AGE_WEIGHTS)}
    return AdditiveEncoder(spec, {"sources": SOURCES, "targets": VECTORS, "age_weights": AGE_WEIGHTS})


def additive_scores(history: list[int]) -> list[float]:
    """Reference of additive: cosine of the weighted sum of the last 3 sources and the target."""
    if not history:
        return [-math.inf] * ITEMS
    total = [0.0, 0.0]
    for age, item in enumerate(reversed(history[-3:])):
        total = [one + 0.5**age * float(x) for one, x in zip(total, SOURCES[item], strict=True)]
    length = math.hypot(*total) or 1.0
    return [sum(one / length * float(x) for one, x in zip(total, VECTORS[item], strict=True)) for item in range(ITEMS)]


def blend_scores(history: list[int], additive_weight: float = 0.0) -> list[float]:
    """Reference of the dense controls: temperatures 1/4 and 1/8, counts weigh 2."""
    dense = zip(dot_scores(history), count_scores(history), additive_scores(history), strict=True)
    return [4 * dot + 2 * max(count, 0.0) + additive_weight * 8 * cosine for dot, count, cosine in dense]


def blend(name: str, weights: list[float]) -> Blend:
    """Return the dense control with given weights."""
    parts = [
        DensePart(ExactRetriever(LastItemEncoder(), VECTORS), 0.25),
        CountsPart(*transition_lists(), decay=0.5, history=4),
        DensePart(additive(additive_encoder()), 0.125),
    ]
    return Blend(name, parts[: len(weights)], weights, ITEMS)


def content_features() -> Features:
    """Return GENRES and GIVEN as features, with a number that content-knn must not read."""
    layout = FeatureLayout([f"genre={word}" for word in range(5)], ["year"], np.zeros(1), np.ones(1), ["text"], [1])
    indptr = np.cumsum([0, *map(len, GENRES)]).astype(np.int64)
    given = np.array(GIVEN, np.float32)[:, None]
    return Features(layout, indptr, np.array(sum(GENRES, []), np.int32), np.ones((ITEMS, 1), np.float32), given)


def content_of(item: int) -> list[float]:
    """Return the unit content of an item: five genres weighted by rarity, and its given number."""
    rarity = [math.log(ITEMS / sum(word in genres for genres in GENRES)) for word in range(5)]
    words = scaled_to_one([rarity[word] if word in GENRES[item] else 0.0 for word in range(5)])
    return scaled_to_one(words + scaled_to_one([GIVEN[item]]))


def scaled_to_one(vector: list[float]) -> list[float]:
    """Return a vector of length 1, or zeros."""
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length if length else 0.0 for x in vector]


def content_scores(history: list[int]) -> list[float]:
    """Reference of content-knn with decay 1/2 over the last 3 events."""
    total = [0.0] * 6
    for age, item in enumerate(reversed(history[-3:])):
        total = [one + 0.5**age * x for one, x in zip(total, content_of(item), strict=True)]
    query = scaled_to_one(total)
    pairs = [sum(a * b for a, b in zip(query, content_of(item), strict=True)) for item in range(ITEMS)]
    return [score if any(query) and any(content_of(item)) else -math.inf for item, score in enumerate(pairs)]


def rescored_scores(history: list[int]) -> list[float]:
    """Reference of the index with rescoring: only items of the lists, by dot product and cached evidence."""
    pairs = zip(dot_scores(history), count_scores(history), strict=True)
    return [dot + EVIDENCE * 8 * count if count > -math.inf else -math.inf for dot, count in pairs]


def exhaustive_scores(history: list[int]) -> list[float]:
    """Reference of all-to-all on the index: every item by dot product and cached evidence."""
    pairs = zip(dot_scores(history), count_scores(history), strict=True)
    return [dot + EVIDENCE * 8 * max(count, 0.0) for dot, count in pairs]


def indexed_pipeline() -> Pipeline:
    """The real online path over TRANSITIONS as lists of the item family, query weights 8, 4, 2, 1."""
    indptr, items, values = transition_lists()
    order = np.concatenate([np.sort(items[a:b]) for a, b in itertools.pairwise(indptr)]).astype(np.uint32)
    by_item = [TRANSITIONS.get(row, {})[int(i)] for row in range(ITEMS) for i in order[indptr[row] : indptr[row + 1]]]
    postings = order << np.uint32(8) | (np.array(by_item) * 4).astype(np.uint32)
    family = Family("item", 0, ITEMS, 1.0)
    index = Index(indptr.astype(np.uint64), postings, ITEMS, 0.25, (family,), np.empty((0, 1), np.uint16))
    spec = {"kind": "dot", "hidden": 0, "layers": 1, "skip": True, "temperature": 1.0, "item_tokens": 1}
    spec |= {"width": 2, "items": ITEMS, "bias": 0.0, "activation": "none"}
    arrays = {"item_tokens": VECTORS[:, None], "item_bias": np.zeros(ITEMS, np.float32)}
    settings = QuerySettings(item_weights=(8, 4, 2, 1), evidence_weight=EVIDENCE)
    return Pipeline(LastItemEncoder(), Searcher(index), Rescorer(spec, arrays), settings)  # type: ignore[arg-type]


def transition_lists() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return TRANSITIONS as CSR arrays."""
    lists = [TRANSITIONS.get(item, {}) for item in range(ITEMS)]
    indptr = np.cumsum([0, *map(len, lists)])
    return indptr, np.array([i for one in lists for i in one]), np.array([v for one in lists for v in one.values()])


def named(retriever: AllToAllRetriever, name: str) -> AllToAllRetriever:
    """Give a retriever another name."""
    retriever.name = name
    return retriever


@dataclass(frozen=True)
class Case:
    """A retriever and the slow scores it must rank by (-inf: no evidence)."""

    build: Callable[[], Retriever]
    scores: Callable[[list[int]], list[float]]


CASES = {
    "popular": Case(lambda: popular(TRAIN, ITEMS), popular_scores),
    "recent-popular": Case(lambda: recent_popular(TRAIN, ITEMS, share=0.3), recent_scores),
    "item-knn": Case(lambda: item_knn(TRAIN, ITEMS, neighbours=3), knn_scores),
    "counts": Case(lambda: counts(*transition_lists(), decay=0.5, history=4), count_scores),
    "ease": Case(lambda: ease(EASE_TRAIN, ITEMS, regularisation=0.5), ease_scores),
    "content-knn": Case(lambda: ContentKnn(content_features(), history=3, decay=0.5), content_scores),
    "two-tower": Case(lambda: ExactRetriever(LastItemEncoder(), VECTORS), dot_scores),
    "additive": Case(lambda: additive(additive_encoder()), additive_scores),
    "two-tower+counts": Case(lambda: blend("two-tower+counts", [1, 2]), blend_scores),
    "two-tower+counts+additive": Case(
        lambda: blend("two-tower+counts+additive", [1, 2, 0.5]), lambda history: blend_scores(history, 0.5)
    ),
    "two-tower-faiss-hnsw": Case(lambda: FaissHnsw(LastItemEncoder(), VECTORS), dot_scores),
    "two-tower-hnswlib": Case(lambda: HnswlibHnsw(LastItemEncoder(), VECTORS), dot_scores),
    "sparcode": Case(lambda: SparcodeRetriever(PlantedPipeline(), rescore=100), dot_scores),
    "sparcode-cache": Case(lambda: SparcodeRetriever(PlantedPipeline(), rescore=0), dot_scores),
    "sparcode-cache-index": Case(
        lambda: SparcodeRetriever(indexed_pipeline(), rescore=0, name="sparcode-cache-index"),
        lambda history: [8 * score for score in count_scores(history)],
    ),
    "sparcode-index": Case(
        lambda: SparcodeRetriever(indexed_pipeline(), rescore=100, name="sparcode-index"), rescored_scores
    ),
    "all-to-all-index": Case(
        lambda: named(AllToAllRetriever(indexed_pipeline()), "all-to-all-index"), exhaustive_scores
    ),
    "all-to-all": Case(lambda: AllToAllRetriever(PlantedPipeline()), dot_scores),
}


def right_answer(case: Case, history: list[int], k: int, include_seen: bool) -> list[tuple[int, float]]:
    """Return (id, score) best first: scored items, then popular ones with score nan, then padding."""
    scores = case.scores(history)
    eligible = [item for item in range(ITEMS) if include_seen or item not in history]
    ranked = sorted((item for item in eligible if scores[item] > -math.inf), key=lambda item: (-scores[item], item))
    rest = [item for item in eligible if item not in ranked]
    row = [(item, scores[item]) for item in ranked] + [(item, math.nan) for item in rest]
    return (row + [(NO_ITEM, -math.inf)] * k)[:k]

"""Scores of (stored code, item) pairs, factorised over sub-books and fused, without ever forming N^M x n inputs.

The first layer of the Hadamard MLP is linear in the query token, and a decoded code is built from one codeword per
book (concatenated: product, summed: residual), so the hidden units of a pair are a sum of M partials:

    hidden(code, item) = bias + sum_m partial_m[codeword_m]        partial_m[word] = sqrt(d) sum_j W_j (word * c_j)

Partials of one item are computed once per codeword and reused by all codes that share the codeword. With one
hidden layer the rest is one pass over the hidden units: w relu(a + b) = w max(b, -a) + w a, where a belongs to all
books but the last and its second term is summed once per prefix. Concatenation: a is the item side and b the
query side of the code. The cosine term splits over books in the same way. What a mixture of logits adds to it is
not linear in the token and comes from decoded codes, see ``index.mixture``.

Every pair runs through the same instructions, so its score does not
depend on which other codes or items were scored with it: blocks and workers cannot change a byte.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from sparcode.build.score.dot import TILE_BYTES, TILE_ITEMS, collect_flat, collect_runs, dot_row, fill_angles, item_mean
from sparcode.build.score.kept import KeptPairs, scan
from sparcode.jit import contracted, reordered_without_nan
from sparcode.query.codes import decode
from sparcode.query.rescore.rescorer import Rescorer, dense

_DOT, _HADAMARD, _CONCATENATION = 0, 1, 2
SCAN_BYTES, CHUNK_BYTES = 1 << 20, 1 << 24
"""Scores made before they are filtered: what stays in cache, and for scorers whose calls are dear."""
CHUNK_ITEMS = 4096


class ListScorer(Protocol):
    """Whatever can fill posting lists: scores of codes against ranges of items."""

    item_count: int

    def plan(self, codes: np.ndarray) -> Any:
        """Prepare codes (C, M) uint16 for ``scores``."""
        ...

    def scores(self, plan: Any, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return S (stop - start, C) float32 of items ``start:stop``."""
        ...


class CodeScorer:
    """Scores codes of given codebooks against the items of a rescorer's model, before any bias or ReLU."""

    def __init__(self, rescorer: Rescorer, codebooks: np.ndarray, kind: str) -> None:
        """``codebooks``: (M, N, d/M) for kind "product", (M, N, d) for "residual"."""
        self.rescorer, self.kind = rescorer, kind
        self.codebooks = np.ascontiguousarray(codebooks, np.float32)
        self.item_count = rescorer.item_count
        self.form = {"hadamard": _HADAMARD, "concatenation": _CONCATENATION}.get(rescorer.kind, _DOT)
        self.weights = rescorer.weights._replace(items=rescorer.flat, perceptron=rescorer.perceptron)

    def plan(self, codes: np.ndarray) -> CodePlan:
        """Prepare a block of codes (C, M) for ``scores``; fastest when the codes are in ascending order."""
        return CodePlan(self, np.asarray(codes))

    def scores(self, plan: CodePlan, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Return S (stop - start, C) float32 of items ``start:stop`` and the codes of ``plan``.

        A trained-in bias is not added and no ReLU is applied.
        """
        stop = self.item_count if stop is None else min(stop, self.item_count)
        out = np.empty((max(stop - start, 0), len(plan.tables.slots)), np.float32)
        model = self.rescorer
        score_items(start, self.weights, plan.tables, model.width, self.form, out)
        if model.mixture is not None and plan.lanes is not None:
            model.mixture.add(plan.lanes, start, out)
        return out

    def collect(self, plan: CodePlan, start: int, stop: int, kept: KeptPairs) -> None:
        """Offer the scores of items ``start:stop`` to ``kept``: those of ``scores`` to the bit, made in cache."""
        model, books = self.rescorer, len(self.codebooks)
        if self.form != _DOT or model.mixture is not None:
            collect_scores(self, plan, start, stop, kept, CHUNK_BYTES if model.mixture else SCAN_BYTES)
        elif books == 1:
            for low in range(start, stop, CHUNK_ITEMS):
                collect_flat(self.weights, plan, low, min(low + CHUNK_ITEMS, stop), model.width, kept)
        else:
            size = max(1, min(TILE_ITEMS, TILE_BYTES // max(plan.tables.columns[0].nbytes, 1)))
            for low in range(start, stop, size):
                high = min(low + size, stop)
                pairs = (high - low) * len(plan.tables.slots)
                collect_runs(low, high, self.weights, plan.tables, model.width, kept.reserve(pairs))


def collect_scores(
    scorer: ListScorer, plan: Any, start: int, stop: int, kept: KeptPairs, chunk_bytes: int = CHUNK_BYTES
) -> None:
    """Offer the scores of items ``start:stop`` to ``kept``, some rows of items at a time; any scorer."""
    size = max(1, chunk_bytes // (4 * max(len(kept.buffers.raw_thresholds), 1)))
    for low in range(start, stop, size):
        scores = scorer.scores(plan, low, min(low + size, stop))
        scan(scores, low, kept.reserve(scores.size))


class CodeTables(NamedTuple):
    """The distinct codewords of C codes and for every code where its M codewords stand.

    ``words`` (K, D) with D padded by zeros and ``columns`` (D, K), ``ranges`` (M + 1,) the words of each book,
    ``depths`` (M,) the first item dimension each book multiplies, ``slots`` (C, M) int32, ``runs`` (R + 1,) bounds of
    runs of codes that differ only in the last book, ``adjacent`` (R,) whether their last words lie in a row,
    ``query_side`` (C, H) for concatenation.
    """

    words: np.ndarray
    columns: np.ndarray
    ranges: np.ndarray
    depths: np.ndarray
    slots: np.ndarray
    runs: np.ndarray
    adjacent: np.ndarray
    query_side: np.ndarray


class CodePlan:
    """A block of codes ready to be scored: ``tables``, and ``lanes``, the decoded codes for a mixture.

    With one book ``vectors`` (C, D), the word of each code, and ``longest``, the greatest length of a word.
    """

    def __init__(self, scorer: CodeScorer, codes: np.ndarray) -> None:
        books, network, mixture = scorer.codebooks, scorer.rescorer.perceptron, scorer.rescorer.mixture
        depth = books.shape[2]
        slots, ranges = np.zeros(codes.shape, np.int32), np.zeros(len(books) + 1, np.int64)
        depths = np.arange(len(books), dtype=np.int64) * (depth if scorer.kind == "product" else 0)
        parts = []
        for m in range(len(books)):
            used, inverse = np.unique(codes[:, m], return_inverse=True)
            part = np.zeros((len(used), _up(depth, 4)), np.float32)
            part[:, :depth] = books[m][used]
            slots[:, m] = inverse.reshape(-1) + ranges[m]
            ranges[m + 1] = ranges[m] + len(part)
            parts.append(part)
        words = np.concatenate(parts)
        inner = np.flatnonzero((slots[1:, :-1] != slots[:-1, :-1]).any(axis=1)) + 1
        runs = np.array([0, *inner, len(codes)] if len(codes) else [0], np.int64)
        if len(books) == 1:
            self.vectors = words[slots[:, 0]]
            self.longest = float(np.sqrt((words.astype(np.float64) ** 2).sum(axis=1).max(initial=0.0)))
        side = scorer.form == _CONCATENATION
        query_side = np.zeros((len(codes) if side else 0, network.first_bias.shape[0]), np.float32)
        if side:
            weight = np.ascontiguousarray(network.query_weight.T)
            project(decode(codes, books, scorer.kind), weight, query_side)
        adjacent = rows_in_order(slots[:, -1], runs)
        self.tables = CodeTables(
            words, np.ascontiguousarray(words.T), ranges, depths, slots, runs, adjacent, query_side
        )
        self.lanes = None if mixture is None else mixture.lanes(decode(codes, books, scorer.kind))


def rows_in_order(last: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Return (R,) bool: whether ``last`` (C,) rises by one at every step within a run; ``runs`` (R + 1,) bounds."""
    breaks = np.concatenate([[0], np.cumsum(np.diff(last) != 1)]) if len(last) else np.zeros(1, np.int64)
    return np.asarray(breaks[runs[1:] - 1] == breaks[runs[:-1]])


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


@reordered_without_nan
def score_items(start, weights, codes, width, form, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (I, C) with the scores of items ``start ..`` one item at a time.

    ``weights``: ScorerWeights of float32 items, ``codes``: CodeTables, ``width``: d.
    """
    flat, network, words, depths = weights.items, weights.perceptron, codes.words, codes.depths
    units = network.first_bias.shape[0]
    folded = np.zeros((width + words.shape[1], units), np.float32)  # rows behind d stay 0: padding of the last book
    partials = np.empty((words.shape[0], units if form == _HADAMARD else 0), np.float32)
    mean = np.zeros(width + words.shape[1], np.float32)
    angles = np.empty(words.shape[0], np.float32)
    side = np.empty(units, np.float32)
    for row in range(out.shape[0]):
        item = start + row
        item_mean(flat[item], weights.cosine, width, mean)
        fill_angles(codes.columns, codes.ranges, depths, mean, angles)
        base = weights.item_bias[item] + network.out_bias
        if form == _HADAMARD:
            fold_item(flat[item], network.item_weight, width, folded)
            for m in range(depths.shape[0]):
                low, high, depth = codes.ranges[m], codes.ranges[m + 1], depths[m]
                multiply(words[low:high], folded[depth : depth + words.shape[1]], partials[low:high])
            if network.middle.shape[0]:
                deep_hadamard(codes.slots, partials, angles, base, network, out[row])
            else:
                fused_hadamard(codes, partials, angles, base, network, out[row])
        elif form == _CONCATENATION:
            dense(flat[item], network.item_weight, network.first_bias, side)
            fused_concatenation(codes, angles, base, side, network, out[row])
        else:
            dot_row(codes, angles, base, out[row])


@contracted
def fold_item(item: np.ndarray, weight: np.ndarray, width: int, folded: np.ndarray) -> None:
    """folded (d, H) = sum_j weight[j d + e, h] * item[j d + e]: the first layer, ready to be multiplied by words."""
    units = weight.shape[1]
    for e in range(width):
        for h in range(units):
            folded[e, h] = weight[e, h] * item[e]
        for row in range(e + width, item.shape[0], width):
            for h in range(units):
                folded[e, h] += weight[row, h] * item[row]


@contracted
def multiply(words: np.ndarray, folded: np.ndarray, out: np.ndarray) -> None:
    """out (K, H) = words (K, D) @ folded (D, H); D a multiple of 4."""
    for k in range(words.shape[0]):
        row = out[k]
        for h in range(folded.shape[1]):
            row[h] = 0.0
        for e in range(0, words.shape[1], 4):
            f0, f1, f2, f3 = folded[e], folded[e + 1], folded[e + 2], folded[e + 3]
            w0, w1, w2, w3 = words[k, e], words[k, e + 1], words[k, e + 2], words[k, e + 3]
            for h in range(folded.shape[1]):
                # One product a statement, see ``encoder.math.add_product``: bytes must not depend on addresses.
                total = row[h] + w0 * f0[h]
                total += w1 * f1[h]
                total += w2 * f2[h]
                row[h] = total + w3 * f3[h]


@contracted
def project(vectors: np.ndarray, weight: np.ndarray, out: np.ndarray) -> None:
    """out (C, H) += vectors (C, d) @ weight (d, H), in one order per entry."""
    for c in range(vectors.shape[0]):
        for e in range(vectors.shape[1]):
            for h in range(weight.shape[1]):
                out[c, h] += vectors[c, e] * weight[e, h]


@reordered_without_nan
def angle_of(slots, angles):  # type: ignore[no-untyped-def]
    """Return the cosine term of one code: the sum over its codewords."""
    total = np.float32(0.0)
    for m in range(slots.shape[0]):
        total += angles[slots[m]]
    return total


@reordered_without_nan
def fused_hadamard(codes, partials, angles, base, network, out):  # type: ignore[no-untyped-def]
    """One hidden layer: out (C,) from partials (K, H); see the module's formula. ``network``: Perceptron."""
    slots, runs, first_bias, out_weight = codes.slots, codes.runs, network.first_bias, network.out_weight
    negative = np.empty(first_bias.shape[0], np.float32)
    last = slots[:, slots.shape[1] - 1]
    for run in range(runs.shape[0] - 1):
        first, end = runs[run], runs[run + 1] - 1
        known = base + start_prefix(slots[first], partials, angles, first_bias, out_weight, negative)
        # Four codes share each load of weights and prefix. A short group repeats its last code rather than take
        # another path, so that the value of a pair does not depend on its neighbours.
        for c in range(first, end + 1, 4):
            c1, c2, c3 = min(c + 1, end), min(c + 2, end), min(c + 3, end)
            k0, k1, k2, k3 = last[c], last[c1], last[c2], last[c3]
            s0, s1, s2, s3 = four_sums(partials[k0], partials[k1], partials[k2], partials[k3], negative, out_weight)
            out[c3] = known + s3 + angles[k3]
            out[c2] = known + s2 + angles[k2]
            out[c1] = known + s1 + angles[k1]
            out[c] = known + s0 + angles[k0]


@reordered_without_nan
def four_sums(p0, p1, p2, p3, negative, weight):  # type: ignore[no-untyped-def]
    """Return sum_h weight_h max(negative_h, p_h) for four rows p (H,)."""
    s0 = s1 = s2 = s3 = np.float32(0.0)
    for h in range(weight.shape[0]):
        w, n = weight[h], negative[h]
        s0 += w * max(n, p0[h])
        s1 += w * max(n, p1[h])
        s2 += w * max(n, p2[h])
        s3 += w * max(n, p3[h])
    return s0, s1, s2, s3


@reordered_without_nan
def start_prefix(slots, partials, angles, first_bias, out_weight, negative):  # type: ignore[no-untyped-def]
    """Fill ``negative`` (H,) with -a, a = hidden units of all books but the last; return their part of the score."""
    for h in range(negative.shape[0]):
        negative[h] = -first_bias[h]
    total = np.float32(0.0)
    for m in range(slots.shape[0] - 1):
        part = partials[slots[m]]
        total += angles[slots[m]]
        for h in range(negative.shape[0]):
            negative[h] -= part[h]
    for h in range(negative.shape[0]):
        total -= out_weight[h] * negative[h]
    return total


@reordered_without_nan
def fused_concatenation(codes, angles, base, side, network, out):  # type: ignore[no-untyped-def]
    """Concatenation: the codes' sides (C, H) meet the item's (H,); further layers one pair at a time."""
    slots, query_side, middle, out_weight = codes.slots, codes.query_side, network.middle, network.out_weight
    hidden = np.empty(side.shape[0], np.float32)
    linear = np.float32(0.0)
    for h in range(side.shape[0]):
        hidden[h] = -side[h]
    for h in range(side.shape[0]):
        linear += out_weight[h] * side[h]
    for c in range(slots.shape[0]):
        part = query_side[c]
        total = np.float32(0.0)
        if middle.shape[0] == 0:
            for h in range(side.shape[0]):
                total += out_weight[h] * max(hidden[h], part[h])
            total += linear
        else:
            for h in range(side.shape[0]):
                hidden[h] = part[h] + side[h]
            total = deep_layers(hidden, network)
        out[c] = base + total + angle_of(slots[c], angles)


@reordered_without_nan
def deep_hadamard(slots, partials, angles, base, network, out):  # type: ignore[no-untyped-def]
    """Two or more hidden layers: the first from partials, the others one pair at a time."""
    first_bias = network.first_bias
    hidden = np.empty(first_bias.shape[0], np.float32)
    for c in range(slots.shape[0]):
        for h in range(hidden.shape[0]):
            hidden[h] = first_bias[h]
        for m in range(slots.shape[1]):
            part = partials[slots[c, m]]
            for h in range(hidden.shape[0]):
                hidden[h] += part[h]
        out[c] = base + deep_layers(hidden, network) + angle_of(slots[c], angles)


@reordered_without_nan
def deep_layers(hidden, network):  # type: ignore[no-untyped-def]
    """Run hidden units (H,) before their ReLU through the remaining layers; changes ``hidden``."""
    middle, middle_bias, out_weight = network.middle, network.middle_bias, network.out_weight
    after = np.empty(hidden.shape[0], np.float32)
    for layer in range(middle.shape[0]):
        for h in range(hidden.shape[0]):
            hidden[h] = max(hidden[h], np.float32(0.0))
        dense(hidden, middle[layer], middle_bias[layer], after)
        hidden[:] = after
    total = np.float32(0.0)
    for h in range(hidden.shape[0]):
        total += out_weight[h] * max(hidden[h], np.float32(0.0))
    return total

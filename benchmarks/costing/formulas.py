"""What building, storing and retrieving cost, as counts: bytes, postings, multiplications.

Letters as in ARCHITECTURE.md, and: p = P / rows, mean postings of a list; H hidden units; W codewords in use, all books
together; m links of a graph; L levels of a semantic ID, N codewords a level, b beams, D decoder layers, w its width,
f its inner width, T context positions. A *product* is one multiplication with its addition. Counts are exact where
nothing else is said; tests/benchmarks/test_costs.py holds them against files, counters and small worlds.
"""

from __future__ import annotations

from dataclasses import dataclass


def cache_bytes(rows: int, postings: int, codes: int = 0, books: int = 0, fallback: int = 0) -> int:
    """Bytes of the arrays of an index: offsets, postings, code table, table of all N^M codes (0: there is none)."""
    return 8 * (rows + 1) + 4 * postings + 2 * codes * books + 4 * fallback


def rescoring_bytes(items: int, width: int, item_tokens: int = 1, hidden: int = 0) -> int:
    """Bytes of item tokens and biases and, with ``hidden`` > 0, of a one-layer Hadamard perceptron."""
    flat = item_tokens * width
    perceptron = hidden * flat + 2 * hidden + 1 if hidden else 0
    return 4 * (items * flat + items + perceptron)


def exact_bytes(items: int, width: int) -> int:
    """Bytes of n vectors of d floats."""
    return 4 * items * width


def hnsw_bytes(items: int, width: int, links: int) -> float:
    """Expected bytes of a serialised faiss graph: vectors, 2m + m / (m - 1) links of 4 bytes, offset and level an item.

    An item stands on level l or above with probability m^-l, and has m links on each level above the lowest.
    """
    return items * (4 * width + 4 * (2 * links + links / (links - 1)) + 12)


def semantic_id_bytes(items: int, decoder: Decoder) -> int:
    """Bytes of the items' codes (2 each), codeword vectors, output matrices and decoder weights (4 each)."""
    per_layer = 6 * decoder.width**2 + 2 * decoder.width * decoder.inner
    tables = 2 * decoder.levels * decoder.codewords * decoder.width
    return 2 * items * decoder.levels + 4 * (tables + decoder.layers * per_layer)


def postings_read(tokens: int, mean_list: float) -> float:
    """Mean postings a query reads: K_u p (exactly: the lengths of its lists, added up)."""
    return tokens * mean_list


def items_touched(items: int, tokens: int, mean_list: float) -> float:
    """Expected number of different items in K_u lists drawn independently and uniformly; real lists overlap more."""
    return items * (1 - (1 - mean_list / items) ** tokens)


def encoding_products(tokens: int, width: int, books: int, codewords: int) -> int:
    """Products of finding the nearest of M N codewords for K_u tokens, product quantization: K_u N d."""
    return tokens * books * codewords * (width // books)


def rescoring_products(candidates: int, tokens: int, width: int, item_tokens: int = 1, hidden: int = 0) -> int:
    """Products of the exact score of R candidates: a dot product each, and H units of a Hadamard perceptron.

    The perceptron folds every token into its first layer once (K_c d H), then costs K_c d H + H a candidate.
    """
    flat = item_tokens * width
    folded = flat * hidden
    return tokens * (folded + candidates * (flat + (folded + hidden if hidden else 0)))


def scoring_products(items: int, codes: int, words: int, depth: int, width: int, item_tokens: int, hidden: int) -> int:
    """Products of the offline job, Hadamard perceptron with one hidden layer: n (K_c d H + W depth H + C H).

    ``depth``: d / M for product, d for residual quantization. Folding an item, partial sums of its W codewords, then
    one comparison and one product for each hidden unit of each pair.
    """
    return items * hidden * (item_tokens * width + words * depth + codes)


def naive_scoring_products(items: int, codes: int, width: int, item_tokens: int, hidden: int) -> int:
    """The same without factorising: every pair forms K_c d products and multiplies them with the first layer."""
    return items * codes * (item_tokens * width * (1 + hidden) + hidden)


def exact_products(items: int, width: int) -> int:
    """Products of a scan: n d."""
    return items * width


@dataclass(frozen=True)
class Decoder:
    """Sizes of a semantic-ID decoder: L levels of N codewords, D layers of width w (inner f), T context positions."""

    levels: int = 4
    codewords: int = 256
    layers: int = 4
    width: int = 128
    inner: int = 512
    context: int = 20

    def step_products(self, position: int) -> int:
        """Products of one layer for one beam at a position 1 .. L, keys and values of the past cached.

        Four projections of self-attention, two of cross-attention, the inner layer, and attention itself.
        """
        return 6 * self.width**2 + 2 * self.width * self.inner + 2 * self.width * (position + self.context)


def beams_at(decoder: Decoder, beams: int) -> list[int]:
    """Beams that enter each level: 1 at the first, then at most b and at most what there is."""
    entering = [1]
    for _ in range(decoder.levels - 1):
        entering.append(min(beams, entering[-1] * decoder.codewords))
    return entering


def logit_products(decoder: Decoder, beams: int) -> int:
    """Products of the output layer over a whole beam search: about L b N w, the least any decoder has to do."""
    return sum(beams_at(decoder, beams)) * decoder.width * decoder.codewords


def layer_products(decoder: Decoder, beams: int) -> int:
    """Products of the decoder layers over a whole beam search (the encoder of the history comes on top)."""
    entering = beams_at(decoder, beams)
    return decoder.layers * sum(b * decoder.step_products(at + 1) for at, b in enumerate(entering))


def decoding_products(decoder: Decoder, beams: int) -> int:
    """All products of a beam search."""
    return logit_products(decoder, beams) + layer_products(decoder, beams)


def quantizing_products(items: int, width: int, levels: int, codewords: int, passes: int) -> int:
    """Products of making semantic IDs by residual k-means: L N n d a pass (training the decoder comes on top)."""
    return passes * levels * codewords * items * width

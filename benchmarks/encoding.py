"""What does encoding cost, stage by stage: a history to tokens, tokens to codes?

Random weights and a planted, clustered token space, d = 64; one thread, everything of a row interleaved call by call in
one process. Rows:

* ``tokens``: every tokenizer, histories of 8 and 50 events: a whole encoding, one more click on a state (the window is
  not full), and a state's tokens;
* ``quantize``: 8 tokens, M = 2, N = 256: the kernel alone (a loop inside compiled code), the call from Python, and the
  same matrix products by numpy's BLAS, without and with finding the smallest;
* ``flat``: the P nearest of N codewords for 1 and 8 tokens, beside BLAS products and numpy's partial sort.

Every answer is compared with a plain one first.

    python benchmarks/encoding.py [--repeats 2000] [--out benchmarks/results/encoding.json]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from shared import ROOT, Results, Row, table

from sparcode.eval.latency import collector_off
from sparcode.eval.machine import one_thread
from sparcode.model.tokenizers.arrays import tokenizer_shapes
from sparcode.query.encoder.codes import nearest_codes
from sparcode.query.encoder.encoder import Encoder

WIDTH, ITEMS, HISTORY = 64, 10_000, 50
TOKENIZERS = (
    ("sasrec", 1, 1), ("sasrec", 1, 8), ("sasrec", 2, 1), ("gru4rec", 1, 1), ("dnn", 1, 1), ("self-attentive", 1, 4),
    ("capsule", 1, 4),
)  # fmt: skip
"""kind, blocks, K_u"""
INNER = 50
"""Kernel calls inside one compiled call."""


@one_thread()
def main(arguments: list[str] | None = None) -> Results:
    """Measure all rows, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000, help="timed calls of each action")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "encoding.json")
    parser.add_argument("--codewords", type=int, nargs="+", default=[512, 4096, 8192], help="N of the flat rows")
    given = parser.parse_args(arguments)
    results = Results(given.out, (__doc__ or "").splitlines()[0], rendered)
    for kind, blocks, heads in TOKENIZERS:
        for length in (8, HISTORY):
            setting = {"kind": kind, "blocks": blocks, "heads": heads, "length": length}
            config = {"row": "tokens", **setting, "repeats": given.repeats}
            results.cell(config, lambda own=setting: tokens_of(**own, repeats=given.repeats))
    results.cell({"row": "quantize", "repeats": given.repeats}, lambda: quantize(given.repeats))
    for words in given.codewords:
        for tokens in (1, 8):
            for probes in (1, 4, 16):
                repeats = max(3, given.repeats // 4)
                config = {"row": "flat", "words": words, "tokens": tokens, "probes": probes, "repeats": repeats}
                results.cell(config, lambda w=words, t=tokens, p=probes, r=repeats: flat(w, t, p, r))
    results.show()
    return results


def tokens_of(kind: str, blocks: int, heads: int, length: int, repeats: int) -> Row:
    """Time one history of ``length`` events; the click is the last of them."""
    encoder = random_encoder(heads, plain_books(np.random.default_rng(1), 2, 256), kind, blocks)
    histories = np.random.default_rng(2).integers(0, ITEMS, (64, length)).astype(np.int32)
    states = [encoder.start(history[:-1]) for history in histories]
    ended = [encoder.start(history) for history in histories]
    for history, state in zip(histories, states, strict=True):
        clicked = encoder.tokens_of(encoder.append(state, int(history[-1])))
        np.testing.assert_array_equal(clicked, encoder.encode_one(history))
    return timed(
        {
            "encode": lambda i: encoder.encode_one(histories[i % 64]),
            "append": lambda i: encoder.append(states[i % 64], int(histories[i % 64, -1])),
            "tokens of state": lambda i: encoder.tokens_of(ended[i % 64]),
        },
        repeats,
    )


def quantize(repeats: int) -> Row:
    """Time 8 tokens against two books of 256."""
    rng = np.random.default_rng(3)
    books = plain_books(rng, 2, 256)
    encoder, tokens = random_encoder(8, books), clustered(rng, 8)[None]
    half = WIDTH // 2
    parts = [np.ascontiguousarray(tokens[0, :, m * half : (m + 1) * half]) for m in range(2)]
    turned = [np.ascontiguousarray(book.T) for book in books]
    norms = [np.square(book).sum(1) / 2 for book in books]
    products = np.empty((8, 256), np.float32)
    codes, distances = np.empty((1, 8, 1, 2), np.uint16), np.empty((1, 8, 1), np.float32)

    def blas(_: int) -> None:
        for part, book in zip(parts, turned, strict=True):
            np.matmul(part, book, out=products)

    def blas_nearest(_: int = 0) -> list[np.ndarray]:
        found = []
        for part, book, norm in zip(parts, turned, norms, strict=True):
            np.matmul(part, book, out=products)
            found.append((norm - products).argmin(1))
        return found

    np.testing.assert_array_equal(encoder.codes(tokens)[0][0, :, 0].T, blas_nearest())
    rows = timed(
        {
            "kernel": lambda _: many_codes(tokens, encoder.books, codes, distances, INNER),
            "call": lambda _: encoder.codes(tokens),
            "sgemm": blas,
            "sgemm and argmin": blas_nearest,
        },
        repeats,
    )
    rows["kernel"] = {name: round(value / INNER, 3) for name, value in rows["kernel"].items()}
    return rows


def flat(words: int, tokens: int, probes: int, repeats: int) -> Row:
    """Time the P nearest of a flat book."""
    rng = np.random.default_rng(4)
    books = clustered(rng, 4 * words).reshape(1, words, 4, WIDTH).mean(2)
    encoder = random_encoder(tokens, books)
    pool = clustered(rng, 32 * tokens).reshape(32, 1, tokens, WIDTH)
    turned, norms = np.ascontiguousarray(books[0].T), np.square(books[0]).sum(1) / 2
    products = np.empty((tokens, words), np.float32)

    def blas(i: int) -> np.ndarray:
        np.matmul(pool[i % 32, 0], turned, out=products)
        return products

    def blas_nearest(i: int) -> np.ndarray:
        values = norms - blas(i)
        best = np.argpartition(values, probes - 1, axis=1)[:, :probes]
        return np.take_along_axis(best, np.take_along_axis(values, best, 1).argsort(1), 1)

    same = [(encoder.codes(pool[i], probes)[0][0, :, :, 0] == blas_nearest(i)).mean() for i in range(32)]
    assert np.mean(same) > 0.999, "codes differ by more than rounding"
    return timed(
        {"call": lambda i: encoder.codes(pool[i % 32], probes), "sgemm": blas, "sgemm and argpartition": blas_nearest},
        repeats,
    )


def timed(actions: dict[str, Callable[[int], Any]], repeats: int) -> Row:
    """Return p50 and p95 of each action in microseconds; actions take turns, and the one that begins changes."""
    names, times = list(actions), np.zeros((len(actions), repeats))
    for action in actions.values():
        for i in range(min(repeats, 64)):
            action(i)
    with collector_off():
        for i in range(repeats):
            for turn in range(len(names)):
                place = (turn + i) % len(names)
                started = time.perf_counter_ns()
                actions[names[place]](i)
                times[place, i] = (time.perf_counter_ns() - started) / 1e3
    low, high = np.percentile(times, [50, 95], axis=1)
    return {name: {"p50": round(low[i], 3), "p95": round(high[i], 3)} for i, name in enumerate(names)}


@njit(nogil=True)
def many_codes(tokens, books, codes, distances, count):  # type: ignore[no-untyped-def]
    """Quantise ``count`` times in one call."""
    for _ in range(count):
        nearest_codes(tokens, books, codes, distances)


def random_encoder(heads: int, books: np.ndarray, kind: str = "sasrec", blocks: int = 1) -> Encoder:
    """Return an encoder, two attention heads, with random weights and product codebooks."""
    own = {
        "kind": kind, "width": WIDTH, "heads": heads, "history": HISTORY, "feature_width": 0, "blocks": blocks,
        "attention_heads": 2, "epsilon": 1e-5, "iterations": 3,
    }  # fmt: skip
    rng = np.random.default_rng(0)
    arrays = {f"tokenizer.{name}": rng.normal(size=shape) / 8 for name, shape in tokenizer_shapes(own).items()}
    arrays |= {"item_vectors": rng.normal(size=(ITEMS, WIDTH)) / 8, "codebooks": books}
    quantizer = {"kind": "product", "books": len(books), "codewords": books.shape[1]}
    stored = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return Encoder({"tokenizer": own, "items": ITEMS, "quantizer": quantizer}, stored)


def plain_books(rng: np.random.Generator, count: int, words: int) -> np.ndarray:
    """Return product codebooks (M, N, d/M): parts of tokens."""
    return clustered(rng, words).reshape(words, count, WIDTH // count).transpose(1, 0, 2).copy()


def clustered(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return unit tokens (X, d) around 200 centres, most of their length in few directions, as trained ones have."""
    spread = np.geomspace(1, 0.05, WIDTH)
    centres = np.random.default_rng(5).normal(size=(200, WIDTH))
    tokens = (centres[rng.integers(0, 200, count)] + 0.4 * rng.normal(size=(count, WIDTH))) * spread
    return (tokens / np.linalg.norm(tokens, axis=1, keepdims=True)).astype(np.float32)


def rendered(rows: list[Row]) -> str:
    """Return one table: a line for every action of every row."""
    body = []
    for row in rows:
        setting = ", ".join(f"{key} {value}" for key, value in row["config"].items() if key not in ("row", "repeats"))
        for name, value in row.items():
            if isinstance(value, dict) and "p50" in value:
                body.append([row["config"]["row"], setting, name, f"{value['p50']:.2f}", f"{value['p95']:.2f}"])
    return table(["row", "setting", "action", "p50 us", "p95 us"], body)


if __name__ == "__main__":
    main()

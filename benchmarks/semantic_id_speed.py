"""How fast do the quantizers of semantic IDs fit and encode, beside faiss, on one core and in one process?

Vectors: a mixture of 1000 Gaussians in d dimensions whose variances fall as 1 / rank, turned at random.
Seconds are processor seconds of one thread. Rows:

* RQ-KMeans 4 x 256, greedy and with a beam of 5, beside ``faiss.ResidualQuantizer`` of the same beam: seconds to fit on
  all vectors and to encode all of them, mean squared error of the decoded vectors. With a beam our books are refined
  together for the codes of the beam. Encoding is repeated, ours and theirs in turn; the median counts.
* Share of the GEMM rate: the multiplications of residual encoding, 2 n d (sum of N), per second, over what one large
  float32 product of the same shape reaches in between.
* PQ, d = 64, 4 x 256: vectors a second, ours and faiss's with the same books; how many digits differ.
* One book of 32,768 words: vectors a second, and the growth of peak memory.
* OPQ, FSQ, LSH, hierarchical k-means: seconds to fit and vectors a second, in their default forms.

    python benchmarks/semantic_id_speed.py [--rows 1000000] [--width 128] [--repeats 3] [--beams 1,5]
                                            [--only rq,pq,vq,others] [--out FILE]
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from shared import ROOT, Results, Row, notes, table

from sparcode.eval.machine import one_thread
from sparcode.quantize import exact, product, residual
from sparcode.quantize.beam import stack_of
from sparcode.seeding import generator
from sparcode.semantic_id.codec import FITTERS, FitContext

PARTS = ("vq", "pq", "rq", "others")
SIZES = [256] * 4
REFINE = 3
QUESTION = "How fast do the quantizers of semantic IDs fit and encode, beside faiss, on one core?"
HEADER = ["what", "vectors", "fit s", "encode s", "vectors/s", "mean squared error", "share of GEMM rate"]


def world(rows: int, width: int, seed: int = 0) -> np.ndarray:
    """Return (rows, width) float32 vectors of the mixture."""
    random, fixed = generator(seed, "rows"), generator(0, "mixture", width)
    centres = fixed.standard_normal((1000, width), dtype=np.float32)
    turn = np.linalg.qr(fixed.standard_normal((width, width)))[0].astype(np.float32)
    turn *= (np.arange(1, width + 1, dtype=np.float32) ** -0.5)[:, None]
    out = np.empty((rows, width), np.float32)
    for low in range(0, rows, 65536):
        count = min(65536, rows - low)
        noise = np.float32(0.7) * random.standard_normal((count, width), dtype=np.float32)
        out[low : low + count] = (centres[random.integers(0, 1000, count)] + noise) @ turn
    return out


def seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds ``action`` computed and what it gave.

    Everything runs on one thread, so that on an idle machine this is the time on the clock; on a busy one it leaves
    out what neighbours took.
    """
    start = time.process_time()
    given = action()
    return time.process_time() - start, given


def mean_error(vectors: np.ndarray, decode: Callable[[int, int], np.ndarray]) -> float:
    """Return the mean of |x - decoded|^2, in blocks of rows."""
    total = 0.0
    for low in range(0, len(vectors), 65536):
        part = vectors[low : low + 65536]
        total += float(np.square(part - decode(low, low + len(part)), dtype=np.float64).sum())
    return total / len(vectors)


def gemm_rate(vectors: np.ndarray, words: np.ndarray) -> float:
    """Return float32 operations a second of products of 4096 rows with all words; the best of five."""
    rows, turned = vectors[:4096], words.T
    best = min(seconds(lambda: rows @ turned)[0] for _ in range(5))
    return 2.0 * len(rows) * words.size / best


def residual_row(rows: int, width: int, beam: int, repeats: int) -> Row:
    """Measure RQ-KMeans and faiss with one beam."""
    import faiss

    vectors = world(rows, width)
    refine = REFINE if beam > 1 else 0
    residual.encode(vectors[:64], residual.fit(vectors[:2048], SIZES, seed=1, beam=beam, refine=1, iterations=5), beam)
    fit_ours, books = seconds(lambda: residual.fit(vectors, SIZES, seed=0, beam=beam, refine=refine))
    peer = faiss.ResidualQuantizer(width, len(SIZES), 8)
    peer.max_beam_size = beam
    fit_theirs, _ = seconds(lambda: peer.train(vectors))
    ours, theirs, rates = [], [], []
    stack = stack_of(books)
    for _ in range(repeats):
        rates.append(gemm_rate(vectors, stack.words))
        taken, codes = seconds(lambda: residual.encode(vectors, stack, beam))
        ours.append(taken)
        taken, packed = seconds(lambda: peer.compute_codes(vectors))
        theirs.append(taken)
    work = 2.0 * rows * stack.words.size
    return {
        "fit": fit_ours, "encode": float(np.median(ours)), "encodes": ours,
        "error": mean_error(vectors, lambda low, high: residual.decode(codes[low:high], books)),
        "gemm_gflops": float(np.median(rates)) / 1e9, "gemm_share": work / float(np.median(ours)) / np.median(rates),
        "peer_fit": fit_theirs, "peer_encode": float(np.median(theirs)), "peer_encodes": theirs,
        "peer_error": mean_error(vectors, lambda low, high: peer.decode(packed[low:high])),
    }  # fmt: skip


def product_row(rows: int, repeats: int) -> Row:
    """Measure PQ of 64 dimensions with our books in both."""
    import faiss

    vectors = world(rows, 64)
    fit_ours, books = seconds(lambda: product.fit_books(vectors[:65536], SIZES, 0))
    peer = faiss.ProductQuantizer(64, 4, 8)
    faiss.copy_array_to_vector(np.concatenate([book.ravel() for book in books]), peer.centroids)
    ours, theirs = [], []
    for _ in range(repeats):
        taken, codes = seconds(lambda: product.encode(vectors, books))
        ours.append(taken)
        taken, packed = seconds(lambda: peer.compute_codes(vectors))
        theirs.append(taken)
    return {
        "fit": fit_ours, "encode": float(np.median(ours)), "peer_encode": float(np.median(theirs)),
        "digits_that_differ": int((codes != packed).sum()),
        "error": mean_error(vectors, lambda low, high: product.decode(codes[low:high], books)),
    }  # fmt: skip


def wide_row(rows: int, width: int, words: int) -> Row:
    """Measure the search of one large book."""
    vectors = world(rows, width)
    book, assignment = vectors[:words].copy(), np.empty(rows, np.int32)
    exact.nearest(vectors[:64], book, assignment[:64])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rate = gemm_rate(vectors, book[:1024])
    taken, _ = seconds(lambda: exact.nearest(vectors, book, assignment))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    share = 2.0 * rows * book.size / taken / rate
    return {"encode": taken, "peak_growth_mb": grown * 1024 / 1e6, "gemm_share": share, "fit": None, "error": None}


def codec_row(kind: str, rows: int, width: int) -> Row:
    """Measure a method through its codec, four digits, default options."""
    vectors = world(rows, width)
    context = FitContext()
    FITTERS[kind](vectors[:2048], seed=0, options={}, context=context).encode(vectors[:64])
    fitted, codec = seconds(lambda: FITTERS[kind](vectors, seed=0, options={}, context=context))
    taken, codes = seconds(lambda: codec.encode(vectors))
    return {"fit": fitted, "encode": taken, "error": mean_error(vectors, lambda a, b: codec.decode(codes[a:b]))}


def render(rows: list[Row]) -> str:
    """Return the table and what does not fit into it."""
    body, lines = [], []
    for row in rows:
        config, name = row["config"], row["config"]["what"]
        body.append(_line(name, config["rows"], row, ""))
        if "peer_encode" in row:
            body.append(_line(f"{name}, faiss", config["rows"], row, "peer_"))
        if "digits_that_differ" in row:
            lines.append(f"{name}: {row['digits_that_differ']} digits differ from faiss's with the same books")
        if "peak_growth_mb" in row:
            lines.append(f"{name}: peak memory grew by {row['peak_growth_mb']:.0f} MB while encoding")
    return table(HEADER, body) + notes(lines)


def _line(name: str, rows: int, row: Row, prefix: str) -> list[str]:
    fit, encode, error = (row.get(prefix + key) for key in ("fit", "encode", "error"))
    share = row.get("gemm_share") if not prefix else None
    return [
        name, f"{rows:,}", "" if fit is None else f"{fit:.1f}", f"{encode:.2f}", f"{rows / encode:,.0f}",
        "" if error is None else f"{error:.4f}", "" if share is None else f"{share:.2f}",
    ]  # fmt: skip


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--beams", default="1,5")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "semantic_id_speed.json")
    arguments = parser.parse_args()
    results, only = Results(arguments.out, QUESTION, render), arguments.only.split(",")
    rows, width, repeats = arguments.rows, arguments.width, arguments.repeats
    base = {"width": width, "repeats": repeats, "clock": "processor"}
    with one_thread():
        if "vq" in only:
            part = min(rows, 100_000)
            results.cell(base | {"what": "one book of 32,768", "rows": part}, lambda: wide_row(part, width, 32_768))
        if "pq" in only:
            results.cell(base | {"what": "PQ 4 x 256, d = 64", "rows": rows}, lambda: product_row(rows, repeats))
        if "rq" in only:
            for beam in map(int, arguments.beams.split(",")):
                name = f"RQ-KMeans 4 x 256, beam {beam}"
                results.cell(base | {"what": name, "rows": rows}, lambda b=beam: residual_row(rows, width, b, repeats))
        if "others" in only:
            part = min(rows, 200_000)
            for kind in ("opq", "fsq", "lsh", "hierarchical-kmeans"):
                results.cell(base | {"what": kind, "rows": part}, lambda k=kind: codec_row(k, part, width))
    results.show()


if __name__ == "__main__":
    main()

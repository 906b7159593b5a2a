"""How many (code, item) pairs a second does the offline job score on one core?

Hidden 128, one hidden layer, d = 64, product codebooks M = 2, N = 256, K_c = 1 and 4; random weights. The fused,
factorised scorer (``sparcode.index.scoring``) is timed beside a plain numpy formulation that forms every Hadamard
product, interleaved round by round in one process with one thread. Precomputation of partials is included.

    python benchmarks/offline_scoring.py [--rounds 5] [--out benchmarks/results/offline_scoring.json]
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sparcode.index.codes import decode
from sparcode.index.rescorer import Rescorer
from sparcode.index.scoring import CodeScorer

WIDTH, HIDDEN, BOOKS, CODEWORDS, ITEMS = 64, 128, 2, 256, 512


def model(item_tokens: int, rng: np.random.Generator) -> Rescorer:
    """Return a scorer with random weights."""
    flat = WIDTH * item_tokens
    arrays = {
        "item_tokens": rng.normal(size=(ITEMS, item_tokens, WIDTH)) / 8,
        "item_bias": rng.normal(size=ITEMS),
        "mlp.0.weight": rng.normal(size=(HIDDEN, flat)) / 8,
        "mlp.0.bias": rng.normal(size=HIDDEN),
        "mlp.out.weight": rng.normal(size=HIDDEN),
        "mlp.out.bias": np.zeros(()),
    }
    spec = {
        "kind": "hadamard", "hidden": HIDDEN, "layers": 1, "skip": True, "temperature": 0.1,
        "item_tokens": item_tokens, "width": WIDTH, "items": ITEMS, "activation": "none",
    }  # fmt: skip
    return Rescorer(spec, {name: np.asarray(array, np.float32) for name, array in arrays.items()})


def naive(rescorer: Rescorer, vectors: np.ndarray, item: int) -> np.ndarray:
    """Score decoded codes (C, d) against one item: Hadamard products, then matrix products."""
    products = np.tile(vectors, (1, rescorer.item_tokens_per_item)) * rescorer.flat[item]
    hidden = np.maximum(products @ rescorer.item_weight + rescorer.first_bias, 0)
    cosine = products.sum(axis=1) / (rescorer.temperature * rescorer.item_tokens_per_item)
    return np.asarray(hidden @ rescorer.out_weight + cosine + rescorer.item_bias[item] + np.float32(rescorer.out_bias))


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return wall seconds and this thread's CPU seconds: on a shared machine the latter counts our work alone."""
    wall, own = time.perf_counter(), time.thread_time()
    action()
    return time.perf_counter() - wall, time.thread_time() - own


def measure(item_tokens: int, code_count: int, rounds: int) -> dict[str, float | int]:
    """Time both formulations in turn and return millions of pairs a second, median and best."""
    rng = np.random.default_rng(0)
    rescorer = model(item_tokens, rng)
    codebooks = (rng.normal(size=(BOOKS, CODEWORDS, WIDTH // BOOKS)) / 8).astype(np.float32)
    every = np.indices((CODEWORDS, CODEWORDS)).reshape(2, -1).T.astype(np.uint16)
    codes = every[np.sort(rng.choice(len(every), code_count, replace=False))]
    scorer, vectors = CodeScorer(rescorer, codebooks, "product"), decode(codes, codebooks, "product")
    plan, slow_items = scorer.plan(codes), max(1, 1 << 17 >> code_count.bit_length())
    error = float(np.abs(scorer.scores(plan, 0, 1)[0] - naive(rescorer, vectors, 0)).max())
    fast_items = max(8, (1 << 22) // code_count)
    fused, plain = [], []
    for _ in range(rounds):
        fused.append(timed(lambda: scorer.scores(plan, 0, fast_items)))
        plain.append(timed(lambda: [naive(rescorer, vectors, item) for item in range(slow_items)]))
    row: dict[str, float | int] = {"item_tokens": item_tokens, "codes": code_count, "largest_difference": error}
    for name, times, items in (("fused", fused, min(fast_items, ITEMS)), ("numpy", plain, slow_items)):
        pairs = items * code_count / 1e6
        row[f"{name}_wall_median"] = round(pairs / statistics.median(wall for wall, _ in times), 2)
        row[f"{name}_cpu_median"] = round(pairs / statistics.median(own for _, own in times), 2)
        row[f"{name}_cpu_best"] = round(pairs / min(own for _, own in times), 2)
    return row


def main() -> None:
    """Run all settings and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "offline_scoring.json")
    arguments = parser.parse_args()
    rows = [measure(k, c, arguments.rounds) for k in (1, 4) for c in (4096, 16384, 65536)]
    result = {
        "unit": "million (code, item) pairs a second, one thread, partials included",
        "setting": {"hidden": HIDDEN, "width": WIDTH, "books": BOOKS, "codewords": CODEWORDS},
        "machine": {"processor": _processor(), "cpus": os.cpu_count(), "threads": 1, "load": os.getloadavg()},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "rows": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(rows, indent=2))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    main()

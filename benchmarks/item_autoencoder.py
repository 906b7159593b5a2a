"""What do RQ-VAE and VQ-VAE of items cost: peak memory and seconds an epoch of fitting, rows a second of encoding?

Random vectors around planted centres; every cell runs in a process of its own, so that its peak is its own. Memory is
what the kernel calls the largest resident set, less that of a process that has only imported what is needed.

    python benchmarks/item_autoencoder.py [--items 40000] [--width 128] [--epochs 1] [--only NAME] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from shared import ROOT, Results, Row, table

from sparcode.eval.machine import one_thread

CELLS: dict[str, tuple[str, dict[str, Any]]] = {
    "RQ-VAE 4 x 256": ("rq-vae", {"codebooks": 4, "codebook_size": 256}),
    "RQ-VAE 4 x 256, Sinkhorn": ("rq-vae", {"codebooks": 4, "codebook_size": 256, "sinkhorn": "all"}),
    "VQ-VAE 32,768": ("vq-vae", {"codebook_size": 32_768}),
    "VQ-VAE 32,768, Sinkhorn of 5 iterations": (
        "vq-vae",
        {"codebook_size": 32_768, "sinkhorn": "all", "sinkhorn_iterations": 5},
    ),
}
ENCODED = 20_000


@one_thread("torch")
def main(arguments: list[str] | None = None) -> Results | None:
    """Measure every cell, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--width", type=int, default=128, help="of the vectors")
    parser.add_argument("--epochs", type=int, default=1, help="measured; memory does not grow with them")
    parser.add_argument("--only", default="", metavar="TEXT", help="measure methods whose name holds this")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "item_autoencoder.json")
    parser.add_argument("--cell", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.cell is not None:
        print(json.dumps(measure(**given.cell)))
        return None
    results = Results(given.out, (__doc__ or "").splitlines()[0], rendered)
    for name, (kind, options) in CELLS.items():
        if given.only not in name:
            continue
        config = {"items": given.items, "width": given.width, "options": options | {"epochs": given.epochs}}
        results.cell({"name": name, "kind": kind} | config, lambda c=config, k=kind: in_own_process({"kind": k} | c))
    results.show()
    return results


def in_own_process(cell: Row) -> Row:
    """Return ``measure(**cell)`` of a fresh process."""
    command = [sys.executable, __file__, "--cell", json.dumps(cell)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(kind: str, items: int, width: int, options: dict[str, Any]) -> Row:
    """Fit once and encode some vectors; return memory, seconds and rates."""
    from sparcode.semantic_id.codec import FITTERS, FitContext
    from sparcode.train import item_autoencoder  # noqa: F401  torch belongs to the empty process

    vectors = planted(items, width)
    before, epochs = _peak(), []
    started = time.perf_counter()
    options = options | {"warmup_epochs": 1}
    codec = FITTERS[kind](vectors, seed=0, options=options, context=FitContext(device="cpu", report=epochs.append))
    fitted, peak = time.perf_counter() - started, _peak()
    rows = vectors[:ENCODED]
    times = []
    for _ in range(3):
        started = time.perf_counter()
        codes = codec.encode(rows)
        times.append(time.perf_counter() - started)
    alone = np.vstack([codec.encode(rows[place : place + 1]) for place in range(50)])
    if not np.array_equal(alone, codes[:50]):
        raise AssertionError("codes depend on the batch")
    return {
        "before_mib": round(before),
        "peak_mib": round(peak),
        "fit_mib": round(peak - before),
        "fit_seconds": round(fitted, 1),
        "epoch_seconds": round(epochs[-1]["seconds"], 2),
        "encoded_per_second": round(len(rows) / min(times)),
        "usage": codec.spec()["training"]["usage"],
    }


def planted(items: int, width: int) -> np.ndarray:
    """Return vectors (items, width) float32 around 1,000 centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, width)).astype(np.float32)
    vectors = centres[rng.integers(0, 1000, items)]
    vectors += 0.5 * rng.standard_normal((items, width), dtype=np.float32)
    return vectors


def rendered(rows: list[Row]) -> str:
    """Return the table."""
    header = ["method", "items x width", "peak MiB", "of it fitting", "s an epoch", "encoded rows/s, one core"]
    body = [
        [
            row["config"]["name"], f"{row['config']['items']:,} x {row['config']['width']}", f"{row['peak_mib']:,}",
            f"{row['fit_mib']:,}", f"{row['epoch_seconds']:.1f}", f"{row['encoded_per_second']:,}",
        ]
        for row in rows
    ]  # fmt: skip
    return table(header, body)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

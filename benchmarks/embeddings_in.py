"""How fast are embeddings read and checked, and how much memory does it take?

Writes N x D float32 as .npy (a memory map; it needs 4 N D bytes of disk), then reads it in a fresh process with
every check: rows per second, and the peak of anonymous memory, that is without the pages of the mapped file, which
the system takes back when it needs them. The other kinds of file are measured with a tenth of the rows.

    python benchmarks/embeddings_in.py [--rows 5000000] [--width 512] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from shared import ROOT, Results, Row, table

from sparcode.eval.machine import one_thread
from sparcode.semantic_id.embeddings import from_arrays, write_embeddings

READER = """
import json, sys, threading, time
from sparcode.semantic_id.embeddings import read_embeddings

def status(name):
    lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(lines[name].split()[0]) / 1e3

read_embeddings(sys.argv[2])  # compiles
peak, done = 0.0, False

def watch():
    global peak
    while not done:
        peak = max(peak, status("RssAnon"))
        time.sleep(0.01)

watcher = threading.Thread(target=watch)
watcher.start()
started = time.perf_counter()
found = read_embeddings(sys.argv[1])
seconds = time.perf_counter() - started
done = True
watcher.join()
peak = max(peak, status("RssAnon"))
print(json.dumps({"rows": len(found), "width": found.width, "seconds": seconds, "anonymous_mb": peak}))
"""


@one_thread()
def main(arguments: list[str] | None = None) -> Results:
    """Write, read and measure every kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--again", default="", metavar="KIND,...", help="measure these anew, keep the others' figures")
    parser.add_argument("--folder", type=Path, help="where the files are written, and removed again")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "embeddings_in.json")
    given = parser.parse_args(arguments)
    results = Results(given.out, (__doc__ or "").splitlines()[0], rendered)
    results.rows = [row for row in results.rows if row["config"]["kind"] not in given.again.split(",")]
    for kind, rows in ((".npy", given.rows), *((kind, given.rows // 10) for kind in (".safetensors", ".parquet"))):
        config = {"kind": kind, "rows": rows, "width": given.width}
        results.cell(config, lambda kind=kind, rows=rows: measure(kind, rows, given.width, given.folder))
    results.show()
    return results


def measure(kind: str, rows: int, width: int, folder: Path | None) -> Row:
    """Write one file, read it in a fresh process, remove it."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path, small = Path(place) / f"e{kind}", Path(place) / f"small{kind}"
        write_embeddings(small, from_arrays(np.random.default_rng(1).normal(size=(64, width))))
        if kind == ".npy":
            write_npy(path, rows, width)
        else:
            write_embeddings(path, from_arrays(np.random.default_rng(0).standard_normal((rows, width), np.float32)))
        done = subprocess.run(
            [sys.executable, "-c", READER, str(path), str(small)], capture_output=True, text=True, check=True, cwd=ROOT
        )
        return json.loads(done.stdout) | {"file_mb": path.stat().st_size / 1e6}


def write_npy(path: Path, rows: int, width: int) -> None:
    """Write rows a block at a time: one random block, times another number each time, so that no row repeats."""
    target = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    block = np.random.default_rng(0).standard_normal((min(rows, 1 << 16), width), np.float32)
    for number, start in enumerate(range(0, rows, len(block)), start=1):
        part = target[start : start + len(block)]
        np.multiply(block[: len(part)], np.float32(number), out=part)
    target.flush()


def rendered(rows: list[Row]) -> str:
    """Return the table."""
    body = [
        [row["config"]["kind"], f"{row['rows']:,}", str(row["width"]), f"{row['file_mb']:,.0f}",
         f"{row['seconds']:.1f}", f"{row['rows'] / row['seconds']:,.0f}", f"{row['anonymous_mb']:,.0f}"]
        for row in rows
    ]  # fmt: skip
    return table(["file", "rows", "width", "MB", "s", "rows/s", "peak anonymous MB"], body)


if __name__ == "__main__":
    main()

"""How many (code, item) pairs a second does the offline job score on one core, and what does a million items cost?

Two tables. ``rates``: M = 2 books of N = 256 codewords, all 65,536 codes, d = 64, one hidden layer of 128 units, K_c =
1 and 4, random weights. Ours keeps the best 256 items of every code while it scores (precomputation included; lists
take in pairs as often as they do on average over a million items); torch only scores. Formulations of torch: ``naive``
forms every Hadamard product; ``factorised`` adds partials of the sub-codebooks and keeps the hidden units of an item in
memory; ``tiled`` does the same in pieces that stay in cache. All are interleaved round by round in one process with
one thread, by the CPU time of that thread because machines are shared; p50 of the rounds. Dot products stand beside a
torch matrix product, which does not select.

A rate gives the minutes of 1,000,000 x 65,536 pairs, to which the normalisers of log-probabilities add 16,384 items.
``slices``: blocks as the job runs them (log-probabilities, the best 256 of every code), each in a process of its own
for its peak memory: the whole job for a dot product over two books; for one book a slice of codes, extrapolated
linearly in codes. (Slices of items do not extrapolate: short of a million items, lists still change all the time.)

    python benchmarks/offline_scoring.py [--rounds 15] [--no-slices] [--out benchmarks/results/offline_scoring.json]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sparcode.build.score.candidates import score_block
from sparcode.build.score.kept import KeptPairs
from sparcode.build.score.likelihood import LikelihoodScorer
from sparcode.build.score.scoring import CodeScorer
from sparcode.eval.machine import git_commit, machine_info, one_thread
from sparcode.files import write_json
from sparcode.query.codes import decode
from sparcode.query.rescore.rescorer import Rescorer

WIDTH, HIDDEN, CODEWORDS, LENGTH = 64, 128, 256, 256
CODES, ITEMS, ALL_ITEMS = CODEWORDS**2, 4096, 1_000_000
SLICES = (("dot", 2, ALL_ITEMS, CODES), ("dot", 1, ALL_ITEMS, 2048))
"""Scorer, books, items, codes."""

Row = dict[str, Any]


def model(kind: str, item_tokens: int, items: int) -> Rescorer:
    """Return a scorer with random weights; popular items, which come first, score a little more."""
    rng, flat = np.random.default_rng(0), WIDTH * item_tokens
    arrays = {
        "item_tokens": rng.normal(size=(items, item_tokens, WIDTH)).astype(np.float32) / 8,
        "item_bias": -0.2 * np.log1p(np.arange(items)),
    }
    spec = {
        "kind": kind, "hidden": 0, "layers": 0, "skip": True, "temperature": 0.1, "item_tokens": item_tokens,
        "width": WIDTH, "items": items, "activation": "none",
    }  # fmt: skip
    if kind == "hadamard":
        spec |= {"hidden": HIDDEN, "layers": 1}
        arrays |= {
            "mlp.0.weight": rng.normal(size=(HIDDEN, flat)) / 8, "mlp.0.bias": rng.normal(size=HIDDEN),
            "mlp.out.weight": rng.normal(size=HIDDEN) / 8, "mlp.out.bias": np.zeros(()),
        }  # fmt: skip
    return Rescorer(spec, {name: np.asarray(array, np.float32) for name, array in arrays.items()})


def code_scorer(rescorer: Rescorer, books: int) -> CodeScorer:
    """Return a scorer of random codebooks: product codes of two books, or 65,536 codewords of one."""
    words = CODEWORDS if books == 2 else CODES
    codebooks = np.random.default_rng(1).normal(size=(books, words, WIDTH // books)).astype(np.float32) / 8
    return CodeScorer(rescorer, codebooks, "product")


def first_codes(books: int, count: int) -> np.ndarray:
    """Return the first ``count`` codes (C, M) in ascending order."""
    numbers = np.arange(count)
    return np.stack([numbers] if books == 1 else [numbers // CODEWORDS, numbers % CODEWORDS], axis=1).astype(np.uint16)


class Ours:
    """The offline job's loop: every call scores the next items and keeps the best of every code."""

    def __init__(self, scorer: CodeScorer, codes: np.ndarray, items: int) -> None:
        self.scorer, self.plan, self.items, self.place = scorer, scorer.plan(codes), items, 0
        self.kept = KeptPairs(np.full(len(codes), np.inf), LENGTH, np.zeros(len(codes)))
        # Lists of L of n items take in L (1 + ln(n / L)) pairs: bars that this share of the pairs exceeds.
        share = LENGTH * (1 + np.log(ALL_ITEMS / LENGTH)) / ALL_ITEMS
        for low in range(0, len(codes), 4096):
            plan = scorer.plan(codes[low : low + 4096])
            self.kept.state.bars[low : low + 4096] = np.quantile(scorer.scores(plan, 0, 2048), 1 - share, axis=0)

    def __call__(self) -> int:
        start = self.place % (self.scorer.item_count - self.items + 1)
        self.scorer.collect(self.plan, start, start + self.items, self.kept)
        self.place = start + self.items
        return self.items * CODES


def torch_hadamard(rescorer: Rescorer, scorer: CodeScorer, codes: np.ndarray) -> dict[str, Callable[[], int]]:
    """Return the torch formulations; each scores one item and returns how many pairs that were."""
    import torch

    vectors, books = torch.from_numpy(decode(codes[:8192], scorer.codebooks, "product")), torch.tensor(scorer.codebooks)
    items, kc = torch.tensor(rescorer.flat[:8]), rescorer.item_tokens_per_item
    first, bias, out = (
        torch.tensor(x)
        for x in (rescorer.perceptron.item_weight, rescorer.perceptron.first_bias, rescorer.perceptron.out_weight)
    )

    def naive(kind: torch.dtype) -> int:
        products = (vectors.to(kind).repeat(1, kc)) * items[0].to(kind)
        torch.relu(products @ first.to(kind) + bias.to(kind)) @ out.to(kind)
        return len(vectors)

    def partials(kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        folded = (first * items[0][:, None]).reshape(kc, WIDTH, HIDDEN).sum(0).to(kind)
        half = WIDTH // 2
        return books[0].to(kind) @ folded[:half] + bias.to(kind), books[1].to(kind) @ folded[half:]

    def factorised(kind: torch.dtype, rows: int) -> int:
        one, other = partials(kind)
        hidden, scores = torch.empty(rows, CODEWORDS, HIDDEN, dtype=kind), torch.empty(CODES, dtype=kind)
        for row in range(0, CODEWORDS, rows):
            torch.add(one[row : row + rows, None], other[None], out=hidden).relu_()
            part = scores[row * CODEWORDS : (row + rows) * CODEWORDS]
            torch.mv(hidden.view(-1, HIDDEN), out.to(kind), out=part)
        return CODES

    found: dict[str, Callable[[], int]] = {}
    for label, kind in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        found[f"naive_{label}"] = lambda kind=kind: naive(kind)  # type: ignore[misc]
        found[f"factorised_{label}"] = lambda kind=kind: factorised(kind, CODEWORDS)  # type: ignore[misc]
        found[f"tiled_{label}"] = lambda kind=kind: factorised(kind, 4)  # type: ignore[misc]
    return found


def torch_dot(rescorer: Rescorer, scorer: CodeScorer, codes: np.ndarray) -> dict[str, Callable[[], int]]:
    """Return the matrix product of items and decoded codes in torch."""
    import torch

    items = torch.tensor(rescorer.flat[:256])
    vectors = torch.from_numpy(decode(codes, scorer.codebooks, "product")[:16384]).T.contiguous()
    scores = torch.empty(256, 2048)

    def product() -> int:
        for low in range(0, vectors.shape[1], 2048):
            torch.mm(items, vectors[:, low : low + 2048], out=scores)
        return 256 * vectors.shape[1]

    return {"matrix_product_f32": product}


def rates(kind: str, books: int, item_tokens: int, rounds: int) -> Row:
    """Time ours and torch in turn and return millions of pairs a second, p50 and best."""
    import torch

    fast = kind == "dot"
    rescorer = model(kind, item_tokens, ITEMS)
    scorer, codes = code_scorer(rescorer, books), first_codes(books, CODES)
    step = 256 if fast else 32
    runs: dict[str, Callable[[], int]] = {"ours": Ours(scorer, codes, step)}
    runs |= (torch_dot if fast else torch_hadamard)(rescorer, scorer, codes)
    times: dict[str, list[float]] = {name: [] for name in runs}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, action in runs.items():
                began = time.thread_time()
                pairs = action()
                if number:
                    times[name].append(pairs / 1e6 / (time.thread_time() - began))
    row: Row = {"scorer": kind, "books": books, "item_tokens": item_tokens, "codes": CODES, "length": LENGTH}
    row["p50"] = {name: round(statistics.median(values), 2) for name, values in times.items()}
    row["best"] = {name: round(max(values), 2) for name, values in times.items()}
    row["job_minutes_p50"] = round(ALL_ITEMS * CODES / 1e6 / row["p50"]["ours"] / 60, 2)
    row["ratio_p50"] = {name: round(row["p50"]["ours"] / value, 1) for name, value in row["p50"].items()}
    return row


def slice_of(kind: str, books: int, items: int, codes: int) -> Row:
    """Make the lists of one block in this process; return seconds, peak memory and the extrapolated job."""
    scorer = LikelihoodScorer(code_scorer(model(kind, 1, items), books))
    small = LikelihoodScorer(code_scorer(model(kind, 1, 600), books))
    score_block(small, first_codes(books, 300), np.inf, LENGTH)  # compiled, and read from the cache, beforehand
    began, own = time.perf_counter(), time.process_time()
    found = score_block(scorer, first_codes(books, codes), np.inf, LENGTH)
    wall, own = time.perf_counter() - began, time.process_time() - own
    scale = ALL_ITEMS * CODES / (items * codes)
    return {
        "scorer": kind, "books": books, "items": items, "codes": codes, "postings": len(found.items),
        "wall_s": round(wall, 2), "cpu_s": round(own, 2),
        "million_pairs_per_cpu_s": round(items * codes / own / 1e6, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
        "job_cpu_minutes": round(own * scale / 60, 2), "extrapolated": scale > 1,
    }  # fmt: skip


def in_its_own_process(setting: tuple[str, int, int, int]) -> Row:
    """Run ``slice_of`` in a fresh interpreter."""
    command = [sys.executable, __file__, "--slice", ",".join(map(str, setting))]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


@one_thread("torch")
def main() -> None:
    """Run all settings and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-slices", action="store_true", help="leave the second table out")
    parser.add_argument("--slice", metavar="KIND,M,ITEMS,CODES", help="one slice, printed as JSON")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "offline_scoring.json")
    arguments = parser.parse_args()
    if arguments.slice:
        kind, *numbers = arguments.slice.split(",")
        print(json.dumps(slice_of(kind, *map(int, numbers))))
        return
    settings = (("hadamard", 2, 1), ("hadamard", 2, 4), ("dot", 2, 1), ("dot", 1, 1))
    result = {
        "unit": "million (code, item) pairs a second, one thread, precomputation and selection included in ours",
        "setting": {"rounds": arguments.rounds, "hidden": HIDDEN, "width": WIDTH, "length": LENGTH},
        "commit": git_commit(), "machine": machine_info() | {"threads": 1, "load": os.getloadavg()},
        "rates": [rates(*setting, arguments.rounds) for setting in settings],
        "slices": [] if arguments.no_slices else [in_its_own_process(setting) for setting in SLICES],
    }  # fmt: skip
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out, result)
    print(json.dumps({name: result[name] for name in ("rates", "slices")}, indent=2))


if __name__ == "__main__":
    main()

"""What do building, storing and retrieving cost, by formula and by the clock, and do the two agree?

SparCode, two-tower with a scan of all items, two-tower with HNSW (faiss), and decoding of semantic IDs, on synthetic
worlds, one thread. Curves over n, C, list length, K_u, k, ef, beams, candidates and hidden units; the constants of each
formula are fitted to its curve. Writes benchmarks/results/costs.json and costs.md, the plot, and the tables of
docs/costs.md. About six minutes of an idle core, most of them building graphs.

    python benchmarks/costs.py             measure, fit, write
    python benchmarks/costs.py --page      fit, and write tables and plot again, from the JSON
    python benchmarks/costs.py --only scoring --only rescoring     measure some curves again, keep the others
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from costing import curves, fits, page

from sparcode.eval.machine import git_commit, machine_info, one_thread
from sparcode.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]
CURVES = ("retrieval", "decoding", "rescoring", "scoring")


def measured(plan: curves.Plan, names: Sequence[str], earlier: dict[str, Any]) -> dict[str, Any]:
    """Return the document: curves named in ``names`` measured now, the others as they were."""
    found, measured_at = dict(earlier.get("curves", {})), dict(earlier.get("measured", {}))
    with one_thread():
        for name in names:
            print(f"measuring {name}", flush=True)
            points = getattr(curves, name)(plan)
            if name == "retrieval":
                points, found["graphs"] = points
            found[name] = points
            when = datetime.now(UTC).isoformat(timespec="seconds")
            measured_at[name] = {"created": when, "commit": git_commit(), "machine": machine_info()}
    return {
        "question": "What do building, storing and retrieving cost, by formula and by the clock?",
        "threads": 1, "measured": measured_at, "curves": found,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure what is asked for and write results, plot and page; return the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=CURVES, help="measure this curve; repeatable")
    parser.add_argument("--page", action="store_true", help="fit and write, measure nothing")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see whether everything runs")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "costs.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of costs.md and images/costs.png")
    options = parser.parse_args(arguments)
    keep = options.page or options.only
    document = read_json(options.out) if keep else {}
    if not options.page:
        plan = curves.SMALL if options.small else curves.Plan()
        document = measured(plan, options.only or CURVES, document)
    document["fits"] = fits.fit_all(document["curves"])
    write_json(options.out, document)
    page.write(document, options.out.with_suffix(".md"), options.docs)
    print(options.out.with_suffix(".md").read_text(encoding="utf-8"))
    return document


if __name__ == "__main__":
    main()

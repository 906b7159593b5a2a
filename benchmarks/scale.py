"""The engine at 10 thousand, 100 thousand and a million items: `sparcode benchmark --scale`, kept with the repository.

    python benchmarks/scale.py          # docs/scale.md, docs/images/scale-*.png, benchmarks/results/scale.json
    python benchmarks/scale.py --sizes 10000 --out runs/scale --no-publish

Worlds, runs and peers stay in the work folder; what is finished there is not done again. A million items take about
an hour of one idle core, of which the graph that is compared with is a quarter.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

NOTES = ("<!-- notes:begin -->", "<!-- notes:end -->")
ROOT = Path(__file__).resolve().parent.parent


def publish(out: Path, root: Path) -> list[Path]:
    """Copy table and plots to ``docs`` and the JSON to ``benchmarks/results``; returns what was written.

    What stands between the marks of ``NOTES`` in the page is written by hand and stays.
    """
    written = [Path(shutil.copy(out / "scale.json", root / "benchmarks" / "results" / "scale.json"))]
    plots = sorted(out.glob("scale-*.png"))
    for plot in plots:
        written.append(Path(shutil.copy(plot, root / "docs" / "images" / plot.name)))
    pictures = "".join(f"\n![{plot.stem}](images/{plot.name})\n" for plot in plots)
    page = root / "docs" / "scale.md"
    notes = notes_of(page.read_text(encoding="utf-8")) if page.exists() else "\n".join(NOTES)
    table = (out / "scale.md").read_text(encoding="utf-8")
    page.write_text(f"{table}\n{notes}\n\n## Plots\n{pictures}", encoding="utf-8")
    return [*written, page]


def notes_of(text: str) -> str:
    """Return what a page holds between the marks, marks included."""
    first, last = NOTES
    if first not in text or last not in text:
        return "\n".join(NOTES)
    return text[text.index(first) : text.index(last) + len(last)]


def main() -> None:
    """Run the benchmark and publish it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000,1000000")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "scale")
    parser.add_argument("--no-publish", action="store_true", help="leave the repository as it is")
    arguments = parser.parse_args()
    from sparcode.scale.benchmark import run_scale_benchmark, sizes_of

    run_scale_benchmark(sizes_of(arguments.sizes), arguments.out, report=lambda line: print(line, flush=True))
    for path in [] if arguments.no_publish else publish(arguments.out, ROOT):
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

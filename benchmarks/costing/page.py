"""Tables of the costs, and their places in docs/costs.md: ``<!-- begin NAME -->`` .. ``<!-- end NAME -->``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costing import formulas
from costing.choose import points_of, usual_width, varied_points
from costing.fits import MODELS, predicted
from costing.plot import plot
from sparcode.errors import DataError
from sparcode.files import write_text
from sparcode.report.tables import markdown

Point = dict[str, Any]
Document = dict[str, Any]

SETTINGS = ((10_000, 4096), (100_000, 16384), (1_000_000, 65536))
"""(n, C) of the table of counts."""
MEAN_LIST, TOKENS, WIDTH, LINKS, HIDDEN, BEAMS = 256, 8, 64, 32, 128, 20
CANDIDATES = 100
LIBRARIES = ("numpy", "numba", "faiss-cpu")


def write(document: Document, results: Path, docs: Path) -> None:
    """Write the Markdown of the results, the plot, and the tables of ``docs``/costs.md where that page is."""
    found = blocks(document)
    parts = [f"**{name}**\n\n{text}" for name, text in found.items()]
    write_text(results, f"{document['question']}\n\n" + "\n".join(parts))
    page = docs / "costs.md"
    if page.exists():
        write_text(page, replaced(page.read_text(encoding="utf-8"), found))
    plot(document, docs / "images" / "costs.png")


def replaced(text: str, found: dict[str, str]) -> str:
    """Return the page with every marked stretch replaced; DataError when a mark names no table."""

    def one(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in found:
            raise DataError(f"costs.md marks a table {name!r}, there are {', '.join(found)}")
        return f"<!-- begin {name} -->\n{found[name]}<!-- end {name} -->"

    return re.sub(r"<!-- begin (\S+) -->\n.*?<!-- end \1 -->", one, text, flags=re.S)


def blocks(document: Document) -> dict[str, str]:
    """Return all tables by name."""
    curves = document["curves"]
    made = {
        "counts": counts(), "storing": storing(curves), "items": items(document), "query": query(document),
        "held-out": held_out(document),
        "walks": walks(document), "decoding": decoding(document), "rescoring": rescoring(document),
        "scoring": scoring(document), "graphs": graphs(document), "constants": constants(document),
        "machine": machine(document),
    }  # fmt: skip
    return made


def table(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return markdown((list(header), [list(row) for row in body]))


def counts() -> str:
    """What the formulas say of three catalogues; nothing here is measured."""
    decoder = formulas.Decoder()
    body = []
    for n, codes in SETTINGS:
        postings = codes * MEAN_LIST
        words = 2 * min(256, codes)
        body += [
            [f"{n:,}", "SparCode, cache", mega(formulas.cache_bytes(codes, postings, codes, 2, 65536)),
             f"{formulas.postings_read(TOKENS, MEAN_LIST):,.0f} postings",
             mega(formulas.scoring_products(n, codes, words, WIDTH // 2, WIDTH, 1, HIDDEN))],
            ["", f"and rescoring R = {CANDIDATES}", mega(formulas.rescoring_bytes(n, WIDTH, 1, HIDDEN)),
             f"{formulas.rescoring_products(CANDIDATES, TOKENS, WIDTH, 1, HIDDEN):,} products", "0"],
            ["", "scan", mega(formulas.exact_bytes(n, WIDTH)), f"{formulas.exact_products(n, WIDTH):,} products", "0"],
            ["", "HNSW", mega(formulas.hnsw_bytes(n, WIDTH, LINKS)), "distances, see below", "see below"],
            ["", "semantic IDs", mega(formulas.semantic_id_bytes(n, decoder)),
             f"{formulas.decoding_products(decoder, BEAMS):,} products",
             mega(formulas.quantizing_products(n, WIDTH, decoder.levels, decoder.codewords, 20))],
        ]  # fmt: skip
    return table(["n", "system", "stored, 10⁶ bytes", "a query", "building, 10⁶ products"], body)


def storing(curves: dict[str, list[Point]]) -> str:
    """Bytes by formula beside bytes of the arrays and of the serialised graph."""
    body = []
    lists = points_of(curves["retrieval"], "sparcode", list=MEAN_LIST, tokens=TOKENS, k=10, held_out=False)
    for point in sorted(lists, key=lambda point: (point["items"], point["codes"])):
        said = formulas.cache_bytes(point["codes"], point["postings"])
        body.append(_stored(f"SparCode lists, C = {point['codes']:,}, P = {point['postings']:,}", point, said))
    for point in curves["graphs"]:
        said = formulas.hnsw_bytes(point["items"], point["width"], point["links"])
        body.append(_stored(f"HNSW, m = {point['links']}", point, said))
    for point in points_of(curves["retrieval"], "exact"):
        body.append(
            _stored(f"vectors, d = {point['width']}", point, formulas.exact_bytes(point["items"], point["width"]))
        )
    return table(["n", "what", "bytes", "by formula", "an item", "ratio"], body)


def _stored(what: str, point: Point, said: float) -> list[str]:
    found = point["bytes"]
    return [f"{point['items']:,}", what, f"{found:,}", f"{said:,.0f}", f"{found / point['items']:,.1f}",
            f"{found / said:.4f}"]  # fmt: skip


def items(document: Document) -> str:
    """All systems over n."""
    retrieval = document["curves"]["retrieval"]
    ours = {p["items"]: p for p in varied_points(retrieval, "items")}
    scans = {p["items"]: p for p in points_of(retrieval, "exact", width=usual_width(retrieval))}
    middle = sorted({p["ef"] for p in points_of(retrieval, "hnsw")})
    ef = middle[len(middle) // 2]
    graph = {p["items"]: p for p in points_of(retrieval, "hnsw", ef=ef)}
    body = [
        [f"{n:,}", *_pair(document, "search", ours[n]), *_pair(document, "scan", scans[n]),
         *_pair(document, "walk", graph[n])]
        for n in sorted(ours)
    ]  # fmt: skip
    return table(["n", "SparCode µs", "ratio", "scan µs", "ratio", f"HNSW ef = {ef} µs", "ratio"], body)


def query(document: Document) -> str:
    """SparCode over K_u, p, C and k."""
    retrieval = document["curves"]["retrieval"]
    body = []
    for what, label in (("tokens", "K_u"), ("list", "p"), ("codes", "C"), ("k", "k")):
        for point in varied_points(retrieval, what):
            body.append([f"{label} = {point[what]:,}", f"{point['read']:,.0f}", f"{point['touched']:,.0f}",
                         *_pair(document, "search", point)])  # fmt: skip
    return table(["varied", "postings read", "items touched", "µs", "ratio"], body)


def held_out(document: Document) -> str:
    """Searches that no constant was fitted to."""
    body = [
        [*(f"{point[key]:,}" for key in ("items", "codes", "list", "tokens", "k")), f"{point['read']:,.0f}",
         *_pair(document, "search", point)]
        for point in points_of(document["curves"]["retrieval"], "sparcode", held_out=True)
    ]  # fmt: skip
    return table(["n", "C", "p", "K_u", "k", "postings read", "µs", "ratio"], body)


def walks(document: Document) -> str:
    """HNSW over n and ef: distances and time."""
    body = [
        [f"{point['items']:,}", str(point["ef"]), f"{point['distances']:,.0f}",
         _ratio(point["distances"] / predicted("distances", document["fits"], point)),
         *_pair(document, "walk", point)]
        for point in points_of(document["curves"]["retrieval"], "hnsw")
    ]  # fmt: skip
    return table(["n", "ef", "distances", "ratio", "µs", "ratio"], body)


def decoding(document: Document) -> str:
    """Semantic IDs over beams, and the catalogue size at which a scan costs as many products."""
    body = []
    for point in document["curves"]["decoding"]:
        products = point["logit_products"] + point["layer_products"]
        body.append([f"{point['layers']}", f"{point['beams']}", f"{products:,}", f"{products / WIDTH:,.0f}",
                     *_pair(document, "decoding", point)])  # fmt: skip
    return table(["layers", "beams b", "products", f"= a scan of n (d = {WIDTH})", "µs", "ratio"], body)


def rescoring(document: Document) -> str:
    """SparCode's second stage over R."""
    body = [
        [point["kind"], str(point["candidates"]), f"{point['products']:,}", *_pair(document, "rescoring", point)]
        for point in document["curves"]["rescoring"]
    ]
    return table(["scorer", "R", "products", "µs", "ratio"], body)


def scoring(document: Document) -> str:
    """The offline job over C, H, K_c."""
    body = []
    for point in document["curves"]["scoring"]:
        arguments = point["codes"], point["width"], point["item_tokens"], point["hidden"]
        codes, width, item_tokens, hidden = arguments
        factorised = formulas.scoring_products(1, codes, point["words"], point["depth"], width, item_tokens, hidden)
        naive = formulas.naive_scoring_products(1, codes, width, item_tokens, hidden)
        body.append([f"{codes:,}", str(hidden), str(item_tokens), f"{factorised:,}", f"{naive / factorised:,.0f}",
                     *_pair(document, "scoring", point), f"{codes / point['p50_us']:,.0f}"])  # fmt: skip
    header = ["C", "H", "K_c", "products an item", "fewer than naive", "µs an item", "ratio", "10⁶ pairs/s"]
    return table(header, body)


def graphs(document: Document) -> str:
    """Seconds of building a graph, and of scoring as many items against C codes at the measured rate."""
    rates = [p for p in document["curves"]["scoring"] if p["item_tokens"] == 1]
    largest = max(rates, key=lambda point: (point["codes"], point["hidden"]))
    body = []
    for point in document["curves"]["graphs"]:
        seconds = point["items"] * largest["p50_us"] / 1e6
        ratio = point["seconds"] / predicted("graph", document["fits"], point)
        body.append([f"{point['items']:,}", f"{point['seconds']:,.1f}", _ratio(ratio), f"{seconds:,.1f}"])
    label = f"scoring n × {largest['codes']:,} pairs, H = {largest['hidden']}, s"
    return table(["n", "HNSW s", "ratio", label], body)


def constants(document: Document) -> str:
    """The fitted constants and how far measured times are from the formula."""
    body = []
    for name, model in MODELS.items():
        fitted = document["fits"][name]
        terms = _power(fitted["constants"]) if model.power else _sum(fitted["constants"])
        low, middle, high = (fitted[key] for key in ("ratio_low", "ratio_median", "ratio_high"))
        body.append([name, str(fitted["points"]), terms, f"{low:.2f} .. {middle:.2f} .. {high:.2f}"])
    return table(["model", "points", "fitted", "measured / predicted"], body)


def _sum(told: dict[str, float]) -> str:
    return " + ".join(f"{value:g} ns × {term}" for term, value in told.items() if value)


def _power(told: dict[str, float]) -> str:
    return f"{told['factor']:g} × (ef / 100)^{told['ef']:g} × (n / 10⁴)^{told['n']:g}"


def machine(document: Document) -> str:
    """Where and when each curve was measured."""
    lines = []
    for name, where in document["measured"].items():
        told = where["machine"]
        place = f"{told['cpu']}, {told['cores']} cores, load {told['load_average']}, Python {told['python']}"
        libraries = ", ".join(
            f"{library} {told['libraries'].get(library)}" for library in ("numpy", "numba", "faiss-cpu")
        )
        lines.append(f"- {name}: {place}, {libraries}; {where['created']}, commit {where['commit']}\n")
    return "".join(lines)


def mega(value: float) -> str:
    """Return a count in millions."""
    return f"{value / 1e6:,.2f}" if value < 1e8 else f"{value / 1e6:,.0f}"


def _pair(document: Document, model: str, point: Point) -> list[str]:
    found = point["p50_us"]
    shown = f"{found:,.1f}" if found < 1000 else f"{found:,.0f}"
    return [shown, _ratio(found / predicted(model, document["fits"], point))]


def _ratio(value: float) -> str:
    return f"{value:.2f}"

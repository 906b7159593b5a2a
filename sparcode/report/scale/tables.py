"""The document of ``sparcode benchmark --scale`` as Markdown: one table a question, and the targets with distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sparcode.report.tables import markdown

Size = dict[str, Any]
OURS = ("sparcode-learned", "sparcode-default")
_SPARSE = ("bm25s-numba", "bm25s-kernel", "scipy-csr", "numpy-dense", "numpy-touched", "seismic")


def scale_markdown(document: dict[str, Any]) -> str:
    """Return the whole report."""
    machine, sizes = document["machine"], document["sizes"]
    parts = [
        "# The engine at scale\n",
        f"{machine.get('cpu')}, {machine.get('cores')} cores, one thread used unless said; "
        f"commit {document.get('commit') or 'unknown'}, {document['created']}. Planted worlds as "
        "`sparcode data generate` draws, item vectors from content, trained on a sample of users. Times are "
        "microseconds, p50 / p95; engines take turns on runs of 25 queries, so that each works as a service does that "
        "answers one query after the other, or (*alternating*) on every query, so that each finds the caches as all "
        "others left them. Dense engines stand at the cheapest parameters that reach index recall .95 on validation "
        "queries; index recall in the tables is over the timed queries, against the exact two-tower's best. "
        "`sparcode-learned`: 8 learned lists of 256 postings; `sparcode-default`: what `sparcode build-index` makes "
        "and fits without options. Rescoring reads item vectors of 8 bits.\n",
    ]
    for size in sizes:
        parts.append(f"## {size['items']:,} items\n")
        parts += [_retrieval(size), _whole(size), _storage(size), _opening(size)]
    if "dial" in document:
        parts += ["## From dot product to interaction\n", _dial(document["dial"])]
    parts += ["## Targets\n", targets_markdown(sizes)]
    return "\n".join(parts)


def _retrieval(size: Size) -> str:
    retrieval = size["retrieval"]
    header = ["retrieval alone", "k=10 µs", "index recall", "k=100 µs", "index recall"]
    header += ["batch queries/s k=10", "k=100", "alternating k=10 µs", "k=100 µs"]
    names = sorted(retrieval["latency_us"]["10"], key=lambda name: float(retrieval["latency_us"]["10"][name]["p50"]))
    body = []
    for name in names:
        cells = [name]
        for k in ("10", "100"):
            time, recall = retrieval["latency_us"][k][name], retrieval["index_recall"][k].get(name)
            cells += [f"{time['p50']:.1f} / {time['p95']:.1f}", "" if recall is None else f"{recall:.3f}"]
        cells += [_number(retrieval["batch_qps"][k].get(name)) for k in ("10", "100")]
        cells += [_pair(retrieval["alternating_us"][k][name]) for k in ("10", "100")]
        body.append(cells)
    postings = retrieval["postings"]
    read = "; ".join(
        f"{name}: {each['lists']:.1f} lists, {each['postings']:,.0f} postings" for name, each in postings.items()
    )
    return markdown((header, body)) + f"\nA query reads {read}. Engines on lists read the learned ones.\n"


def _whole(size: Size) -> str:
    header = ["whole query, k=10", "NDCG@10", "encode µs", "retrieve µs", "rescore µs", "total µs"]
    body = []
    for row in size["whole"]:
        low, high = row["intervals"]["ndcg@10"]
        times = row["latency_us"] or {}
        body.append(
            [row["system"], f"{row['metrics']['ndcg@10']:.4f} [{low:.4f}, {high:.4f}]"]
            + [_pair(times.get(stage)) for stage in ("encode", "retrieve", "rescore", "total")]
        )
    best = f"\nBest a ranking can expect that knows the users' states: NDCG@10 {size['optimum_ndcg@10']:.4f}.\n"
    return markdown((header, body)) + best


def _storage(size: Size) -> str:
    header = ["index", "MB", "build s", "peak memory MiB"]
    body = []
    for name, built in size["index"].items():
        parts = size["postings_of"][name]
        whole = (parts["cache_bytes"] + parts["rescorer_bytes"]) / 1e6
        body.append(
            [f"sparcode-{name}", f"{parts['cache_bytes'] / 1e6:.2f} (with rescoring {whole:.2f})",
             f"{built['build_s']:.1f} (scoring {built['score_s']:.1f})", f"{built['peak_bytes'] / 2**20:,.0f}"]
        )  # fmt: skip
    for name, cell in size["dense"].items():
        if "missing" not in cell:
            body.append([name, f"{cell['bytes'] / 1e6:.2f}", f"{cell['build_seconds']:.1f}", ""])
    return markdown((header, body))


def _opening(size: Size) -> str:
    header = ["opening, ms", "open warm", "first answer warm", "open cold", "first answer cold"]
    keys = ("open_warm_s", "answer_warm_s", "open_cold_s", "answer_cold_s")
    body = [
        [name, *(f"{1e3 * times[key]:.2f}" for key in keys)]
        for name, times in size["opening"].items()
        if name != "sparcode_process"
    ]
    process = size["opening"]["sparcode_process"]
    opened, answered = process["open_s"], process["answer_s"]
    note = f"\nFrom process start, imports included: open {opened:.2f} s, first whole answer {answered:.2f} s.\n"
    return markdown((header, body)) + note


def _dial(rows: list[dict[str, Any]]) -> str:
    """NDCG@10 of the systems at each place of the dial, and as a share of the optimum."""
    header = ["NDCG@10 (share of the optimum)", *(f"interaction {row['interaction']:g}" for row in rows)]
    names = [system["system"] for system in rows[0]["systems"]]
    body = [["optimum", *(f"{row['optimum_ndcg@10']:.4f}" for row in rows)]]
    for place, name in enumerate(names):
        cells = [name]
        for row in rows:
            metric = row["systems"][place]["metrics"]["ndcg@10"]
            cells.append(f"{metric:.4f} ({metric / row['optimum_ndcg@10']:.2f})")
        body.append(cells)
    note = (
        f"\n{rows[0]['items']:,} items; 0: a dot product ranks best, 1: a mixture of interests. The optimum knows the "
        "law and the state of every user, which no history tells.\n"
    )
    return markdown((header, body)) + note


def targets_markdown(sizes: list[Size]) -> str:
    """Return a row a target: measured at every size, whether it is met, and by what factor it is missed."""
    header = ["target", *(f"{size['items']:,}" for size in sizes)]
    body = []
    for name, wanted, measure in _TARGETS:
        cells = [name]
        for size in sizes:
            cells.append(_cell(name, wanted(size), measure(size)))
        if any(cells[1:]):
            body.append(cells)
    return markdown((header, body))


def _cell(name: str, goal: float | None, value: float | None) -> str:
    if goal is None:
        return ""
    if value is None:
        return "our NDCG is not the better one" if name in _AT_BETTER_NDCG else ""
    return _verdict(value, goal, at_least=name in _AT_LEAST)


def _verdict(value: float, goal: float, *, at_least: bool) -> str:
    met = value >= goal if at_least else value <= goal
    return f"{value:.3g} ({'met' if met else 'missed'}, {'>=' if at_least else '<='} {goal:g})"


def _graphs(size: Size) -> list[str]:
    return [name for name in size["retrieval"]["latency_us"]["10"] if "hnsw" in name or name.startswith("usearch")]


def _dense(size: Size) -> list[str]:
    return [name for name, cell in size["dense"].items() if "missing" not in cell]


def _reached(size: Size, names: list[str], k: str) -> list[str]:
    return [name for name in names if size["dense"][name][k]["reached"]]


def _ratio(names: Callable[[Size], list[str]], k: str, ours: str = OURS[0]) -> Callable[[Size], float | None]:
    def ratio(size: Size) -> float | None:
        times = size["retrieval"]["latency_us"][k]
        found = [float(times[name]["p50"]) for name in _reached(size, names(size), k)]
        return min(found) / float(times[ours]["p50"]) if found else None

    return ratio


def _batch(k: str) -> Callable[[Size], float | None]:
    def ratio(size: Size) -> float | None:
        rates = size["retrieval"]["batch_qps"][k]
        found = [float(rates[name]) for name in _reached(size, _graphs(size), k) if name in rates]
        return float(rates[OURS[0]]) / max(found) if found else None

    return ratio


def _bm25(size: Size) -> float | None:
    times = size["retrieval"]["latency_us"]["10"]
    return float(times["bm25s-numba"]["p50"]) / float(times[OURS[0]]["p50"]) if "bm25s-numba" in times else None


def _whole_ratio(name: str) -> Callable[[Size], float | None]:
    """Return the ratio of whole queries, None where our NDCG is not the better one."""

    def ratio(size: Size) -> float | None:
        rows = {row["system"]: row for row in size["whole"]}
        graph, ours = rows.get(f"two-tower-{size['best_graph']}"), rows[name]
        if graph is None or ours["metrics"]["ndcg@10"] <= graph["metrics"]["ndcg@10"]:
            return None
        return float(graph["latency_us"]["total"]["p50"]) / float(ours["latency_us"]["total"]["p50"])

    return ratio


def _graph_bytes(size: Size) -> float | None:
    found = [size["dense"][name]["bytes"] for name in ("faiss-hnsw", "hnswlib") if name in _dense(size)]
    return float(min(found)) if found else None


def _bytes(index: str, *parts: str) -> Callable[[Size], float | None]:
    def share(size: Size) -> float | None:
        graph = _graph_bytes(size)
        own = sum(size["postings_of"][index][part] for part in parts)
        return None if graph is None else own / graph

    return share


def _open_ratio(size: Size) -> float | None:
    graph = size["opening"].get("hnswlib")
    return None if graph is None else graph["open_warm_s"] / size["opening"]["sparcode"]["open_warm_s"]


def _build_ratio(index: str) -> Callable[[Size], float | None]:
    def ratio(size: Size) -> float | None:
        cell = size["dense"].get("hnswlib", {})
        return None if "build_seconds" not in cell else size["index"][index]["build_s"] / cell["build_seconds"]

    return ratio


def _peak(size: Size) -> float:
    return max(float(built["peak_bytes"]) for built in size["index"].values()) / 2**30


def _always(value: float) -> Callable[[Size], float | None]:
    return lambda size: value


def _by_items(small: float | None, middle: float | None, large: float | None) -> Callable[[Size], float | None]:
    return lambda size: small if size["items"] <= 30_000 else middle if size["items"] <= 300_000 else large


_TARGETS: list[tuple[str, Callable[[Size], float | None], Callable[[Size], float | None]]] = [
    ("p50 of the best graph / ours, k=10", _always(8), _ratio(_graphs, "10")),
    ("p50 of the best graph / ours, k=100", _always(20), _ratio(_graphs, "100")),
    ("p50 of the best dense engine / ours, k=10", _always(3), _ratio(_dense, "10")),
    ("p50 of the best dense engine / ours, k=100", _always(3), _ratio(_dense, "100")),
    ("p50 of the best graph / ours (default lists), k=10", _always(8), _ratio(_graphs, "10", OURS[1])),
    ("whole query: two-tower with the best graph / ours, at better NDCG", _always(1.5), _whole_ratio(OURS[1])),
    ("the same from the cache, without rescoring", _always(1.5), _whole_ratio(f"{OURS[1]}-cache")),
    ("batch queries/s: ours / best graph, k=10", _always(12), _batch("10")),
    ("batch queries/s: ours / best graph, k=100", _always(25), _batch("100")),
    ("p50 of bm25s on our lists / ours, k=10", _by_items(8, 20, 80), _bm25),
    ("cache bytes / HNSW bytes", _by_items(1, 1 / 3, 1 / 5), _bytes("learned", "cache_bytes")),
    ("cache bytes / HNSW bytes (default lists)", _by_items(1, 1 / 3, 1 / 5), _bytes("default", "cache_bytes")),
    (
        "cache and rescoring bytes / HNSW bytes",
        _by_items(None, None, 1 / 2),
        _bytes("learned", "cache_bytes", "rescorer_bytes"),
    ),
    ("open: hnswlib / ours", _by_items(None, None, 500), _open_ratio),
    ("build seconds / hnswlib's", _by_items(None, None, 1), _build_ratio("learned")),
    ("build seconds / hnswlib's (default lists, fit included)", _by_items(None, None, 1), _build_ratio("default")),
    ("peak memory of the build, GiB", _by_items(None, None, 4), _peak),
]
_AT_BETTER_NDCG = {name for name, _, _ in _TARGETS if name.startswith(("whole query", "the same from the cache"))}
_AT_LEAST = {name for name, _, _ in _TARGETS if not name.startswith(("cache", "build", "peak"))}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _pair(times: dict[str, float] | None) -> str:
    return "" if times is None else f"{times['p50']:.1f} / {times['p95']:.1f}"

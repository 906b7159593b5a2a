"""The costs page: its formulas against files, counters and written-out algorithms, its tables against its JSON."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from sparcode.build.score.scoring import CodeScorer
from sparcode.errors import DataError
from sparcode.index.layout import Family, make_index
from sparcode.index.store import publish
from sparcode.query.codes import decode
from sparcode.retrievers.exact import ExactRetriever

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "costs.md"
RESULTS = ROOT / "benchmarks" / "results" / "costs.json"


@pytest.fixture(scope="module")
def bench(script):
    return script("costs")


@pytest.fixture(scope="module")
def formulas(bench):
    return bench.page.formulas


@pytest.fixture(scope="module")
def worlds(bench):
    return bench.curves.worlds


class Counter:
    """Multiplies as numpy does and counts the products."""

    def __init__(self) -> None:
        self.products = 0

    def matrix(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        self.products += left.size * (right.shape[-1] if right.ndim > 1 else 1)
        return left @ right

    def each(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        found = left * right
        self.products += found.size
        return found


def test_bytes_of_lists_are_those_of_the_files(formulas, worlds, tmp_path):
    lists = worlds.posting_index(500, 12, 20)
    codes = np.indices((4, 4)).reshape(2, -1).T[:12]
    index = make_index(
        lists.indptr, lists.postings, 500, 1.0, [Family("learned", 0, 12)], code_table=codes,
        code_rows=np.arange(16) % 12,
    )  # fmt: skip
    publish(tmp_path / "index", index, model_hash="m", config_hash="c")
    files = sum(path.stat().st_size for path in (tmp_path / "index" / "segs").rglob("*.bin"))
    said = formulas.cache_bytes(12, len(lists.postings), codes=12, books=2, fallback=16)
    assert said == files == index.cache_bytes
    assert formulas.cache_bytes(12, len(lists.postings)) == lists.cache_bytes


@pytest.mark.parametrize(("kind", "hidden", "item_tokens"), [("dot", 0, 1), ("dot", 0, 3), ("hadamard", 7, 2)])
def test_bytes_of_rescoring_are_those_of_its_arrays(formulas, worlds, kind, hidden, item_tokens):
    scorer = worlds.scorer(kind, 30, 8, item_tokens, hidden)
    assert formulas.rescoring_bytes(30, 8, item_tokens, hidden) == scorer.bytes


def test_bytes_of_vectors(formulas, worlds):
    found, _ = worlds.vectors(70, 12, 3)
    assert formulas.exact_bytes(70, 12) == ExactRetriever(None, found).bytes


@pytest.mark.parametrize(("width", "links"), [(16, 8), (32, 32)])
def test_bytes_of_a_graph_are_near_those_of_faiss(formulas, worlds, width, links):
    faiss = pytest.importorskip("faiss")
    found, _ = worlds.vectors(1500, width, 1)
    graph = faiss.IndexHNSWFlat(width, links, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 16
    graph.add(found)
    assert formulas.hnsw_bytes(1500, width, links) == pytest.approx(faiss.serialize_index(graph).nbytes, rel=0.02)


def test_postings_read_are_counted(bench, formulas, worlds):
    index = worlds.posting_index(300, 10, 8)
    queries = [rows for rows, _ in worlds.code_queries(20, 10, 3)]
    lists = [index.row(row)[0].tolist() for row in range(10)]
    told = bench.curves.counted(index, queries)
    assert told["read"] == pytest.approx(np.mean([sum(len(lists[row]) for row in rows) for rows in queries]), abs=0.01)
    union = [len({item for row in rows for item in lists[row]}) for rows in queries]
    assert told["touched"] == pytest.approx(np.mean(union), abs=0.01)
    every = [np.array(rows) for rows in itertools.combinations(range(10), 3)]
    mean_list = len(index.postings) / 10
    assert bench.curves.counted(index, every)["read"] == pytest.approx(formulas.postings_read(3, mean_list), abs=0.01)


def test_items_touched_is_the_mean_over_all_lists(formulas):
    lists = [set(chosen) for chosen in itertools.combinations(range(6), 2)]
    unions = [len(set.union(*some)) for some in itertools.product(lists, repeat=3)]
    assert formulas.items_touched(6, 3, 2) == pytest.approx(np.mean(unions))


@pytest.mark.parametrize("item_tokens", [1, 2])
def test_products_of_scoring_are_those_of_an_algorithm_that_gives_the_scores(formulas, worlds, item_tokens):
    width, hidden, books, codewords, items = 6, 5, 2, 4, 3
    scorer = worlds.scorer("hadamard", items, width, item_tokens, hidden)
    codebooks = np.random.default_rng(1).normal(size=(books, codewords, width // books)).astype(np.float32)
    codes = worlds.product_codes(9, books, codewords)
    count, scores = Counter(), np.zeros((items, len(codes)))
    for item in range(items):
        folded = (
            count.each(scorer.perceptron.item_weight, scorer.flat[item][:, None])
            .reshape(item_tokens, width, hidden)
            .sum(0)
        )
        halves = folded.reshape(books, width // books, hidden)
        words = [np.unique(codes[:, m], return_inverse=True) for m in range(books)]
        partials = [count.matrix(codebooks[m][used], halves[m])[place] for m, (used, place) in enumerate(words)]
        scores[item] = count.matrix(
            np.maximum(sum(partials) + scorer.perceptron.first_bias, 0), scorer.perceptron.out_weight
        )
    mean = scorer.flat.reshape(items, item_tokens, width).mean(axis=1) / scorer.temperature
    scores += mean @ decode(codes, codebooks, "product").T + scorer.item_bias[:, None]
    full = CodeScorer(scorer, codebooks, "product")
    assert np.allclose(scores, full.scores(full.plan(codes)), rtol=1e-4, atol=1e-4)
    used = sum(len(np.unique(codes[:, m])) for m in range(books))
    said = formulas.scoring_products(items, len(codes), used, width // books, width, item_tokens, hidden)
    assert said == count.products


def test_products_of_naive_scoring(formulas, worlds):
    scorer = worlds.scorer("hadamard", 3, 6, 2, 5)
    vectors = np.random.default_rng(2).normal(size=(7, 6)).astype(np.float32)
    count = Counter()
    for item in range(3):
        pairs = count.each(np.tile(vectors, (1, 2)), scorer.flat[item])
        count.matrix(
            np.maximum(count.matrix(pairs, scorer.perceptron.item_weight) + scorer.perceptron.first_bias, 0),
            scorer.perceptron.out_weight,
        )
    assert formulas.naive_scoring_products(3, 7, 6, 2, 5) == count.products


@pytest.mark.parametrize(("kind", "hidden", "item_tokens"), [("dot", 0, 1), ("dot", 0, 2), ("hadamard", 5, 2)])
def test_products_of_rescoring_are_those_of_an_algorithm_that_gives_the_scores(
    formulas, worlds, kind, hidden, item_tokens
):
    scorer = worlds.scorer(kind, 20, 6, item_tokens, hidden)
    tokens = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)
    candidates = np.array([3, 19, 0, 7, 7], np.int32)
    count, scores = Counter(), 4 * scorer.item_bias[candidates].astype(np.float64)
    flat = scorer.flat[candidates]
    for token in np.tile(tokens, (1, item_tokens)):
        scores += count.matrix(flat, token) / (scorer.temperature * item_tokens)
        if hidden:
            folded = count.each(token[:, None], scorer.perceptron.item_weight)
            units = np.maximum(count.matrix(flat, folded) + scorer.perceptron.first_bias, 0)
            scores += count.matrix(units, scorer.perceptron.out_weight)
    assert np.allclose(scores, scorer.score(tokens, candidates), rtol=1e-4, atol=1e-4)
    assert formulas.rescoring_products(5, 4, 6, item_tokens, hidden) == count.products


def test_products_of_a_scan_and_of_finding_codes(formulas, worlds):
    found, asked = worlds.vectors(40, 8, 1)
    count = Counter()
    count.matrix(found, asked[0, 0])
    assert formulas.exact_products(40, 8) == count.products
    count = Counter()
    for part in np.split(asked[0, 0], 2):
        count.matrix(np.zeros((16, 4)), part)
    assert formulas.encoding_products(1, 8, 2, 16) == count.products
    assert formulas.encoding_products(5, 8, 2, 16) == 5 * count.products


DECODERS = [
    {"levels": 3, "codewords": 5, "layers": 0, "width": 6, "inner": 7, "context": 4},
    {"levels": 3, "codewords": 5, "layers": 2, "width": 6, "inner": 7, "context": 4},
    {"levels": 1, "codewords": 9, "layers": 1, "width": 4, "inner": 4, "context": 1},
]


@pytest.mark.parametrize("sizes", DECODERS)
@pytest.mark.parametrize("beams", [1, 3, 30])
def test_products_and_bytes_of_decoding_are_counted(bench, formulas, sizes, beams):
    decoder = formulas.Decoder(**sizes)
    search = bench.curves.BeamSearch(decoder)
    search.search(beams)
    assert search.products == formulas.decoding_products(decoder, beams)
    weights = (search.words, search.out, search.attention, search.up, search.down)
    ids = np.zeros((11, decoder.levels), np.uint16)
    assert formulas.semantic_id_bytes(11, decoder) == ids.nbytes + sum(array.nbytes for array in weights)


@pytest.mark.parametrize("layers", [0, 2])
def test_beam_search_finds_the_most_likely_codes(bench, formulas, layers):
    decoder = formulas.Decoder(levels=3, codewords=4, layers=layers, width=6, inner=5, context=3)
    paths, scores = bench.curves.BeamSearch(decoder).search(64)
    assert len({tuple(path) for path in paths.tolist()}) == 64, "as many beams as codes: all of them"
    assert np.exp(scores.astype(np.float64)).sum() == pytest.approx(1, abs=1e-4)
    assert (np.diff(scores) <= 0).all()
    few, best = bench.curves.BeamSearch(decoder).search(16)
    assert few[0].tolist() == paths[0].tolist()
    assert best[0] == pytest.approx(scores[0], abs=1e-5)


def test_a_decoder_step_attends_to_its_own_past(bench, formulas):
    decoder = formulas.Decoder(levels=2, codewords=3, layers=1, width=4, inner=4, context=2)
    one, other = bench.curves.BeamSearch(decoder), bench.curves.BeamSearch(decoder)
    other.start = -other.start
    assert not np.allclose(one.search(9)[1], other.search(9)[1])


def test_products_of_making_semantic_ids(formulas):
    count, residual = Counter(), np.zeros((30, 8))
    for _ in range(3 * 2):  # three passes over each of two levels
        count.matrix(residual, np.zeros((8, 5)))
    assert formulas.quantizing_products(30, 8, 2, 5, 3) == count.products


def test_lists_have_the_length_asked_for_and_the_same_seed_gives_the_same_world(worlds):
    index = worlds.posting_index(5000, 40, 64)
    assert 56 < len(index.postings) / 40 <= 64
    again = worlds.posting_index(5000, 40, 64)
    assert index.postings.tobytes() == again.postings.tobytes()
    assert worlds.posting_index(20, 3, 40).lengths().max() <= 20
    for rows, weights in worlds.code_queries(5, 40, 8):
        assert len(set(rows.tolist())) == len(weights) == 8


def test_systems_take_turns(bench):
    order: list[str] = []
    subjects = [
        bench.curves.Subject({"name": name}, lambda value, name=name: order.append(name + value), [("0",), ("1",)])
        for name in "ab"
    ]
    points = bench.curves.medians(subjects, 2)
    assert [point["name"] for point in points] == ["a", "b"]
    assert all(point["calls"] == 4 and point["p50_us"] >= 0 for point in points)
    assert "".join(each[0] for each in order[12:]) == "aaabbb" + "bbbaaa", "after finding the size of a block"


def test_every_search_is_measured_once_and_the_base_comes_first(bench):
    plan = bench.curves.Plan()
    sizes = bench.curves.search_sizes(plan)
    assert sizes[0] == plan.base
    assert len(sizes) == len(set(sizes))
    assert {size[0] for size in sizes} == set(plan.items)
    assert sum(size[1:] == plan.base[1:] for size in sizes) == len(plan.items)
    assert not set(plan.held_out) & set(sizes)


def test_a_fit_finds_planted_constants_and_leaves_out_what_is_not_there(bench):
    fits = bench.fits
    points = [
        {"system": "exact", "items": n, "width": d, "p50_us": (2000 + 0.25 * n * d) / 1000}
        for n, d in itertools.product((100, 1000, 10_000), (8, 16, 64))
    ]
    found = fits.fit(fits.MODELS["scan"], {"retrieval": points})
    assert found["constants"] == {
        "call": 2000.0, "product": 0.25, "item": pytest.approx(0, abs=1e-6), "byte from memory": 0.0,
    }  # fmt: skip
    assert (found["ratio_low"], found["ratio_median"], found["ratio_high"]) == (1, 1, 1)
    assert fits.predicted("scan", {"scan": found}, points[0]) == pytest.approx(points[0]["p50_us"])
    walks = [
        {"system": "hnsw", "items": n, "ef": ef, "distances": 300 * (ef / 100) ** 0.75 * (n / 1e4) ** 0.125}
        for n, ef in itertools.product((1000, 10_000, 30_000), (8, 64))
    ]
    told = fits.fit(fits.MODELS["distances"], {"retrieval": walks})
    assert told["constants"] == {"factor": 300.0, "ef": 0.75, "n": 0.125}
    assert fits.predicted("distances", {"distances": told}, walks[1]) == pytest.approx(walks[1]["distances"])
    matrix = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])
    assert fits.non_negative(matrix, np.array([3.0, 2.0, 1.0])).tolist() == pytest.approx([2, 0])
    assert fits.non_negative(-matrix, np.ones(3)).tolist() == [0, 0]


def test_everything_is_measured_written_and_can_be_written_again(bench, formulas, tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    pytest.importorskip("matplotlib")
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "costs.md").write_text("before\n<!-- begin items -->\nold\n<!-- end items -->\nafter\n")
    arguments = ["--out", str(tmp_path / "costs.json"), "--docs", str(docs)]
    document = bench.main([*arguments, "--small"])
    assert set(document["curves"]) == {"retrieval", "graphs", "decoding", "rescoring", "scoring"}
    systems = {point["system"] for point in document["curves"]["retrieval"]}
    assert systems == {"sparcode", "exact", "hnsw"}
    text = (docs / "costs.md").read_text()
    assert text == f"before\n<!-- begin items -->\n{bench.page.items(document)}<!-- end items -->\nafter\n"
    assert (docs / "images" / "costs.png").stat().st_size > 10_000
    for point in document["curves"]["retrieval"]:
        if point["system"] == "sparcode":
            assert point["bytes"] == formulas.cache_bytes(point["codes"], point["postings"])
    monkeypatch.setattr(bench.curves, "medians", None)
    assert bench.main([*arguments, "--page"]) == json.loads((tmp_path / "costs.json").read_text())


def test_a_mark_without_a_table_is_named(bench):
    with pytest.raises(DataError, match="'nothing'"):
        bench.page.replaced("<!-- begin nothing -->\n<!-- end nothing -->", {"items": ""})


def test_the_page_quotes_the_results(bench):
    text, document = PAGE.read_text(encoding="utf-8"), json.loads(RESULTS.read_text(encoding="utf-8"))
    tables = bench.page.blocks(document)
    assert bench.page.replaced(text, tables) == text, "write the tables again: python benchmarks/costs.py --page"
    assert sorted(re.findall(r"<!-- begin (\S+) -->", text)) == sorted(tables)
    assert text.count("<!-- end ") == len(tables)
    assert (PAGE.parent / "images" / "costs.png").exists()


def test_the_constants_are_those_of_the_measured_curves(bench):
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    for name, fitted in bench.fits.fit_all(document["curves"]).items():
        told, again = document["fits"][name], fitted["constants"]
        assert told["constants"] == {term: pytest.approx(value, rel=1e-2) for term, value in again.items()}
        assert told["points"] == fitted["points"] > len(again)


def test_bytes_in_the_results_are_those_of_the_formulas(formulas):
    curves = json.loads(RESULTS.read_text(encoding="utf-8"))["curves"]
    for point in curves["retrieval"]:
        if point["system"] == "sparcode":
            assert point["bytes"] == formulas.cache_bytes(point["codes"], point["postings"])
        elif point["system"] == "exact":
            assert point["bytes"] == formulas.exact_bytes(point["items"], point["width"])
    for point in curves["graphs"]:
        said = formulas.hnsw_bytes(point["items"], point["width"], point["links"])
        assert point["bytes"] == pytest.approx(said, rel=0.02)


def test_numbers_told_in_words_follow_from_the_formulas(bench, formulas):
    text = PAGE.read_text(encoding="utf-8")
    page, decoder = bench.page, formulas.Decoder()
    assert f"takes {formulas.hnsw_bytes(1, 64, 32):.0f} bytes an item" in text
    assert f"fewer than {formulas.hnsw_bytes(1, 64, 32) / 4:.0f}" in text
    sizes = f"p = {page.MEAN_LIST}, K_u = {page.TOKENS}, M = 2, N = 256, d = {page.WIDTH}, H = {page.HIDDEN}"
    assert sizes in text
    assert f"L = {decoder.levels}, D = {decoder.layers}, w = {decoder.width}" in text
    assert f"f = {decoder.inner}, T = {decoder.context}, b = {page.BEAMS}" in text
    n, codes, mean_list, tokens, k = bench.curves.Plan().base
    assert f"Base: n = {n:,}, C = {codes:,}, p = {mean_list}, K_u = {tokens}, k = {k}." in text

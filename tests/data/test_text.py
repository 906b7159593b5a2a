"""Text of items as vectors: the encoding, what is read of an item, saving, `like`, and no scikit-learn when serving."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sparcode.config import DataConfig
from sparcode.data.dataset import Dataset, load_dataset, open_dataset, save_dataset
from sparcode.data.ids import IdMap
from sparcode.data.metadata import documents, encode, read_metadata
from sparcode.data.storage import verify_dataset
from sparcode.data.synthetic import planted_groups
from sparcode.data.tables import Tables
from sparcode.data.text import TextEncoder
from sparcode.data.validate import report_lines, validate
from sparcode.errors import CorruptIndexError, MissingExtraError

WORDS = 40
ROWS = 120


def _sentences(rows: int = ROWS, words: int = WORDS, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [" ".join(f"word{word}" for word in random.integers(0, words, 8)) for _ in range(rows)]


TEXTS = _sentences()


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return _fitted(TEXTS, 16)


def _fitted(texts: list[str], width: int) -> TextEncoder:
    found = TextEncoder.fit(texts, width)
    assert found is not None
    return found


def _slow_weights(texts: list[str]) -> tuple[list[str], np.ndarray]:
    """TF-IDF term by term: single words and neighbours, in two texts or more and at most half of them."""
    split = [text.split() for text in texts]
    grams = [words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)] for words in split]
    found = {term: sum(term in row for row in grams) for term in {term for row in grams for term in row}}
    terms = sorted(term for term, count in found.items() if 2 <= count <= len(texts) / 2)
    weights = np.zeros((len(texts), len(terms)))
    for row, words in enumerate(grams):
        for place, term in enumerate(terms):
            if term in words:
                idf = np.log((1 + len(texts)) / (1 + found[term])) + 1
                weights[row, place] = (1 + np.log(words.count(term))) * idf
    return terms, weights / np.linalg.norm(weights, axis=1, keepdims=True)


def _cosines(vectors: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


def test_equals_slow_tf_idf_and_svd() -> None:
    texts = _sentences(60, 12)
    terms, weights = _slow_weights(texts)
    left, singular, _ = np.linalg.svd(weights, full_matrices=False)
    encoder = _fitted(texts, 200)
    width = encoder.width
    assert list(encoder.terms) == terms
    assert width == np.linalg.matrix_rank(weights)
    # Signs of singular vectors are free, inner products of rows are not.
    assert np.allclose(_cosines(encoder.transform(texts)), _cosines(left[:, :width] * singular[:width]), atol=1e-5)


def test_narrow_vectors_are_the_strongest_directions() -> None:
    # A randomised SVD is exact where the singular values have a gap: three topics of their own words.
    texts = [text.replace("word", f"topic{row % 3}n") for row, text in enumerate(_sentences(90, 8))]
    _, weights = _slow_weights(texts)
    left, singular, right = np.linalg.svd(weights, full_matrices=False)
    assert singular[2] > 1.5 * singular[3]
    encoder = _fitted(texts, 3)
    assert np.allclose(np.abs((right[:3] * encoder.components.T).sum(axis=1)), 1, atol=1e-6)
    assert np.allclose(_cosines(encoder.transform(texts)), _cosines(left[:, :3] * singular[:3]), atol=1e-3)


def test_length_of_rows(encoder: TextEncoder) -> None:
    found = encoder.transform(TEXTS)
    assert (found.dtype, found.shape) == (np.float32, (ROWS, 16))
    assert np.allclose(np.linalg.norm(found, axis=1), np.sqrt(16) / 4)


def test_rows_without_text_are_zero(encoder: TextEncoder) -> None:
    mixed = ["", TEXTS[3], "  \n", "unheard of", TEXTS[5]]
    found = encoder.transform(mixed)
    assert not found[[0, 2, 3]].any()
    assert np.array_equal(found[[1, 4]], encoder.transform([TEXTS[3], TEXTS[5]]))
    # Blank rows do not count as documents either.
    assert np.array_equal(_fitted(["", *TEXTS, " "], 16).components, encoder.components)


def test_fit_is_deterministic_and_is_what_transform_gives(encoder: TextEncoder) -> None:
    found = TextEncoder.fit_transform(["", *TEXTS], 16)
    assert found is not None
    again, vectors = found
    assert again.terms == encoder.terms
    assert np.array_equal(again.idf, encoder.idf)
    assert np.array_equal(again.components, encoder.components)
    assert np.array_equal(vectors, encoder.transform(["", *TEXTS]))


def test_bytes_do_not_depend_on_threads() -> None:
    code = (
        "import numpy as np, sys, hashlib; from sparcode.data.text import TextEncoder; "
        "random = np.random.default_rng(0); "
        "texts = [' '.join(f'w{i}' for i in random.integers(0, 900, 30)) for _ in range(1500)]; "
        "print(hashlib.sha256(TextEncoder.fit_transform(texts, 64)[1].tobytes()).hexdigest())"
    )
    answers = set()
    for threads in ("1", "2"):
        environment = {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "PATH": ""}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        answers.add(done.stdout)
    assert len(answers) == 1


def test_arrays_round_trip(encoder: TextEncoder) -> None:
    arrays, terms = encoder.to_arrays()
    again = TextEncoder.from_arrays(arrays, json.loads(json.dumps(terms)))
    assert np.array_equal(again.transform(TEXTS), encoder.transform(TEXTS))


@pytest.mark.parametrize(
    "texts",
    [
        [],
        TEXTS[:49] + [""] * 100,
        ["the same words"] * 100,
        [f"only{row}" for row in range(100)],
        _sentences(100, 3)[:50],
        ["the of and"] * 60,
    ],
    ids=["none", "few rows", "in every text", "in one text", "few terms", "stop words"],
)
def test_too_little_text(texts: list[str]) -> None:
    assert TextEncoder.fit(texts, 16) is None


def test_missing_scikit_learn_names_the_extra(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    for encode_texts in (lambda: TextEncoder.fit(TEXTS, 16), lambda: encoder.transform(TEXTS)):
        with pytest.raises(MissingExtraError, match=r"text_width=0.*'scikit-learn'.*sparcode\[train\]"):
            encode_texts()
    assert not encoder.transform(["", " "]).any()
    assert TextEncoder.fit(TEXTS[:10], 16) is None


# What is read of an item


def _table(rows: int = ROWS) -> pa.Table:
    place = range(rows)
    return pa.table(
        {
            "description": [f"{text} and more of it, to be longer than a name or a label" for text in _sentences(rows)],
            "brand": [["acme", "globex", "initech"][row % 3] for row in place],
            "tags": [[f"tag{row % 5}", f"single{row}"] for row in place],
            "piped": [f"left{row % 4}|right{row % 2}" for row in place],
            "own": [[f"own{row}"] for row in place],
            "raw_id": [f"raw{row}" for row in place],
            "site": [f"https://example.org/{text}" for text in _sentences(rows, seed=1)],
            "pictures": [[f"http://example.org/{row % 7}.png"] for row in place],
            "year": [str(1950 + row) for row in place],
            "code": [row % 3 for row in place],
            "sizes": [[row % 3, 7] for row in place],
            "price": [row / 7 for row in place],
        }
    )


TITLES = pa.array([f"title{row % 6}" for row in range(ROWS)], pa.large_string())


def test_what_is_read_of_an_item() -> None:
    features, ignored, text = encode(_table(), TITLES, 24)
    assert text is not None
    assert (text.name, text.title, text.columns) == ("text", True, ["brand", "tags", "piped", "own", "description"])
    assert set(ignored) == {"raw_id", "site"}
    assert features is not None
    assert (features.layout.vector_names, features.layout.vector_widths) == (["text"], [24])
    known = {word for term in text.encoder.terms for word in term.split()}
    assert {"title3", "acme", "tag4", "left2", "right1", "word5"} <= known
    assert not any(word.startswith(("raw", "http", "example", "19", "20", "single", "own")) for word in known)
    texts = documents(_table(), TITLES, text.columns)
    assert texts[1].startswith("title1 globex tag1 single1 left1 right1 own1 word")
    assert features.vector is not None
    assert np.array_equal(features.vector, text.encoder.transform(texts))
    assert np.array_equal(features.dense([7])[0, -24:], features.vector[7])


def test_everything_else_is_encoded_as_without_text() -> None:
    plain, ignored, text = encode(_table(), TITLES, 0)
    features = encode(_table(), TITLES, 24)[0]
    assert text is None
    assert {"description", "own"} < set(ignored)
    assert plain is not None
    assert features is not None
    rows = np.arange(ROWS)
    assert np.array_equal(features.dense(rows)[:, :-24], plain.dense(rows))


def test_documents_are_limited_and_mind_nulls() -> None:
    table = pa.table({"a": ["x" * 1990, None, " "], "b": [["yy", None, "z" * 3000], None, []]})
    assert [len(text) for text in documents(table, None, ["b", "missing", "a"])] == [2000, 0, 0]
    assert documents(table, None, ["a", "b"])[0] == "x" * 1990 + " yy " + "z" * 6
    assert documents(pa.table({"a": [1, 2], "b": pa.nulls(2)}), None, ["a", "b"]) == ["", ""]


@pytest.mark.parametrize(
    ("column", "name"),
    [
        (_sentences(seed=2), "text"),
        ([[0.5, float(row)] for row in range(ROWS)], "text_vector"),
        (["one", "two"] * (ROWS // 2), "text_vector"),
        ([row / 3 for row in range(ROWS)], "text_vector"),
    ],
    ids=["free text", "vector", "category", "number"],
)
def test_a_column_that_is_called_text(column: list, name: str) -> None:
    table = _table().append_column("text", pa.array(column))
    features, _, text = encode(table, None, 24)
    assert text is not None
    assert text.name == name
    assert features is not None
    assert features.layout.vector_names[-1] == name
    both = table.append_column("text_vector", pa.array([[1.0]] * ROWS))
    if name == "text_vector":
        again = encode(both, None, 24)[2]
        assert again is not None
        assert again.name == "text_vector_"


def test_tiny_tables_and_users_get_no_vector() -> None:
    features, ignored, text = encode(_table(40), TITLES[:40], 24)
    assert text is None
    assert features is not None
    assert features.layout.vector_names == []
    assert "description" in ignored
    table = _table().append_column("user_id", pa.array(range(ROWS)))
    found = read_metadata(table, "user", "user_id", IdMap(list(range(ROWS))))
    assert found.text is None
    assert "text" not in found.summary


# Whole datasets


def _world(rows: int = ROWS, seed: int = 3) -> Tables:
    tables = planted_groups(users=80, items=rows)
    assert tables.items is not None
    users = pa.array([f"{text} is what this user says of themselves, at length" for text in _sentences(80)])
    assert tables.users is not None
    items = tables.items.append_column("description", pa.array(_sentences(rows, seed=seed)))
    return Tables(tables.interactions, items, tables.users.append_column("about", users), source="world")


@pytest.fixture(scope="module")
def world() -> Dataset:
    return load_dataset(_world(), DataConfig(text_width=20), seed=0)


def test_dataset_holds_the_vector_of_every_item(world: Dataset) -> None:
    assert world.item_features is not None
    assert world.item_features.layout.vector_names == ["text"]
    assert world.item_features.vector is not None
    assert world.item_features.vector.any(axis=1).all()
    assert world.user_features is not None
    assert world.user_features.vector is None
    summary = world.summary["items_table"]
    assert summary["ignored"] == {}
    assert summary["text"] == {
        "vector": "text",
        "width": 20,
        "terms": len(world.item_text.encoder.terms) if world.item_text else 0,
        "rows": world.item_count,
        "columns": ["title", "categories", "description"],
    }
    assert "about" in world.summary["users_table"]["ignored"]
    json.dumps(world.summary)


def test_width_zero_turns_it_off() -> None:
    found = load_dataset(_world(), DataConfig(text_width=0), seed=0)
    assert found.item_text is None
    assert found.item_features is not None
    assert found.item_features.vector is None
    assert "description" in found.summary["items_table"]["ignored"]


def test_items_without_a_row_are_zero(world: Dataset) -> None:
    tables = _world()
    assert tables.items is not None
    found = load_dataset(replace(tables, items=tables.items.slice(0, 70)), DataConfig(text_width=20), seed=0)
    assert found.item_features is not None
    assert found.item_features.vector is not None
    with_row = np.array([item < 170 for item in found.item_ids.to_external(range(found.item_count))])
    assert np.array_equal(found.item_features.vector.any(axis=1), with_row)


def test_round_trip_through_files(world: Dataset, tmp_path: Path) -> None:
    save_dataset(world, tmp_path / "data")
    verify_dataset(tmp_path / "data")
    opened = open_dataset(tmp_path / "data")
    assert opened.item_text is not None
    assert world.item_text is not None
    assert (opened.item_text.name, opened.item_text.title) == ("text", True)
    assert opened.item_text.columns == world.item_text.columns
    for ours, theirs in ((opened.item_text.encoder, world.item_text.encoder),):
        assert list(ours.terms) == list(theirs.terms)
        assert ours.idf.tobytes() == theirs.idf.tobytes()
        assert ours.components.tobytes() == theirs.components.tobytes()
        assert ours.transform(TEXTS).tobytes() == theirs.transform(TEXTS).tobytes()
    assert opened.item_features is not None
    assert world.item_features is not None
    assert np.array_equal(opened.item_features.vector, world.item_features.vector)
    # Saved again from the opened one, bytes are the same.
    save_dataset(opened, tmp_path / "again")
    for file in (tmp_path / "data").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped", "foreign"])
def test_damage_is_found(world: Dataset, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "data"
    save_dataset(world, folder)
    file = folder / "item_text.arrow"
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-50])
    elif damage == "flipped":
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
        with pytest.raises(CorruptIndexError, match="SHA-256 is"):
            verify_dataset(folder)
        return
    else:
        content = json.loads((folder / "dataset.json").read_text())
        content["item_features"]["vector_widths"] = [19]
        (folder / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(CorruptIndexError) as caught:
        open_dataset(folder)
    assert "\n" not in str(caught.value)


def test_like_uses_the_earlier_encoding(world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_dataset(world, tmp_path / "data")
    earlier = open_dataset(tmp_path / "data")
    assert earlier.item_text is not None
    assert earlier.item_features is not None
    assert earlier.item_features.vector is not None
    monkeypatch.setattr(TextEncoder, "fit_transform", lambda *_: pytest.fail("fitted again"))
    tables = _world()
    extra = pa.table({"user_id": ["a new user"] * 2, "item_id": [7777, 100], "timestamp": [2_000_000_000] * 2})
    # An item known before with another text, a new one, an unknown word, and a column of its own.
    items = pa.table(
        {
            "item_id": [101, 7777],
            "title": ["Other", "New"],
            "categories": [["group 1"], ["group 2", "jazz"]],
            "description": ["word1 word2", "word3 unheard"],
            "text": [[1.0] * 20, [2.0] * 20],
        }
    )
    grown = replace(tables, interactions=pa.concat_tables([tables.interactions, extra]), items=items)
    found = load_dataset(grown, DataConfig(split_by="none", text_width=50), seed=9, like=earlier)
    assert found.item_text is earlier.item_text
    assert found.item_features is not None
    assert found.item_features.layout.to_json() == earlier.item_features.layout.to_json()
    assert found.item_features.vector is not None
    changed, new = found.item_ids.to_internal([101, 7777])
    expected = earlier.item_text.encoder.transform(
        ["Other group 1 word1 word2", "New group 2 jazz word3 unheard"]  # in the order of the earlier columns
    )
    assert np.array_equal(found.item_features.vector[[changed, new]], expected)
    same = np.setdiff1d(np.arange(earlier.item_count), [changed])
    assert np.array_equal(found.item_features.vector[same], earlier.item_features.vector[same])
    summary = found.summary["items_table"]
    assert summary["ignored"] == {"text": "not a feature of the earlier run"}
    assert summary["text"]["columns"] == ["title", "categories", "description"]
    assert summary["text"]["rows"] == 2
    # The whole once more: a run like a run like the first one.
    save_dataset(found, tmp_path / "second")
    third = load_dataset(_world(), DataConfig(), seed=1, like=open_dataset(tmp_path / "second"))
    assert third.item_features is not None
    rows = np.arange(earlier.item_count)
    assert np.array_equal(third.item_features.dense(rows), earlier.item_features.dense(rows))


def test_like_without_an_items_table_needs_no_scikit_learn(world: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    found = load_dataset(replace(_world(), items=None), DataConfig(), seed=0, like=world)
    assert found.item_features is not None
    assert world.item_features is not None
    assert np.array_equal(found.item_features.vector, world.item_features.vector)
    with pytest.raises(MissingExtraError, match="scikit-learn"):
        load_dataset(_world(), DataConfig(), seed=0, like=world)


def test_like_a_dataset_without_text_makes_none() -> None:
    plain = load_dataset(_world(), DataConfig(text_width=0), seed=0)
    found = load_dataset(_world(), DataConfig(), seed=0, like=plain)
    assert found.item_text is None
    assert found.item_features is not None
    assert found.item_features.vector is None
    assert found.summary["items_table"]["ignored"] == {"description": "not a feature of the earlier run"}


def test_report_names_the_text() -> None:
    report = validate(_world(), DataConfig())
    line = next(line for line in report_lines(report) if line.startswith("items"))
    assert "features: categories, year, text; text is a vector of 12" in line
    assert "columns made of title, categories, description (" in line
    assert "left out" not in line
    off = "\n".join(report_lines(validate(_world(), DataConfig(text_width=0))))
    assert "left out: description (almost every row has its own text)" in off


def test_opening_never_loads_scikit_learn(world: Dataset, tmp_path: Path) -> None:
    save_dataset(world, tmp_path / "data")
    code = (
        "import sys; sys.modules['sklearn'] = None; from sparcode.data.storage import open_dataset; "
        f"d = open_dataset({str(tmp_path / 'data')!r}); d.item_features.dense([0, 1]); d.item_text.encoder.width; "
        "d.user_features.encode_json({'age': 30}); sys.exit('scipy' in sys.modules or 'threadpoolctl' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

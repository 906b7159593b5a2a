"""The tokenizer as a whole: what it keeps, what it refuses, and the folder it lives in. Fast methods stand for all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparcode.errors import (
    ConfigError,
    CorruptIndexError,
    DataError,
    IndexMismatchError,
    QueryError,
    RunError,
    SparcodeError,
)
from sparcode.semantic_id import store
from sparcode.semantic_id.mapping import SemanticIds
from sparcode.semantic_id.tokenizer import SemanticIdTokenizer
from sparcode.types import Sequences
from tests.semantic_id.worlds import planted

ITEMS = planted()
X, CATEGORIES = ITEMS.vectors, ITEMS.categories
NAMES = [f"item {row}" for row in range(400)]


def prefix(**more: Any) -> SemanticIdTokenizer:
    return SemanticIdTokenizer("category-prefix", codebooks=3, codebook_size=8, **more)


@pytest.fixture(scope="module")
def fitted() -> SemanticIdTokenizer:
    return prefix().fit(X, NAMES, CATEGORIES)


@pytest.fixture
def folder(fitted: SemanticIdTokenizer, tmp_path: Path) -> Path:
    fitted.save(tmp_path / "sid")
    return tmp_path / "sid"


def test_ids_are_numbers_unless_given(fitted: SemanticIdTokenizer) -> None:
    assert prefix().fit(X, categories=CATEGORIES).semantic_ids.ids.to_pylist() == list(range(400))
    assert fitted.semantic_ids.ids.to_pylist() == NAMES


def test_decoding_is_in_the_scale_of_the_input(fitted: SemanticIdTokenizer) -> None:
    shifted = prefix(standardise="columns").fit(X * 50 + 1000, NAMES, CATEGORIES)
    assert abs(shifted.decode(shifted.semantic_ids).mean() - 1000) < 20
    with_extra = fitted.semantic_ids.codes
    np.testing.assert_array_equal(fitted.decode(with_extra), fitted.decode(with_extra[:, :-1]))


def test_an_extra_digit_out_of_range_is_refused(fitted: SemanticIdTokenizer) -> None:
    wrong = np.array(fitted.semantic_ids.codes[:2])
    wrong[1, -1] = fitted.sizes[-1]
    with pytest.raises(QueryError, match=f"digit 4 lies in 0..{fitted.sizes[-1] - 1}"):
        fitted.decode(wrong)


def test_sids_of_different_lengths_are_refused(fitted: SemanticIdTokenizer) -> None:
    ragged: Any = [[1, 2], [1]]
    for use in (fitted.decode, fitted.semantic_ids.items_of, fitted.semantic_ids.items_under):
        with pytest.raises(QueryError, match="SIDs of different lengths"):
            use(ragged)


def test_whole_numbers_of_numpy_are_whole_numbers(tmp_path: Path) -> None:
    three, eight = np.int64(3), np.int32(8)
    for size in (eight, [eight] * 3, np.full(3, 8)):
        given: Any = {"codebooks": three, "codebook_size": size}
        tokenizer = SemanticIdTokenizer("random", **given).fit(X)
        assert tokenizer.sizes[:3] == (8, 8, 8)
        tokenizer.save(tmp_path / "sid")


def test_methods_and_sizes_that_are_misspelt() -> None:
    with pytest.raises(ConfigError, match="did you mean 'rq-kmeans'"):
        SemanticIdTokenizer("rqkmeans")
    for size in ("abc", 8.0):
        wrong: Any = size
        with pytest.raises(ConfigError, match=f"codebook_size={size!r}: a whole number"):
            SemanticIdTokenizer("pq", codebook_size=wrong)


def test_one_item_is_too_few_for_any_codebook() -> None:
    with pytest.raises(DataError, match="1 item found; at least 2 expected"):
        SemanticIdTokenizer(codebook_size=8).fit(X[:1])


def test_sids_of_another_tokenizer_are_refused(fitted: SemanticIdTokenizer) -> None:
    other = prefix(seed=1).fit(X, NAMES, CATEGORIES)
    assert other.fingerprint != fitted.fingerprint
    with pytest.raises(IndexMismatchError, match=other.fingerprint):
        fitted.decode(other.semantic_ids)


def test_assigning_stores_nothing_and_keeps_what_is_known(fitted: SemanticIdTokenizer) -> None:
    moved = X[:5] + 3
    given = fitted.assign(np.concatenate([moved, X[:2]]), [*NAMES[:5], "new", "newer"], [*CATEGORIES[:5], None, None])
    np.testing.assert_array_equal(given.codes[:5], fitted.semantic_ids.codes[:5])
    assert len(fitted.semantic_ids) == 400
    assert not any(fitted.semantic_ids.items_of(given.codes[5:]))
    assert given.tokenizer == fitted.fingerprint
    assert fitted.assign(X[:2], NAMES[:2]).ids.to_pylist() == NAMES[:2]


def test_appending_in_two_calls_is_appending_in_one() -> None:
    sizes = {"codebooks": 4, "codebook_size": 64, "category_digits": 2, "extra_size": 400}
    for policy in ("extra-digit", "next-best", "sinkhorn-last", "none"):
        one, two = (SemanticIdTokenizer("category-prefix", collisions=policy, **sizes) for _ in range(2))
        for tokenizer in (one, two):
            tokenizer.fit(X[:200], NAMES[:200], CATEGORIES[:200])
        one.append(X[200:], NAMES[200:], CATEGORIES[200:])
        two.append(X[200:301], NAMES[200:301], CATEGORIES[200:301])
        two.append(X[290:], NAMES[290:], CATEGORIES[290:])
        np.testing.assert_array_equal(one.semantic_ids.codes, two.semantic_ids.codes)
        assert one.fingerprint == two.fingerprint


def test_appended_items_are_saved(folder: Path) -> None:
    opened = SemanticIdTokenizer.load(folder)
    opened.append(X[:1], ["new"])
    opened.save(folder)
    again = SemanticIdTokenizer.load(folder)
    assert again.semantic_ids.code_of("new") == opened.semantic_ids.code_of("new")
    assert len(list(folder.iterdir())) == 3


def test_base_numbers_go_on() -> None:
    tokenizer = SemanticIdTokenizer("base", codebooks=2, codebook_size=20).fit(X[:300])
    assert tokenizer.sizes == (20, 20)
    assert tokenizer.append(X[:2], [1000, 1001]).codes.tolist() == [[15, 0], [15, 1]]
    with pytest.raises(DataError, match="item number 400 does not fit into 2 digits"):
        tokenizer.append(X[:99], np.arange(2000, 2099))


def test_learning_from_some_rows_encodes_all() -> None:
    tokenizer = prefix(fit_rows=100).fit(X, NAMES, CATEGORIES)
    assert len(tokenizer.semantic_ids) == 400
    assert tokenizer.fingerprint != prefix().fit(X, NAMES, CATEGORIES).fingerprint
    sequences = Sequences(np.array([0, 2]), np.array([0, 1], np.int32), np.array([]))
    with pytest.raises(ConfigError, match="fit_rows and sequences"):
        prefix(fit_rows=100).fit(X, NAMES, CATEGORIES, sequences)


def test_mapped_and_half_precision_vectors(tmp_path: Path, fitted: SemanticIdTokenizer) -> None:
    np.save(tmp_path / "x.npy", X)
    mapped = prefix().fit(np.load(tmp_path / "x.npy", mmap_mode="r"), NAMES, CATEGORIES)
    assert mapped.fingerprint == fitted.fingerprint
    half = prefix().fit(X.astype(np.float16), NAMES, CATEGORIES)
    np.testing.assert_array_equal(half.encode(X.astype(np.float16)), half.encode(X.astype(np.float16).astype("f")))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "rq-kmean"}, "unknown method 'rq-kmean'"),
        ({"collisions": "x"}, "collisions='x'"),
        ({"fit_rows": 0}, "fit_rows=0"),
        ({"extra_size": 1.5}, "extra_size=1.5"),
        ({"seed": "x"}, "seed='x'"),
    ],
)
def test_arguments_are_checked_at_once(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SemanticIdTokenizer(**arguments)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codebooks": 0}, "codebooks=0"),
        ({"codebooks": 3, "codebook_size": [8, 8]}, "lists 2 sizes for 3"),
        ({"codebook_size": 1}, "codebook_size=1"),
        ({"standardise": "l2"}, "standardise='l2'"),
    ],
)
def test_sizes_are_checked_when_fitting(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SemanticIdTokenizer("random", **options).fit(X)


def test_lists_count_their_digits() -> None:
    assert SemanticIdTokenizer("random", codebook_size=[8, 4], collisions="none").fit(X).sizes == (8, 4)
    uneven = SemanticIdTokenizer("category-prefix", codebook_size=[8, 4], collisions="none").fit(X, NAMES, CATEGORIES)
    assert uneven.sizes == (3, 8, 4)


def test_what_fit_refuses() -> None:
    with pytest.raises(DataError, match="10 items cannot fill 256 codewords; lower codebook_size to at most 10"):
        SemanticIdTokenizer("category-prefix", codebook_size=256).fit(X[:10], categories=CATEGORIES[:10])
    with pytest.raises(DataError, match="399 ids found for 400 vectors"):
        prefix().fit(X, NAMES[:399], CATEGORIES)
    with pytest.raises(DataError, match="'item 0' occurs 2 times"):
        prefix().fit(X, [*NAMES[:399], "item 0"], CATEGORIES)
    with pytest.raises(DataError, match="399 categories found"):
        prefix().fit(X, NAMES, CATEGORIES[:399])
    with pytest.raises(DataError, match="sequences hold item 400"):
        prefix().fit(X, NAMES, CATEGORIES, Sequences(np.array([0, 1]), np.array([400], np.int32), np.array([])))


def test_nothing_works_before_fit(tmp_path: Path) -> None:
    tokenizer = SemanticIdTokenizer("random")
    for use in (lambda: tokenizer.encode(X), lambda: tokenizer.save(tmp_path / "x"), lambda: tokenizer.semantic_ids):
        with pytest.raises(RunError, match="not fitted"):
            use()


def test_lengths_that_do_not_agree(fitted: SemanticIdTokenizer) -> None:
    with pytest.raises(DataError, match="2 categories found for 3 items"):
        fitted.encode(X[:3], CATEGORIES[:2])
    with pytest.raises(DataError, match="2 ids found for 3 vectors"):
        fitted.assign(X[:3], ["a", "b"])
    with pytest.raises(DataError, match="'a' occurs 2 times"):
        fitted.append(X[:2], ["a", "a"])


def test_saving_replaces_a_tokenizer_and_nothing_else(fitted: SemanticIdTokenizer, tmp_path: Path) -> None:
    other = SemanticIdTokenizer("random", codebook_size=8).fit(X)
    other.save(tmp_path / "sid")
    fitted.save(tmp_path / "sid")
    assert SemanticIdTokenizer.load(tmp_path / "sid").method == "category-prefix"
    assert sorted(path.suffix for path in (tmp_path / "sid").iterdir()) == [".json", ".parquet", ".safetensors"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="holds no tokenizer; choose another folder"):
        fitted.save(tmp_path / "mine")
    with pytest.raises(RunError, match="is a file"):
        fitted.save(tmp_path / "mine" / "thesis.txt")
    with pytest.raises(RunError, match="cannot be made"):
        fitted.save(tmp_path / "mine" / "thesis.txt" / "sid")


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="new"):
        store.check_target(tmp_path / "deep" / "new")
    assert not list(tmp_path.iterdir())


def test_equal_tokenizers_are_equal_bytes(fitted: SemanticIdTokenizer, tmp_path: Path) -> None:
    fitted.save(tmp_path / "one")
    prefix().fit(X, NAMES, CATEGORIES).save(tmp_path / "two")
    files = [sorted((path.name, path.read_bytes()) for path in (tmp_path / name).iterdir()) for name in ("one", "two")]
    assert files[0] == files[1]


@pytest.mark.parametrize("step", ["codec", "items", "record"])
def test_a_writer_that_fails_leaves_the_earlier_tokenizer(
    step: str, folder: Path, fitted: SemanticIdTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "x")

    name = {"codec": "write_arrays", "items": "write_parquet", "record": "write_json"}[step]
    monkeypatch.setattr(store, name, full)
    with pytest.raises(OSError, match="No space"):
        SemanticIdTokenizer("random", codebook_size=8).fit(X).save(folder)
    opened = SemanticIdTokenizer.load(folder)
    assert opened.fingerprint == fitted.fingerprint
    monkeypatch.undo()
    opened.save(folder)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("how", ["deleted", "truncated", "flipped"])
@pytest.mark.parametrize("ending", [".safetensors", ".parquet"])
def test_damaged_files_are_named(how: str, ending: str, folder: Path) -> None:
    path = next(path for path in folder.iterdir() if path.suffix == ending)
    content = bytearray(path.read_bytes())
    if how == "deleted":
        path.unlink()
    else:
        content[len(content) // 2] ^= 4
        path.write_bytes(content if how == "flipped" else content[:-9])
    with pytest.raises(CorruptIndexError, match=r"fit the tokenizer again") as caught:
        SemanticIdTokenizer.load(folder)
    assert str(path) in str(caught.value)


def edited(folder: Path, **changes: Any) -> Path:
    """Change what stands in the JSON, as in one without the digest of itself that writers add now."""
    record = json.loads((folder / "tokenizer.json").read_text())
    del record["sha256"]
    (folder / "tokenizer.json").write_text(json.dumps(record | changes))
    return folder


@pytest.mark.parametrize("changes", [{"collisions": "next-best"}, {"sede": 1}, {"standardise": "none"}])
def test_an_edited_json_is_told_by_its_digest(changes: dict[str, Any], folder: Path) -> None:
    path = folder / "tokenizer.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"settings": record["settings"] | changes}))
    with pytest.raises(CorruptIndexError, match=r"tokenizer.json was edited or damaged; .* fit the tokenizer again"):
        SemanticIdTokenizer.load(folder)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"version": 2}, RunError, "version 2 found, 'sparcode-semantic-ids' version 1 expected"),
        ({"format": "other"}, RunError, "format 'other'"),
        ({"fingerprint": "0"}, CorruptIndexError, "do not belong together"),
        ({"files": {}}, CorruptIndexError, "names no file"),
        ({"files": []}, CorruptIndexError, "names no file"),
        ({"settings": {"method": "x"}}, CorruptIndexError, "was edited"),
        ({"settings": None}, CorruptIndexError, "was edited"),
        ({"codec": {"kind": "random"}}, CorruptIndexError, "again"),
        ({"codec": {"kind": "no such"}}, CorruptIndexError, "unknown method"),
        ({"codec": None}, CorruptIndexError, "was edited"),
    ],
)
def test_other_formats_and_edits_are_refused(
    changes: dict[str, Any], error: type[Exception], words: str, folder: Path
) -> None:
    with pytest.raises(error, match=words):
        SemanticIdTokenizer.load(edited(folder, **changes))


def test_a_folder_without_a_tokenizer(tmp_path: Path, folder: Path) -> None:
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(RunError, match="no tokenizer found there"):
            SemanticIdTokenizer.load(path)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(CorruptIndexError, match="not valid JSON.*or fit the tokenizer again"):
        SemanticIdTokenizer.load(folder)


def test_files_of_two_tokenizers_mixed(folder: Path, tmp_path: Path) -> None:
    prefix(seed=5).fit(X, NAMES, CATEGORIES).save(tmp_path / "other")
    foreign = json.loads((tmp_path / "other" / "tokenizer.json").read_text())["files"]["items"]
    shutil.copy(tmp_path / "other" / foreign["name"], folder)
    own = json.loads((folder / "tokenizer.json").read_text())["files"]
    with pytest.raises(CorruptIndexError, match="do not belong together"):
        SemanticIdTokenizer.load(edited(folder, files=own | {"items": foreign}))


def test_every_error_is_one_line(fitted: SemanticIdTokenizer, tmp_path: Path) -> None:
    for use in (
        lambda: fitted.encode(X[:, :3]),
        lambda: fitted.decode(np.full((1, 3), 999)),
        lambda: SemanticIdTokenizer.load(tmp_path),
        lambda: SemanticIds(["a"], np.zeros((1, 2), int), (3, 3), method="x", content_digits=9),
        lambda: fitted.semantic_ids.codes_of(pa.array(["no such item"])),
    ):
        with pytest.raises(SparcodeError) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_quality_is_of_the_content_digits(fitted: SemanticIdTokenizer) -> None:
    alone, beside = fitted.quality(), fitted.quality(X, CATEGORIES)
    assert len(alone.digits) == 3
    assert (alone.mse, alone.neighbours, alone.purity) == (None, None, None)
    content = fitted.semantic_ids.codes[:, :3]
    assert beside.mse == pytest.approx(float(((fitted.decode(content) - X) ** 2).mean()), rel=1e-4)
    assert beside.collisions.rate == pytest.approx(fitted.report["rate_before"])
    assert fitted.info()["perplexity"] == [digit.perplexity for digit in alone.digits]
    random = SemanticIdTokenizer("random", codebook_size=8).fit(X)
    assert random.quality(X).mse is None


def test_it_is_found_at_the_top() -> None:
    import sparcode
    import sparcode.semantic_id as package

    assert sparcode.SemanticIdTokenizer is package.SemanticIdTokenizer is SemanticIdTokenizer
    assert package.SemanticIds is SemanticIds
    with pytest.raises(AttributeError, match="no attribute 'Tokenizer'"):
        _ = package.Tokenizer

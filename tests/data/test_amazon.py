"""Amazon Reviews 2023 in its true format, small: converted, split by time, trained on; broken lines named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sparcode.config import DataConfig
from sparcode.data.amazon import convert
from sparcode.data.dataset import load_dataset
from sparcode.errors import DataError
from sparcode_cli.main import app

START = 1588687728923


def review(user: int, item: int, moment: int, **changes: Any) -> dict[str, Any]:
    """A line of e.g. All_Beauty.jsonl."""
    return {
        "rating": 5.0, "title": "Such a lovely scent", "text": "Nice.\nReally, 5 \u2605", "images": [],
        "asin": f"B00V{item:04}", "parent_asin": f"B00Y{item:04}", "user_id": f"AGKHLEW2SOWHNMFQIJGBECAF7IN{user}",
        "timestamp": moment, "helpful_vote": 0, "verified_purchase": True,
    } | changes  # fmt: skip


def product(item: int, **changes: Any) -> dict[str, Any]:
    """A line of e.g. meta_All_Beauty.jsonl."""
    return {
        "main_category": "All Beauty", "title": f"Shampoo {item}", "average_rating": 4.8, "rating_number": 10,
        "features": ["Gentle", "For all hair"], "description": ["A shampoo.", "Made of soap."], "price": 9.5 + item,
        "images": [{"thumb": "https://a", "large": "https://b", "variant": "MAIN", "hi_res": None}], "videos": [],
        "store": "Howard Products", "categories": ["Beauty", "Hair Care"], "details": {"Package": "7 x 5 inches"},
        "parent_asin": f"B00Y{item:04}", "bought_together": None,
    } | changes  # fmt: skip


def write(path: Path, lines: list[Any]) -> Path:
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def events(count: int = 200) -> list[dict[str, Any]]:
    random = np.random.default_rng(0)
    moments = (START + random.integers(0, 10**10, count)).tolist()
    return [
        review(k % 20, int(random.integers(30)), moment, rating=float(1 + k % 5)) for k, moment in enumerate(moments)
    ]


@pytest.fixture(params=[".jsonl", ".jsonl.gz"])
def raw(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    write(folder / f"All_Beauty{request.param}", events())
    write(
        folder / f"meta_All_Beauty{request.param}",
        [product(item) for item in range(29)] + [product(77), product(3, title="second")],
    )
    (folder / "README.md").write_text("not ours")
    return folder


def test_the_folder_is_what_training_reads(raw: Path, tmp_path: Path) -> None:
    summary = convert(raw, tmp_path / "out")
    assert (summary["train"], summary["valid"], summary["test"]) == (160, 20, 20)
    assert summary["metadata_without_review"] == 1
    reviewed = {event["parent_asin"] for event in events()}
    assert summary["items"] == len(reviewed)
    assert summary["items_without_metadata"] == ("B00Y0029" in reviewed)
    dataset = load_dataset(tmp_path / "out", DataConfig(split_by="column", text_width=0), seed=0)
    assert len(dataset.train.items) == 160
    assert dataset.summary["columns"] == {
        "user": "user_id", "item": "item_id", "time": "timestamp", "rating": "rating", "split": "split"
    }  # fmt: skip
    assert dataset.titles is not None
    assert "Shampoo" in dataset.titles[0]
    assert dataset.item_features is not None
    assert "price" in dataset.item_features.numeric_names


def test_every_event_and_item_is_there(raw: Path, tmp_path: Path) -> None:
    convert(raw, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "interactions.parquet").to_pylist()
    expected = {(e["user_id"], e["parent_asin"], e["timestamp"], e["rating"]) for e in events()}
    found = {(e["user_id"], e["item_id"], round(e["timestamp"] * 1000), e["rating"]) for e in table}
    assert found == expected
    times = [row["timestamp"] for row in table]
    assert times == sorted(times)
    assert [row["split"] for row in table] == ["train"] * 160 + ["valid"] * 20 + ["test"] * 20
    items = {row["item_id"]: row for row in pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()}
    assert set(items) == {e["item_id"] for e in table}
    one = items["B00Y0003"]
    assert one["title"] == "Shampoo 3"  # the first line of an item counts
    assert one["categories"] == ["Beauty", "Hair Care"]
    assert one["features"] == "Gentle For all hair"
    assert one["description"] == "A shampoo. Made of soap."
    assert (one["brand"], one["price"], one["rating_number"]) == ("Howard Products", 12.5, 10)
    assert items["B00Y0029"]["title"] is None


def test_events_of_one_moment_are_never_parted(tmp_path: Path) -> None:
    moments = [START] * 7 + [START + 1] * 2 + [START + 2]
    write(tmp_path / "a.jsonl", [review(k, k, moment) for k, moment in enumerate(moments)])
    summary = convert(tmp_path / "a.jsonl", tmp_path / "out")
    assert (summary["train"], summary["valid"], summary["test"]) == (7, 2, 1)
    summary = convert(tmp_path / "a.jsonl", tmp_path / "given", cuts=(START + 1, START + 2))
    assert (summary["train"], summary["valid"], summary["test"]) == (7, 2, 1)
    with pytest.raises(DataError, match="0 test events"):
        convert(tmp_path / "a.jsonl", tmp_path / "none", cuts=(START + 1, START + 3))
    with pytest.raises(DataError, match="give other cuts="):
        convert(write(tmp_path / "same.jsonl", [review(k, k, START) for k in range(9)]), tmp_path / "none")


def test_equal_reviews_count_once(tmp_path: Path) -> None:
    lines = events(50)
    write(tmp_path / "a.jsonl", lines + lines[:5])
    assert convert(tmp_path / "a.jsonl", tmp_path / "out")["repeated_reviews"] == 5
    assert len(pq.read_table(tmp_path / "out" / "interactions.parquet")) == 50


def test_one_file_takes_its_metadata_along(raw: Path, tmp_path: Path) -> None:
    file = next(file for file in raw.iterdir() if file.name.startswith("All"))
    assert convert(file, tmp_path / "one")["metadata_rows"] == 31
    next(file for file in raw.iterdir() if file.name.startswith("meta_")).unlink()
    summary = convert(raw, tmp_path / "two")
    assert summary["items_without_metadata"] == summary["items"]
    assert len(pq.read_table(tmp_path / "two" / "items.parquet")) == summary["items"]


@pytest.mark.parametrize(
    ("value", "price"),
    [(12, 12.0), ("$1,299.50", 1299.5), ("12.99 - 20.00", 12.99), ("\u2014", None), ("", None), (None, None),
     ([], None), (float("inf"), None), (True, None), ("from 5.00", None)],
)  # fmt: skip
def test_prices_of_every_spelling(tmp_path: Path, value: Any, price: float | None) -> None:
    write(tmp_path / "a.jsonl", [review(k, 0, START + k) for k in range(10)])
    write(tmp_path / "meta_a.jsonl", [product(0, price=value, store=None, categories=None, description="plain")])
    convert(tmp_path / "a.jsonl", tmp_path / "out")
    (row,) = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    assert row["price"] == price
    assert (row["brand"], row["categories"], row["description"]) == (None, [], "plain")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"user_id": "a"', "line 2 is not JSON"),
        ("[1, 2]", "line 2 holds list"),
        (json.dumps(review(0, 0, START, user_id=None)), "line 2: user_id is None"),
        (json.dumps(review(0, 0, START, parent_asin="")), "line 2: parent_asin is ''"),
        (json.dumps(review(0, 0, START, timestamp="2020")), "line 2: timestamp '2020', expected milliseconds"),
        (json.dumps(review(0, 0, -5)), "line 2: timestamp -5"),
        (json.dumps(review(0, 0, 1588687728)), "looks like seconds"),
        (json.dumps({"reviewerID": "x", "overall": 3}), "fields found: reviewerID, overall"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(review(0, 0, START)) + "\n" + line + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl") as caught:
        convert(tmp_path, tmp_path / "out")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        convert(tmp_path / "none", tmp_path / "out")
    with pytest.raises(DataError, match="holds no reviews"):
        convert(tmp_path, tmp_path / "out")
    file = write(tmp_path / "a.jsonl.gz", events())
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(DataError, match="cannot be read to its end"):
        convert(tmp_path, tmp_path / "out")
    file.unlink()
    (tmp_path / "b.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match="holds no review"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "b.jsonl").write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="cannot be read to its end"):
        convert(tmp_path, tmp_path / "out")


def test_an_earlier_folder_is_kept_and_a_failure_leaves_nothing(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    convert(raw, out)
    with pytest.raises(DataError, match="not an empty folder"):
        convert(raw, out)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="space"):
        convert(raw, tmp_path / "other")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out", "raw"]


def test_the_command(raw: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> Any:
        return CliRunner().invoke(app, ["data", "convert", *map(str, arguments)])

    result = run("amazon-2023", raw, "--out", tmp_path / "a", "--json")
    assert json.loads(result.stdout)["events"] == 200
    result = run("amazon-2023", raw, "--out", tmp_path / "b")
    assert "--split-by column" in result.output
    result = run("amazon-2023", raw, "--out", tmp_path / "c", "--cuts", "5,4")
    assert result.exit_code == 2
    assert "two rising moments" in result.output
    assert run("amazon-2018", raw, "--out", tmp_path / "d").exit_code == 2
    result = run("amazon-2023", tmp_path / "none", "--out", tmp_path / "e")
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1

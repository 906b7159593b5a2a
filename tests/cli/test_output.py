"""Aligned text, pure JSON, lists of ids, and options that become configuration."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from sparcode.errors import DataError
from sparcode_cli import options
from sparcode_cli.build_index import choose_policy
from sparcode_cli.ids import read_ids
from sparcode_cli.output import plain, print_json, print_pairs, print_table


def test_json_is_pure_and_without_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": np.float32("nan"), "b": np.arange(2), "c": (1, None), "d": Path("x"), "e": float("inf")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [0, 1], "c": [1, None], "d": "x", "e": None}


def test_plain_keeps_bool_and_text() -> None:
    assert plain({"a": True, 1: "é"}) == {"a": True, "1": "é"}


def test_table_aligns_numbers_right_and_text_left(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("#", "name"), [(1, "a"), (10, "bcd"), (None, "e")])
    assert capsys.readouterr().out == " #  name\n 1  a\n10  bcd\n    e\n"


def test_empty_table_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [])
    assert capsys.readouterr().out == "a  b\n"


def test_pairs_are_aligned_and_nested(capsys: pytest.CaptureFixture[str]) -> None:
    print_pairs(
        {"items": 3, "ok": True, "none": None, "empty": {}, "sizes": {"a": 0.123456, "list": [1, {"b": 2, "c": 3}]}}
    )
    assert capsys.readouterr().out == "items  3\nok     yes\nnone   -\nsizes\n  a     0.1235\n  list  1, 2 3\n"


def test_columns() -> None:
    assert options.parse_columns("user=u, item=movie id") == {"user": "u", "item": "movie id"}
    with pytest.raises(typer.BadParameter, match="did you mean 'user'"):
        options.parse_columns("usr=u")


def test_options_win_over_set_which_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('seed = 1\n[data]\nk_core = 2\nmin_rating = 1.0\ncolumns = {user = "a", item = "b"}\n')
    changes = options.data_changes("user=z", "x=1", 3.0, None, "time", 0.8)
    config = options.resolve_config(file, ["data.k_core=5", "data.min_rating=2"], changes, seed=7)
    assert config.seed == 7
    assert config.data.columns == {"user": "z", "item": "b"}
    assert (config.data.k_core, config.data.min_rating, config.data.where) == (5, 3.0, "x=1")
    assert (config.data.split_by, config.data.time_cut) == ("time", 0.8)


def test_options_left_out_change_nothing() -> None:
    assert options.data_changes(None, None, None, None, None, None) == {}


def test_ids_from_text_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("user_id\n5\n\n 7 \n")
    pq.write_table(pa.table({"user_id": [5, None, 7]}), tmp_path / "a.parquet")
    assert read_ids(tmp_path / "a.txt", "user") == ["5", "7"]
    assert read_ids(tmp_path / "a.parquet", "user") == [5, 7]


@pytest.mark.parametrize(("name", "content"), [("a.txt", b"\n"), ("a.txt", b"\xff\xfe"), ("a.parquet", b"no")])
def test_bad_lists_of_ids(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="a\\."):
        read_ids(tmp_path / name, "user")


def test_policy_follows_from_its_options() -> None:
    assert choose_policy(None, None, None, None, None) is None
    assert choose_policy(None, None, 5.0, None, None) == "global-bias"
    assert choose_policy(None, None, None, None, 100.0) == "budget"
    assert choose_policy("budget", None, None, 2.0, None) == "budget"
    assert choose_policy("global-bias", None, None, None, None) == "global-bias"
    assert choose_policy(None, None, None, None, None, 256) == "length"

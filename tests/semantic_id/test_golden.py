"""Stored tokenizers are a contract: those of every format version open, and give the codes they gave when written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparcode.errors import CorruptIndexError, RunError
from sparcode.semantic_id import store
from sparcode.semantic_id.tokenizer import SemanticIdTokenizer
from tests.semantic_id.golden_tokenizers import GOLDEN, METHODS, NAMES, answers

V1 = GOLDEN / "v1"
GIVEN: dict[str, dict[str, Any]] = json.loads((V1 / "answers.json").read_text(encoding="utf-8"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_version_there_ever_was_has_golden_files() -> None:
    assert {folder.name for folder in GOLDEN.iterdir()} == {f"v{version}" for version in range(1, store.VERSION + 1)}


def test_golden_files_are_all_there_and_small() -> None:
    assert set(GIVEN) == set(METHODS) == {folder.name for folder in V1.iterdir() if folder.is_dir()}
    assert sum(path.stat().st_size for path in V1.rglob("*") if path.is_file()) < 30_000


@pytest.mark.parametrize("method", METHODS)
def test_a_future_version_must_give_the_codes_of_version_1(method: str) -> None:
    before = files(V1 / method)
    tokenizer = SemanticIdTokenizer.load(V1 / method)
    expected = dict(GIVEN[method])
    found = answers(method, tokenizer)
    np.testing.assert_allclose(found.pop("vectors"), expected.pop("vectors"), rtol=1e-5, atol=1e-6)
    assert found == expected
    assert tokenizer.method == method
    assert tokenizer.semantic_ids.ids.to_pylist() == NAMES
    assert files(V1 / method) == before


@pytest.mark.parametrize("method", METHODS)
def test_saving_what_was_opened_gives_the_stored_bytes(method: str, tmp_path: Path) -> None:
    SemanticIdTokenizer.load(V1 / method).save(tmp_path / "sid")
    before, after = (json.loads((folder / "tokenizer.json").read_text()) for folder in (V1 / method, tmp_path / "sid"))
    # The items are a Parquet file, which says which version of its library wrote it.
    assert before["files"].pop("items").keys() == after["files"].pop("items").keys()
    assert len(after.pop("sha256")) == 64  # which the writers of these files did not add
    assert after == before
    name = before["files"]["codec"]["name"]
    assert (tmp_path / "sid" / name).read_bytes() == (V1 / method / name).read_bytes()


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused_by_its_number(tmp_path: Path, version: Any) -> None:
    folder = tmp_path / "sid"
    shutil.copytree(V1 / "rq-kmeans", folder)
    record = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(record | {"version": version}))
    with pytest.raises(RunError) as caught:
        SemanticIdTokenizer.load(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder}/tokenizer.json: format 'sparcode-semantic-ids' version {version!r} found")
    assert "version 1 expected" in message
    assert "\n" not in message


def test_a_codec_file_of_other_bytes_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "sid"
    shutil.copytree(V1 / "rq-vae", folder)
    (codec,) = folder.glob("codec-*.safetensors")
    content = bytearray(codec.read_bytes())
    content[-1] ^= 1
    codec.write_bytes(content)
    with pytest.raises(CorruptIndexError, match=codec.name):
        SemanticIdTokenizer.load(folder)

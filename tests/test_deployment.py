"""A run answers from the files that docs/serving.md names, in a folder nobody may write to."""

from __future__ import annotations

import fnmatch
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sparcode import SparCode

if TYPE_CHECKING:
    from tests.conftest import TinyRun

PAGE = Path(__file__).resolve().parent.parent / "docs" / "serving.md"


def names_after(words: str) -> list[str]:
    """Return the names in backquotes of the sentence that begins with ``words``."""
    text = PAGE.read_text(encoding="utf-8")
    assert words in text, f"docs/serving.md no longer says {words!r}"
    return re.findall(r"`([^`]+)`", re.split(r"\.\s", text.split(words, 1)[1], maxsplit=1)[0])


@pytest.fixture
def deployed(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of a run that holds what has to be deployed and nothing else."""
    needed, spare = names_after("Copy these of a run, as a whole:"), names_after("Not needed to answer:")
    assert "model/" in needed
    for path in sorted(tiny_run.folder.rglob("*")):
        name = path.relative_to(tiny_run.folder).as_posix()
        kept = any(name == each or (each.endswith("/") and name.startswith(each)) for each in needed)
        if kept and path.is_file() and not any(fnmatch.fnmatch(name, each) for each in spare):
            (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, tmp_path / "run" / name)
    return tmp_path / "run"


def state_of(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of every file and folder."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


def test_every_kind_of_query_is_answered_alike(deployed: Path, tiny_run: TinyRun) -> None:
    before = state_of(deployed)
    for path in before:
        path.chmod(0o555 if path.is_dir() else 0o444)
    whole, part = SparCode.load(tiny_run.folder), SparCode.load(deployed)
    history = [int(item) for item in tiny_run.items]
    for ask in (
        lambda model: model.recommend_items(users=[tiny_run.user], k=5),
        lambda model: model.recommend_items(histories=[history], k=5, where="year>=1960", deny=[tiny_run.item]),
        lambda model: model.recommend_table(users=[tiny_run.user], k=5).to_pylist(),
        lambda model: [column.tolist() for column in model.similar_items([tiny_run.item], k=5)],
        lambda model: model.explain(user=tiny_run.user, item=tiny_run.item),
    ):
        assert repr(ask(part)) == repr(ask(whole))
    # The superuser may write all the same: nothing may have been tried.
    assert state_of(deployed) == before
    for path in before:
        path.chmod(0o755 if path.is_dir() else 0o644)

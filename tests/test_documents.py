"""Pages that name files name files that are there, and the house of ARCHITECTURE.md has the rooms of the tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")),
]
FILE = re.compile(r"`((?:[\w.{},-]+/)+[\w.{},-]*\.?\w*)`")
ENDINGS = (".py", ".toml", ".md", "/")


def named_in(page: str) -> list[str]:
    """Return the files and folders of the repository that a page names in backquotes."""
    tops = {path.name for folder in (ROOT, ROOT / "sparcode") for path in folder.iterdir()}
    found = FILE.findall((ROOT / page).read_text(encoding="utf-8"))
    return [name for name in found if name.endswith(ENDINGS) and name.split("/")[0] in tops]


def is_there(name: str) -> bool:
    """Tell whether a name, with ``{a,b}`` for several, is a file of the repository or of the package."""
    several = re.search(r"\{([^}]*)\}", name)
    if several:
        return all(is_there(name.replace(several[0], each, 1)) for each in several[1].split(","))
    return (ROOT / name).exists() or (ROOT / "sparcode" / name).exists()


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    gone = [name for name in named_in(page) if not is_there(name)]
    assert not gone, f"{page} names {gone}"


def test_pages_are_looked_at() -> None:
    assert len(named_in("ARCHITECTURE.md")) > 20
    assert len(named_in("CONTRIBUTING.md")) > 10
    assert is_there("index/store/{read,write}.py")
    assert not is_there("index/store/{read,burn}.py")


def test_every_room_is_in_the_picture_of_the_house() -> None:
    picture = (ROOT / "docs" / "images" / "house.svg").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "sparcode").glob("*/__init__.py")}
    assert not {room for room in rooms if f">{room}/<" not in picture}

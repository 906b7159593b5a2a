"""The list of mutants: faults a reviewer could overlook, each with what it would break and the tests nearest to it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent / "lists"
_KEYS = {"name", "file", "old", "new", "breaks", "tests"}


@dataclass(frozen=True)
class Mutant:
    """``old``, which stands in ``file`` exactly once, is replaced by ``new``; ``tests``: files that should notice.

    ``breaks``: what a user would suffer. Paths are those of the tree.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]

    def mutated(self, root: Path = ROOT) -> str:
        """Return the source with the fault in it; ValueError when the list does not fit the tree (any more)."""
        path = root / self.file
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = source.count(self.old)
        if found != 1:
            state = f"stands {found} times in {self.file}" if path.is_file() else f"was in {self.file}, which is gone"
            raise ValueError(f"{self.name}: the old text {state}, expected once; {self._elsewhere(root)}")
        return source.replace(self.old, self.new)

    def _elsewhere(self, root: Path) -> str:
        places = [path for folder in ("sparcode", "cli") for path in sorted((root / folder).rglob("*.py"))]
        holding = [path.relative_to(root).as_posix() for path in places if self.old in path.read_text(encoding="utf-8")]
        return f"it is found in {', '.join(holding[:3])}" if holding else "change the mutant as the code was changed"


def read_mutants(folder: Path = LISTS) -> list[Mutant]:
    """Return all mutants in the order of their files; ValueError for an entry that lacks a key or has another one."""
    mutants = []
    for path in sorted(folder.glob("*.toml")):
        for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
            if entry.keys() != _KEYS:
                odd = ", ".join(sorted(entry.keys() ^ _KEYS))
                raise ValueError(f"{path.name}: {entry.get('name')}: keys that lack or are odd: {odd}")
            mutants.append(Mutant(**entry | {"tests": tuple(entry["tests"])}))
    return mutants

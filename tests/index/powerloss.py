"""A disk that forgets: replays a recorded log of file operations into states a power cut may leave.

Content counts as kept up to the last sync of the file, names as of the last sync of their directory. What was
not synced may be kept or lost, every item on its own; unsynced content may also be cut short or zeroed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


@dataclass
class File:
    content: bytes = b""
    synced: bytes = b""


@dataclass
class Directory:
    names: dict[str, File | Directory] = field(default_factory=dict)
    synced: dict[str, File | Directory] = field(default_factory=dict)


class Disk:
    """The volatile and the durable state of one folder tree after some operations."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = Directory()
        self.open: dict[int, File] = {}

    def _find(self, path: Path) -> Directory:
        node = self.top
        for part in Path(path).relative_to(self.root).parts:
            node = node.names[part]
        return node

    def _place(self, path: Path) -> tuple[dict, str]:
        return self._find(Path(path).parent).names, Path(path).name

    def apply(self, name: str, arguments: tuple, result) -> None:
        if name in ("create", "make_directory"):
            names, last = self._place(arguments[0])
            names[last] = File() if name == "create" else Directory()
            if name == "create":
                self.open[result] = names[last]
        elif name == "write":
            self.open[arguments[0]].content += arguments[1][:result]
        elif name == "sync":
            self.open[arguments[0]].synced = self.open[arguments[0]].content
        elif name == "sync_directory":
            if Path(arguments[0]) != self.root.parent:
                directory = self._find(arguments[0])
                directory.synced = dict(directory.names)
        elif name in ("link", "replace"):
            names, last = self._place(arguments[1])
            source, source_name = self._place(arguments[0])
            names[last] = source[source_name]
            if name == "replace":
                del source[source_name]
        elif name in ("unlink", "remove_directory"):
            names, last = self._place(arguments[0])
            del names[last]

    def after_power_cut(self, target: Path, random: np.random.Generator, keep: float) -> None:
        """Write one possible state to ``target``: each unsynced change is kept with probability ``keep``."""
        _write(self.top, target, random, keep)


def _write(directory: Directory, target: Path, random: np.random.Generator, keep: float) -> None:
    target.mkdir(parents=True)
    for name in {*directory.names, *directory.synced}:
        before, after = directory.synced.get(name), directory.names.get(name)
        node = after if before is after or random.random() < keep else before
        if isinstance(node, Directory):
            _write(node, target / name, random, keep)
        elif node is not None:
            (target / name).write_bytes(_content(node, random, keep))


def _content(file: File, random: np.random.Generator, keep: float) -> bytes:
    if file.content == file.synced or random.random() < keep:
        return file.content
    tail = file.content[len(file.synced) :]
    cut = int(random.integers(0, len(tail) + 1))
    lost = bytes(len(tail) - cut) if random.random() < 0.5 else b""
    return file.synced + tail[:cut] + lost

"""What all dense peers share: checks, the clock of the build, settings, saving and loading."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from sparcode.errors import ConfigError, CorruptIndexError
from sparcode.scale.peers import folder as peer_folder
from sparcode.scale.peers.build_clock import BuildTime, timed_build
from sparcode.scale.peers.protocols import Parameters, with_overrides


class DenseEngine:
    """Base of the dense peers; see ``peers.DensePeer`` for what each offers.

    A subclass gives ``defaults`` (settings for n items of width d), ``_construct`` (the build that is timed),
    ``_prepare`` (what searching needs once there is an index), ``_write`` and ``_read``.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    most_items: ClassVar[int | None] = None

    def __init__(self, index: Any, shape: tuple[int, int], taken: BuildTime, settings: dict[str, Any]) -> None:
        self.item_count, self.width = shape
        self.build_seconds, self.build_cpu_seconds = taken
        self.settings = settings
        self._index = index
        self._bytes: int | None = None
        self._prepare()

    @classmethod
    def build(cls, vectors: np.ndarray, *, seed: int = 0, **settings: Any) -> Self:
        """Index ``vectors`` (n, d) float32 in one thread."""
        _check_vectors(vectors)
        chosen = {**with_overrides(cls.defaults(*vectors.shape), settings, cls.name), "seed": seed}
        cls._library()
        index, taken = timed_build(lambda: cls._construct(vectors, chosen))
        return cls(index, vectors.shape, taken, chosen)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Open what ``save`` wrote; CorruptIndexError when the folder is not complete or of another engine."""
        folder = Path(folder)
        manifest = peer_folder.read_manifest(folder, cls.name)
        cls._library()
        try:
            shape = int(manifest["item_count"]), int(manifest["width"])
            index = cls._read(folder, shape, manifest["settings"])
            taken = BuildTime(float(manifest["build_seconds"]), float(manifest["build_cpu_seconds"]))
            peer = cls(index, shape, taken, manifest["settings"])
            peer._bytes = int(manifest["bytes"])
            return peer
        except (OSError, RuntimeError, ValueError, KeyError) as problem:
            what = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
            raise CorruptIndexError(f"{folder} cannot be opened by {cls.name} ({what}); build it again") from problem

    def save(self, folder: Path) -> None:
        """Write the index into ``folder``, complete once it holds ``peer.json``."""
        folder = peer_folder.begin(Path(folder))
        self._write(folder)
        self._bytes = peer_folder.payload_bytes(folder)
        manifest = {
            "name": self.name,
            "item_count": self.item_count,
            "width": self.width,
            "bytes": self._bytes,
            "build_seconds": self.build_seconds,
            "build_cpu_seconds": self.build_cpu_seconds,
            "settings": self.settings,
        }
        peer_folder.finish(folder, manifest)

    @property
    def bytes(self) -> int:
        """Bytes of the serialised index, vectors included."""
        if self._bytes is None:
            self._bytes = self._measure_bytes()
        return self._bytes

    @classmethod
    def defaults(cls, item_count: int, width: int) -> dict[str, Any]:
        """Return the settings an index of this size is built with."""
        return {}

    def parameter_grid(self, k: int) -> list[Parameters]:
        """Return the search parameters to choose from, cheapest first."""
        return [{}]

    def set(self, parameters: Parameters) -> None:
        """Search with these parameters from now on."""

    def _measure_bytes(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            self._write(Path(folder))
            return peer_folder.payload_bytes(Path(folder))

    def _prepare(self) -> None:
        """Make what searching needs beside the index."""

    @classmethod
    def _library(cls) -> Any:
        """Import the library, so that its absence is told before any work and its import is not timed."""

    @classmethod
    def _construct(cls, vectors: np.ndarray, settings: dict[str, Any]) -> Any:
        raise NotImplementedError

    @classmethod
    def _read(cls, folder: Path, shape: tuple[int, int], settings: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _write(self, folder: Path) -> None:
        raise NotImplementedError


def _check_vectors(vectors: np.ndarray) -> None:
    sound = vectors.ndim == 2 and vectors.dtype == np.float32 and vectors.flags.c_contiguous and len(vectors) > 0
    if not sound:
        what = f"vectors of {vectors.dtype}, shape {vectors.shape}"
        raise ConfigError(f"{what}; expected at least one row, float32, two-dimensional and C-contiguous")

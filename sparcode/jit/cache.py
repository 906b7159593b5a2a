"""A cache of compiled kernels that is right and never stands in the way.

numba's own cache looks at one file, so that a kernel which calls one of another file goes on with the old one; it ends
a start with "cannot cache function" where nothing can be written, and with an EOFError at an entry that was cut. Here
an entry belongs to the source of its kernel and of all modules of ours that this imports, and carries a digest; what
is wrong with it costs a compilation and nothing else.

Entries lie in ``NUMBA_CACHE_DIR`` where it is set, else in the first place that can be written: ``__pycache__`` beside
the source, the user's cache folder, a private temporary one. All of them are read: what was compiled when a container
was built serves it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile

from sparcode.folders import cache_root, private_folder, temporary_root
from sparcode.jit.library import SETTINGS

_ROOT = Path(__file__).parent.parent.parent
# Imports of a module's own level alone: what functions and type checkers import is in no kernel.
_IMPORTS = re.compile(r"^from (sparcode[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)
_log = logging.getLogger(__name__)


class KernelCache(FunctionCache):  # type: ignore[misc]
    """The entries of one kernel."""

    def __init__(self, function: Any) -> None:
        source = function.__code__.co_filename
        self._name, self._py_func, self._impl = repr(function), function, _Implementation(function)
        self._base, self._source, self._cache_path = self._impl.filename_base, source, str(_places(source)[0])
        self.enable()

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return a compiled kernel, or None without a sound entry."""
        target_context.refresh()
        key = self._index_key(sig, target_context.codegen())
        for place in _places(self._source) if self._enabled else ():
            try:
                data = self._entries(place).load(key)
                if data is not None:
                    return self._impl.rebuild(target_context, data)
            except Exception as problem:  # whatever a damaged file makes of it
                _log.debug("an entry of %s in %s is of no use: %r", self._base, place, problem)
        _tell_of_compilation(self._source)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel where there is a place for it."""
        place = _target(self._source)
        if place is None or not self._enabled or not self._impl.check_cachable(data):
            return
        try:
            self._entries(place).save(self._index_key(sig, data.codegen), self._impl.reduce(data))
        except OSError as problem:
            _warn_once(f"compiled kernels cannot be kept in {place} ({problem.strerror}): they are compiled again")

    def flush(self) -> None:
        """Forget all entries."""
        place = _target(self._source)
        if place is not None:
            self._entries(place).flush()

    def _entries(self, place: Path) -> _Entries:
        return _Entries(str(place), self._base, digest_of(Path(self._source)))


class _Implementation(CompileResultCacheImpl):  # type: ignore[misc]
    """What makes bytes of a compiled kernel and back. ``_locator``: what numba asks for line and file."""

    def __init__(self, function: Any) -> None:
        code = function.__code__
        self._lineno, self._locator = code.co_firstlineno, self
        self._py_file = code.co_filename
        self._filename_base = self.get_filename_base(f"{Path(code.co_filename).stem}.{function.__qualname__}", "")

    def get_disambiguator(self) -> str:
        return str(self._lineno)


class _Entries(IndexDataCacheFile):  # type: ignore[misc]
    """An index and its entries. Behind each file's content stands a SHA-256, of the stamp and the content: machine code
    with one bit changed would run. numba reads up to the end of its own part."""

    def save(self, key: Any, data: Any) -> None:
        """Keep an entry: first it, then what names it."""
        known = self._load_index()
        taken = set(known.values())
        numbers = (self._data_name(number) for number in range(1, len(taken) + 2))
        name = known.get(key) or next(name for name in numbers if name not in taken)
        self._save_data(name, data)
        self._save_index(known | {key: name})

    def _load_index(self) -> Any:
        try:
            return super()._load_index() if self._is_whole(self._index_path) else {}
        except Exception:  # of another version of numba, perhaps
            return {}

    def _load_data(self, name: str) -> Any:
        path = self._data_path(name)
        if not self._is_whole(path):
            raise ValueError(f"{path} is damaged")
        return super()._load_data(name)

    def _is_whole(self, path: str) -> bool:
        try:
            content = Path(path).read_bytes()
        except OSError:
            return False
        return hashlib.sha256(self._source_stamp + content[:-32]).digest() == content[-32:]

    @contextmanager
    def _open_for_write(self, filepath: str) -> Iterator[Any]:
        with super()._open_for_write(filepath) as stream:
            sealed = _Sealed(stream, self._source_stamp)
            yield sealed
            stream.write(sealed.digest.digest())


class _Sealed:
    """A stream to write to that keeps the digest of what went through."""

    def __init__(self, stream: Any, stamp: bytes) -> None:
        self.stream, self.digest = stream, hashlib.sha256(stamp)

    def write(self, content: Any) -> int:
        self.digest.update(content)
        return int(self.stream.write(content))


@cache
def digest_of(source: Path) -> bytes:
    """Return a digest of a module and of all modules of ours that it imports, directly or through others."""
    digest = hashlib.sha256()
    for path in sorted(_with_imported(source)):
        digest.update(f"{path.name}\0".encode() + _content(path).encode() + b"\0")
    return digest.digest()


@cache
def _with_imported(source: Path) -> frozenset[Path]:
    found, left = {source}, [source]
    while left:
        new = _imported(left.pop()) - found
        found |= new
        left += new
    return frozenset(found)


@cache
def _imported(source: Path) -> set[Path]:
    modules = set()
    for module, names in _IMPORTS.findall(_content(source)):
        modules |= {module, *(f"{module}.{name}" for name in re.findall(r"\w+", names))}
    places = (_ROOT.joinpath(*module.split(".")) for module in modules)
    return {path for place in places for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()}


@cache
def _content(source: Path) -> str:
    return source.read_text(encoding="utf-8")


@cache
def _places(source: str) -> tuple[Path, ...]:
    """Return the folders where entries of a module may lie, best first."""
    folder = os.path.dirname(os.path.abspath(source))
    own = f"{os.path.basename(folder)}_{hashlib.sha256(folder.encode()).hexdigest()[:16]}"
    if SETTINGS.CACHE_DIR:
        return (Path(SETTINGS.CACHE_DIR, own),)
    places = [Path(folder, "__pycache__"), cache_root() / "kernels" / own]
    if private_folder(temporary_root()):
        places.append(temporary_root() / "kernels" / own)
    return tuple(places)


@cache
def _target(source: str) -> Path | None:
    """Return the first place that can be written; say so when that is not one that stays."""
    place = next((place for place in _places(source) if _is_writable(place)), None)
    if place is None or temporary_root() in place.parents:
        kept = "nowhere" if place is None else f"in {temporary_root()}"
        wanted = SETTINGS.CACHE_DIR
        why = f"NUMBA_CACHE_DIR={wanted} cannot" if wanted else f"neither the package nor {cache_root()} can"
        _warn_once(f"compiled kernels are kept {kept}: {why} be written")
    return place


def kept_in() -> str:
    """Return the folder where compiled kernels of queries are kept, "nowhere" where no place can be written."""
    found = _target(str(_ROOT / "sparcode" / "query" / "answer.py"))
    return "nowhere" if found is None else str(found)


@cache
def _is_writable(place: Path) -> bool:
    try:
        place.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError:
        return False
    return True


@cache
def _warn_once(message: str) -> None:
    _log.warning(message)


_told: list[str] = []


def _tell_of_compilation(source: str) -> None:
    """Log once a process that kernels are compiled, when none ever was."""
    if not _told:
        _told.append(source)
        homes = [_ROOT / "sparcode", *(place.parent for place in _places(source)[1:])]
        if not any(True for home in homes for _ in home.rglob("*.nbi")):
            _log.info("compiling kernels for this machine, once (about half a minute)")

"""``sparcode data fetch``: public sets that a package index can deliver, checked by SHA-256 and cached."""

from __future__ import annotations

import difflib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from sparcode.errors import DataError
from sparcode.files import sha256_of
from sparcode.folders import cache_root


@dataclass(frozen=True)
class Source:
    """A set inside a wheel: what to download, its SHA-256, and the files to take out of ``folder``."""

    requirement: str
    sha256: str
    folder: str
    files: tuple[str, ...]
    terms: str


SOURCES = {
    "ml-100k": Source(
        "recbole==1.2.1",
        "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        "recbole/dataset_example/ml-100k",
        ("ml-100k.inter", "ml-100k.item", "ml-100k.user"),
        "MovieLens 100K of GroupLens: research use, no redistribution",
    )
}


def known_names() -> list[str]:
    """Names that ``fetch`` accepts."""
    return sorted(SOURCES)


def cache_folder() -> Path:
    """Return the folder of fetched sets, ``data`` in the user's cache folder (``SPARCODE_CACHE``)."""
    return cache_root() / "data"


def cached(name: str, cache_dir: Path | None = None) -> Path | None:
    """Return the folder of a set that was fetched before, or None."""
    source = SOURCES.get(name)
    folder = (cache_dir or cache_folder()) / name
    return folder if source and all((folder / file).is_file() for file in source.files) else None


def fetch(name: str, cache_dir: Path | None = None) -> Path:
    """Return the folder of a set, downloading it unless it is cached.

    The download goes through pip (its options, mirrors and proxies apply) without dependencies; nothing is
    installed. Raises DataError for an unknown name, no network, and a file that is not the expected one.
    """
    source = SOURCES.get(name)
    if source is None:
        near = difflib.get_close_matches(name, known_names(), n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"unknown set {name!r}{hint} (sets that can be fetched: {', '.join(known_names())})")
    found = cached(name, cache_dir)
    if found is not None:
        return found
    target = (cache_dir or cache_folder()) / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=target.parent) as temporary:
            wheel = _download(source, Path(temporary), name)
            _check(wheel, source)
            _move(_extract(wheel, source, Path(temporary) / name), target)
    except OSError as problem:
        raise DataError(
            f"fetching {name} into {target} failed: {problem}; set SPARCODE_CACHE to a writable folder"
        ) from None
    return target


def _download(source: Source, folder: Path, name: str) -> Path:
    command = [*_pip(), "download", source.requirement, "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--quiet", "--timeout", "20", "--retries", "2", "--dest", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["pip wrote no wheel"]
        reason = next((line for line in reversed(lines) if "ERROR" in line), lines[-1]).strip()
        raise DataError(
            f"downloading {source.requirement} for {name} failed: {reason}; check the network or pip's index"
        )
    return wheels[0]


def _pip() -> list[str]:
    """Return a command that is pip; DataError where there is none, as in an environment that uv made."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise DataError(
            "a set is downloaded by pip, which this environment has not: uv pip install pip, or python -m ensurepip"
        )
    return [found]


def _check(wheel: Path, source: Source) -> None:
    found = sha256_of(wheel)
    if found != source.sha256:
        raise DataError(
            f"{wheel.name} is not the expected file: SHA-256 {found[:12]}..., expected {source.sha256[:12]}...; "
            "nothing was kept, check pip's index"
        )


def _extract(wheel: Path, source: Source, folder: Path) -> Path:
    folder.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in source.files:
                # Names come from our own list, so nothing can be written outside the folder.
                (folder / file).write_bytes(archive.read(f"{source.folder}/{file}"))
    except (KeyError, zipfile.BadZipFile) as problem:
        raise DataError(f"{wheel.name} does not hold {source.folder}: {problem}") from None
    return folder


def _move(folder: Path, target: Path) -> None:
    if target.exists() and not all((target / file.name).is_file() for file in folder.iterdir()):
        shutil.rmtree(target)
    try:
        folder.rename(target)
    except OSError:
        # Another process may have finished first; what it wrote passed the same check.
        if not target.is_dir():
            raise

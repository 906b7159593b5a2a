"""A built engine as a folder: files of the library, then ``peer.json``, whose presence means complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparcode.errors import CorruptIndexError
from sparcode.files import read_json, write_json

MANIFEST = "peer.json"


def begin(folder: Path) -> Path:
    """Make ``folder`` ready to be written: until ``finish`` it counts as incomplete."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    return folder


def finish(folder: Path, manifest: dict[str, Any]) -> None:
    """Declare the folder complete."""
    write_json(folder / MANIFEST, manifest)


def read_manifest(folder: Path, name: str) -> dict[str, Any]:
    """Return what ``finish`` wrote; CorruptIndexError when it is missing, says another engine or other sizes."""
    manifest = read_json(folder / MANIFEST)
    found = manifest.get("name") if isinstance(manifest, dict) else None
    if found != name:
        raise CorruptIndexError(f"{folder} holds the engine {found!r}, expected {name!r}; give the folder of {name!r}")
    stored, expected = payload_bytes(folder), manifest.get("bytes")
    if stored != expected:
        raise CorruptIndexError(f"{folder} holds {stored} bytes, its manifest says {expected}; build it again")
    return manifest


def payload_bytes(folder: Path) -> int:
    """Return the bytes of all files but the manifest."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)

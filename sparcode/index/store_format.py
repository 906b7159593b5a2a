"""The bytes of a stored index: names, CURRENT, and the manifest (format version 1).

    LOCK                         writers lock it; never deleted
    CURRENT                      two lines: JSON {generation, manifest, size, sha256} and the SHA-256 of that line
    manifests/g<16 hex>.json     one generation, never changed
    segs/s<16 hex>/<name>.bin    its arrays, raw little-endian, never changed

CURRENT is the only file ever replaced; what it names is complete and synced before it does. A digest here
proves integrity, not origin.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

FORMAT = "sparcode-index"
FORMAT_VERSION = 1
MAX_CURRENT_BYTES = 4096
MAX_MANIFEST_BYTES = 16 << 20
DTYPES = {"indptr": "<u8", "postings": "<u4", "code_table": "<u2", "code_rows": "<i4", "scores": "<f4"}
"""Arrays an index may hold and their only dtype; the first three are required."""
REQUIRED = ("indptr", "postings", "code_table")

MANIFEST_NAME = re.compile(r"g([0-9a-f]{16})\.json")
SEGMENT_NAME = re.compile(r"s([0-9a-f]{16})")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LARGEST = 1 << 53


class FormatError(ValueError):
    """CURRENT or a manifest breaks a rule; the message says which."""


def manifest_name(generation: int) -> str:
    """Return the file name of a generation's manifest."""
    return f"g{generation:016x}.json"


def segment_name(generation: int) -> str:
    """Return the directory name of a generation's arrays."""
    return f"s{generation:016x}"


def digest(content: bytes) -> str:
    """Return the SHA-256 as hex."""
    return hashlib.sha256(content).hexdigest()


def encode_current(generation: int, manifest: bytes) -> bytes:
    """Return the content of CURRENT that points at a manifest."""
    entry = {
        "generation": generation,
        "manifest": manifest_name(generation),
        "size": len(manifest),
        "sha256": digest(manifest),
    }
    line = json.dumps(entry).encode()
    return line + b"\n" + digest(line).encode() + b"\n"


def parse_current(content: bytes) -> dict[str, Any]:
    """Parse CURRENT; FormatError unless every byte is as ``encode_current`` writes it."""
    line, _, rest = content.partition(b"\n")
    if len(content) > MAX_CURRENT_BYTES or rest != digest(line).encode() + b"\n":
        raise FormatError("its digest does not match its content")
    entry = _json_object(line)
    generation = _count(entry, "generation")
    size = _count(entry, "size")
    if set(entry) != {"generation", "manifest", "size", "sha256"} or entry["manifest"] != manifest_name(generation):
        raise FormatError("it does not name the manifest of its generation")
    if size > MAX_MANIFEST_BYTES or not _is_digest(entry["sha256"]):
        raise FormatError("it names a manifest of impossible size or digest")
    return entry


def encode_manifest(manifest: dict[str, Any]) -> bytes:
    """Return the canonical bytes of a manifest."""
    return (json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def parse_manifest(content: bytes, generation: int) -> dict[str, Any]:
    """Parse and check a manifest: version, generation, every array entry. FormatError names the broken rule."""
    manifest = _json_object(content)
    if manifest.get("format") != FORMAT:
        raise FormatError(f"its format is {manifest.get('format')!r}, expected {FORMAT!r}")
    if manifest.get("format_version") != FORMAT_VERSION:
        raise FormatError(
            f"its format version is {manifest.get('format_version')!r}, this program reads {FORMAT_VERSION}"
        )
    if manifest.get("generation") != generation or manifest.get("segment") != segment_name(generation):
        raise FormatError(f"it is not the manifest of generation {generation}")
    for key in ("model_hash", "config_hash"):
        _require(isinstance(manifest.get(key), str), f"{key} is not a text")
    _require(isinstance(manifest.get("info"), dict), "info is not an object")
    for key in ("item_count", "rows", "postings"):
        _count(manifest, key)
    _finite(manifest, "scale")
    _check_families(manifest.get("families"))
    _check_arrays(manifest)
    return manifest


def _check_families(families: Any) -> None:
    _require(isinstance(families, list), "families is not a list")
    for family in families:
        _require(
            isinstance(family, dict) and set(family) == {"name", "first_row", "rows", "multiplier"}, "a family's keys"
        )
        _require(isinstance(family["name"], str), "a family's name is not a text")
        _count(family, "first_row")
        _count(family, "rows")
        _finite(family, "multiplier")


def _check_arrays(manifest: dict[str, Any]) -> None:
    arrays: Any = manifest.get("arrays")
    known = isinstance(arrays, dict) and set(REQUIRED) <= set(arrays) <= set(DTYPES)
    _require(known, f"its arrays are not {', '.join(DTYPES)}")
    for name, entry in arrays.items():
        _check_entry(name, entry)
    _require(arrays["indptr"]["shape"] == [manifest["rows"] + 1], "the length of indptr is not rows + 1")
    _require(arrays["postings"]["shape"] == [manifest["postings"]], "the length of postings is not as stated")


def _check_entry(name: str, entry: Any) -> None:
    _require(isinstance(entry, dict), f"the entry of {name} is not an object")
    _require(entry.get("file") == f"{name}.bin", f"the file of {name} is {entry.get('file')!r}")
    _require(entry.get("dtype") == DTYPES[name], f"the dtype of {name} is {entry.get('dtype')!r}")
    shape = entry.get("shape")
    dimensions = 2 if name == "code_table" else 1
    _require(
        isinstance(shape, list) and len(shape) == dimensions and all(_is_count(size) for size in shape),
        f"the shape of {name} is {shape!r}",
    )
    size = math.prod(shape) * int(DTYPES[name][-1])
    _require(_count(entry, "bytes") == size, f"the size of {name} is not its shape times its dtype")
    _require(_is_digest(entry.get("sha256")), f"the digest of {name} is malformed")


def _json_object(content: bytes) -> dict[str, Any]:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _require(len({key for key, _ in pairs}) == len(pairs), "a key stands twice")
        return dict(pairs)

    def no_constant(text: str) -> Any:
        raise FormatError(f"it holds {text}")

    try:
        value = json.loads(content.decode(), object_pairs_hook=no_duplicates, parse_constant=no_constant)
    except FormatError:
        raise
    except (ValueError, RecursionError) as problem:
        raise FormatError(f"it is not valid JSON ({problem})") from None
    _require(isinstance(value, dict), "it is not a JSON object")
    return value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FormatError(message)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _count(values: dict[str, Any], key: str) -> int:
    value = values.get(key)
    _require(_is_count(value), f"{key} is {value!r}, expected a count")
    return int(value)  # type: ignore[arg-type]


def _finite(values: dict[str, Any], key: str) -> None:
    value: Any = values.get(key)
    _require(type(value) in (int, float) and math.isfinite(value), f"{key} is {value!r}, expected a finite number")

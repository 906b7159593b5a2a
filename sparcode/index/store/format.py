"""The bytes of a stored index: names, CURRENT, and the manifest (format version 1).

    LOCK                         writers lock it; never deleted
    CURRENT                      two lines: JSON {generation, manifest, size, sha256} and the SHA-256 of that line
    manifests/g<16 hex>.json     one generation, never changed
    segs/s<16 hex>/<name>.bin    its arrays, raw little-endian, never changed

CURRENT is the only file ever replaced; what it names is complete and synced before it does. A digest here
proves integrity, not origin: everything is checked as if a stranger had written and signed it.

The format is a contract, written down in docs/index-format.md and kept by tests/index/golden.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import reprlib
from collections.abc import Callable
from typing import Any

from sparcode.files import parse_json

FORMAT = "sparcode-index"
FORMAT_VERSION = 1
MAX_CURRENT_BYTES = 4096
MAX_MANIFEST_BYTES = 16 << 20
MAX_DEPTH = 32
"""Deepest nesting of a manifest, itself included."""
MAX_TEXT = 255
"""Longest hash and name, in characters, all of them printable."""
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
        raise FormatError(f"its format is {_shown(manifest.get('format'))}, expected {FORMAT!r}")
    version = manifest.get("format_version")
    if type(version) is not int or version not in READERS:
        known = ", ".join(map(str, READERS))
        raise FormatError(f"its format version is {_shown(version)}, this program reads {known}")
    return READERS[version](manifest, generation)


def _read_version_1(manifest: dict[str, Any], generation: int) -> dict[str, Any]:
    """Check a manifest of version 1 and return it; keys it does not know are left alone."""
    found, segment = _count(manifest, "generation"), manifest.get("segment")
    if found != generation or segment != segment_name(generation):
        raise FormatError(f"it is of generation {found}, segment {_shown(segment)}, expected generation {generation}")
    for key in ("model_hash", "config_hash"):
        _text(manifest, key)
    _require(isinstance(manifest.get("info"), dict), "info is not an object")
    for key in ("item_count", "rows", "postings"):
        _count(manifest, key)
    _finite(manifest, "scale")
    _check_families(manifest.get("families"))
    _check_arrays(manifest)
    return manifest


READERS: dict[int, Callable[[dict[str, Any], int], dict[str, Any]]] = {1: _read_version_1}
"""Every version there ever was, and what turns its manifest into one of FORMAT_VERSION. Entries are never removed."""


def _check_families(families: Any) -> None:
    _require(isinstance(families, list), "families is not a list")
    keys = {"name", "first_row", "rows", "multiplier"}
    for family in families:
        known = isinstance(family, dict) and set(family) == keys
        _require(known, "a family is {}, expected an object of name, first_row, rows, multiplier", family)
        _text(family, "name")
        _count(family, "first_row")
        _count(family, "rows")
        _finite(family, "multiplier")


def _check_arrays(manifest: dict[str, Any]) -> None:
    arrays: Any = manifest.get("arrays")
    known = isinstance(arrays, dict) and set(REQUIRED) <= set(arrays) <= set(DTYPES)
    _require(known, f"its arrays are {{}}, expected {', '.join(REQUIRED)}, perhaps code_rows, scores", arrays)
    for name, entry in arrays.items():
        _check_entry(name, entry)
    for name, length, what in (("indptr", manifest["rows"] + 1, "rows + 1"), ("postings", manifest["postings"], "it")):
        found = arrays[name]["shape"][0]
        _require(found == length, f"the length of {name} is {found}, the manifest says {what} = {length}")


def _check_entry(name: str, entry: Any) -> None:
    _require(isinstance(entry, dict), f"the entry of {name} is not an object")
    for key, expected in (("file", f"{name}.bin"), ("dtype", DTYPES[name])):
        found = entry.get(key)
        _require(found == expected, f"the {key} of {name} is {{}}, expected {expected!r}", found)
    shape = entry.get("shape")
    dimensions = 2 if name == "code_table" else 1
    _require(
        isinstance(shape, list) and len(shape) == dimensions and all(_is_count(size) for size in shape),
        f"the shape of {name} is {{}}, expected {dimensions} counts",
        shape,
    )
    size, found = math.prod(shape) * int(DTYPES[name][-1]), _count(entry, "bytes")
    _require(found == size, f"the size of {name} is {found} bytes, its shape times its dtype is {size}")
    _require(_is_digest(entry.get("sha256")), f"the digest of {name} is malformed")


def _json_object(content: bytes) -> dict[str, Any]:
    try:
        value = parse_json(content)
    except ValueError as problem:
        raise FormatError(f"it is not valid JSON ({problem})") from None
    _require(isinstance(value, dict), "it is not a JSON object")
    _check_depth(value, MAX_DEPTH)
    return value


def _check_depth(value: Any, left: int) -> None:
    """Whoever walks or prints a manifest does so by recursion; a few levels are all there ever are."""
    _require(left > 0, "it is nested more than {} deep", MAX_DEPTH)
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, (dict, list)):
            _check_depth(part, left - 1)


def _shown(value: Any) -> str:
    """Return a value for a message: short, on one line, however large or deep it is."""
    return ascii(value)[:MAX_TEXT] if isinstance(value, (int, float)) else reprlib.repr(value)


def _require(condition: bool, message: str, *found: Any) -> None:
    """Raise FormatError unless the condition holds; each ``{}`` of the message stands for a value found."""
    if not condition:
        raise FormatError(message.format(*map(_shown, found)) if found else message)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _count(values: dict[str, Any], key: str) -> int:
    value = values.get(key)
    _require(_is_count(value), f"{key} is {{}}, expected a count", value)
    return int(value)  # type: ignore[arg-type]


def _finite(values: dict[str, Any], key: str) -> None:
    """A number that is a finite float64; a large integer is not."""
    value: Any = values.get(key)
    finite = (type(value) is int and -_LARGEST <= value <= _LARGEST) or (type(value) is float and math.isfinite(value))
    _require(finite, f"{key} is {{}}, expected a finite number", value)


def _text(values: dict[str, Any], key: str) -> None:
    value: Any = values.get(key)
    sound = isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()
    _require(sound, f"{key} is {{}}, expected a printable text of at most {MAX_TEXT} characters", value)

"""Mappings as files: Parquet, a folder of numpy arrays, and JSON; each is whole or absent, none is executed.

Parquet: ``item_id``, ``c1`` .. ``cL``, ``code_str`` (``12-7-255``), and ``token`` where one codebook makes the code.
Folder: ``codes.npy`` (n, L) int32, ``ids.npy`` (n,), ``semantic_ids.json``. JSON: ``item_to_semantic``,
``semantic_to_item``, ``metadata`` with ``id_length``, ``codebook_size``, ``num_items``, ``generation_method``.
What other programs wrote in these shapes is read too; sizes that a file does not tell are those of its digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.errors import DataError, QueryError
from sparcode.files import (
    atomic_path,
    atomic_paths,
    is_temporary,
    read_json,
    require_regular,
    require_writable,
    write_bytes,
    write_json,
)
from sparcode.semantic_id.mapping import SemanticIds

FORMATS = ("parquet", "npy", "json")
_KEY = b"sparcode.semantic_ids"
_CODES, _IDS, _ABOUT = "codes.npy", "ids.npy", "semantic_ids.json"


def write_mapping(mapping: SemanticIds, path: Path, format: str | None = None) -> None:
    """Write ``path`` in one of ``FORMATS``; absent, the format is told by the ending (none: a folder of arrays)."""
    chosen = format or check_mapping_path(Path(path))
    {"parquet": write_parquet, "npy": write_npy, "json": write_mapping_json}[chosen](mapping, Path(path))


def read_mapping(path: Path) -> SemanticIds:
    """Read what ``write_mapping`` wrote, or another program in the same shape; DataError in one line."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file; expected .parquet, .json, or a folder with {_CODES} and {_IDS}")
    return {"parquet": read_parquet, "npy": read_npy, "json": read_mapping_json}[check_mapping_path(path)](path)


def mapping_table(mapping: SemanticIds) -> pa.Table:
    """Return the Parquet table of a mapping; what is known of it is in the metadata of the schema."""
    columns: dict[str, Any] = {"item_id": mapping.ids}
    columns |= {f"c{digit + 1}": pa.array(column) for digit, column in enumerate(np.ascontiguousarray(mapping.codes.T))}
    columns["code_str"] = mapping.texts()
    if mapping.content_digits == 1:
        columns["token"] = columns["c1"]
    return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(_about(mapping)).encode()})


def write_parquet(mapping: SemanticIds, path: Path) -> None:
    """Write ``mapping_table`` atomically."""
    import pyarrow.parquet as parquet

    with atomic_path(path) as temporary:
        parquet.write_table(mapping_table(mapping), temporary)


def read_parquet(path: Path) -> SemanticIds:
    """Read item_id and c1 .. cL; ``code_str`` and ``token`` are not needed."""
    import pyarrow.parquet as parquet

    require_regular(path, DataError)
    try:
        table = parquet.read_table(path)
    except (pa.ArrowException, OSError) as problem:
        raise DataError(f"{path}: cannot be read as Parquet: {' '.join(str(problem).split())}") from None
    digits = sorted(
        (name for name in table.column_names if re.fullmatch(r"c[1-9]\d*", name)), key=lambda name: int(name[1:])
    )
    if "item_id" not in table.column_names or digits != [f"c{place + 1}" for place in range(len(digits))] or not digits:
        raise DataError(f"{path}: columns {', '.join(table.column_names)} found, item_id and c1 .. cL expected")
    if any(table[name].null_count or not pa.types.is_integer(table[name].type) for name in digits):
        raise DataError(f"{path}: c1 .. cL must be integers without nulls")
    codes = np.column_stack([table[name].to_numpy() for name in digits])
    about = (table.schema.metadata or {}).get(_KEY)
    return _mapping(path, table["item_id"].combine_chunks(), codes, json.loads(about) if about else {})


def write_npy(mapping: SemanticIds, path: Path) -> None:
    """Write a folder with ``codes.npy``, ``ids.npy``, ``semantic_ids.json``; none is replaced before all are there."""
    with atomic_paths(path / name for name in (_CODES, _IDS, _ABOUT)) as (codes, ids, about):
        write_array(codes, mapping.codes)
        write_array(ids, _plain_ids(mapping.ids))
        write_json(about, _about(mapping))


def read_npy(path: Path) -> SemanticIds:
    """Read a folder with ``codes.npy`` and ``ids.npy``; ``semantic_ids.json`` may be absent."""
    codes, ids = read_array(path / _CODES), read_array(path / _IDS)
    about = read_json(path / _ABOUT, DataError) if (path / _ABOUT).exists() else {}
    return _mapping(path, pa.array(ids.ravel()), codes, about)


def read_array(path: Path) -> np.ndarray:
    """Read one .npy file; files that would need pickle are refused with DataError."""
    require_regular(path, DataError)
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a .npy array of SIDs or ids there") from None
    except (ValueError, EOFError, OSError) as problem:
        raise DataError(f"{path}: cannot be read as a plain .npy array: {' '.join(str(problem).split())}") from None


def write_mapping_json(mapping: SemanticIds, path: Path) -> None:
    """Write the three keys; several items under one SID are a list, in the order of their rows."""
    ids, texts = mapping.ids.to_pylist(), mapping.texts().to_pylist()
    items: dict[str, list[Any]] = {}
    for item, text in zip(ids, texts, strict=True):
        items.setdefault(text, []).append(item)
    content = {
        "item_to_semantic": {str(item): code for item, code in zip(ids, mapping.codes.tolist(), strict=True)},
        "semantic_to_item": items,
        "metadata": _json_metadata(mapping),
    }
    # One line: the indented form of a million items is three times as large.
    write_bytes(path, (json.dumps(content, ensure_ascii=False) + "\n").encode())


def read_mapping_json(path: Path) -> SemanticIds:
    """Read the three keys; ``semantic_to_item`` may hold one item or a list, and must agree if it is there."""
    require_regular(path, DataError)
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
    except (ValueError, OSError) as problem:
        raise DataError(f"{path}: cannot be read as a mapping: {problem}") from None
    if not isinstance(content, dict) or not isinstance(forward := content.get("item_to_semantic"), dict):
        raise DataError(f"{path}: the key item_to_semantic is missing, an object of item -> list of digits expected")
    metadata = content.get("metadata") or {}
    for key in ("metadata", "semantic_to_item"):
        if not isinstance(content.get(key, {}), dict):
            raise DataError(f"{path}: the key {key} holds {content[key]!r}, an object expected")
    codes = _json_codes(path, forward)
    if metadata.get("num_items", len(forward)) != len(forward):
        raise DataError(f"{path}: metadata.num_items is {metadata['num_items']}, {len(forward)} items found")
    if metadata.get("id_length", codes.shape[1]) != codes.shape[1]:
        raise DataError(f"{path}: metadata.id_length is {metadata['id_length']}, SIDs of {codes.shape[1]} digits found")
    ids = pa.array(list(forward), pa.large_string())
    if metadata.get("item_id_type") == "int64":
        ids = ids.cast(pa.int64())
    if "semantic_to_item" in content:
        _check_backward(path, forward, content["semantic_to_item"])
    return _mapping(path, ids, codes, _about_of_json(metadata, codes.shape[1]))


def read_codes(path: Path) -> SemanticIds | np.ndarray:
    """Read SIDs to decode: a mapping, or the bare matrix (n, L) of one .npy file."""
    return read_array(path) if Path(path).suffix == ".npy" else read_mapping(path)


def _about(mapping: SemanticIds) -> dict[str, Any]:
    return {
        "method": mapping.method,
        "sizes": list(mapping.sizes),
        "content_digits": mapping.content_digits,
        "tokenizer": mapping.tokenizer,
    }


def _json_metadata(mapping: SemanticIds) -> dict[str, Any]:
    content = mapping.sizes[: mapping.content_digits]
    return {
        "id_length": len(mapping.sizes),
        "codebook_size": content[0] if len(set(content)) == 1 else list(content),
        "num_items": len(mapping),
        "generation_method": mapping.method,
        "item_id_type": "int64" if pa.types.is_integer(mapping.ids.type) else "string",
    } | {key: value for key, value in _about(mapping).items() if key != "method"}


def _about_of_json(metadata: dict[str, Any], digits: int) -> dict[str, Any]:
    about = {key: metadata[key] for key in ("sizes", "content_digits", "tokenizer") if key in metadata}
    size = metadata.get("codebook_size")
    if "sizes" not in about and isinstance(size, int):
        about["sizes"] = [size] * digits
    elif "sizes" not in about and isinstance(size, list) and len(size) == digits:
        about["sizes"] = size
    return about | {"method": str(metadata.get("generation_method", "unknown"))}


def _json_codes(path: Path, forward: dict[str, Any]) -> np.ndarray:
    try:
        codes = np.array(list(forward.values()))
    except ValueError:
        raise DataError(f"{path}: SIDs of different lengths found, one length expected") from None
    if codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise DataError(f"{path}: item_to_semantic must hold one list of whole numbers an item")
    return codes


def _check_backward(path: Path, forward: dict[str, list[int]], backward: Any) -> None:
    pairs = (
        (text, item) for text, items in backward.items() for item in (items if isinstance(items, list) else [items])
    )
    count = 0
    for text, item in pairs:
        count += 1
        digits = [int(number) for number in re.findall(r"-?\d+", text.replace("-", " "))]
        if forward.get(str(item)) != digits:
            raise DataError(
                f"{path}: semantic_to_item has {item!r} under {text}, item_to_semantic {forward.get(str(item))}"
            )
    if count != len(forward):
        raise DataError(f"{path}: semantic_to_item holds {count} items, item_to_semantic {len(forward)}")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice")
    return content


def _mapping(path: Path, ids: pa.Array, codes: np.ndarray, about: dict[str, Any]) -> SemanticIds:
    try:
        sizes = about.get("sizes") or _sizes_of(codes)
        return SemanticIds(
            ids,
            codes,
            sizes,
            method=about.get("method", "unknown"),
            tokenizer=about.get("tokenizer"),
            content_digits=about.get("content_digits"),
        )
    except (DataError, QueryError, TypeError, ValueError) as problem:
        raise DataError(f"{path}: {problem}") from None


def _sizes_of(codes: np.ndarray) -> Sequence[int]:
    if codes.ndim != 2 or not len(codes):
        raise DataError(f"SIDs of shape {codes.shape} found, (items, digits) expected")
    return [max(1, int(top) + 1) for top in codes.max(axis=0)]


def check_mapping_path(path: Path) -> str:
    """Return the format that the ending of ``path`` tells; DataError for another ending."""
    endings = {".parquet": "parquet", ".pq": "parquet", ".json": "json", "": "npy"}
    if path.is_dir():
        return "npy"
    if path.suffix not in endings:
        raise DataError(f"{path}: .parquet, .json, or a folder (no ending) expected for a mapping of items and SIDs")
    return endings[path.suffix]


def require_target(path: Path, format: str, names: Sequence[str] = (_CODES, _IDS, _ABOUT)) -> None:
    """Raise DataError or OSError unless ``path`` can be written, or replaced, as ``format`` (of ``FORMATS``, or llm).

    As everywhere, a file is replaced in one step, a folder only when it holds nothing but files of ours, ``names``, and
    what a write that was killed left behind; a name that promises another format is refused. Called before any work.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise DataError(f"{path} is a device or pipe, which the file would replace; give another name")
    if format in ("parquet", "json"):
        _require_ending(path, format, {"parquet": (".parquet", ".pq"), "json": (".json",)}[format])
        require_writable(path)
    elif path.is_dir():
        others = sorted(name for name in {file.name for file in path.iterdir()} - set(names) if not is_temporary(name))
        if others:
            raise DataError(
                f"{path} exists and holds {others[0]!r}, which is no file of the {format} format; give another name, "
                "or remove it"
            )
        require_writable(path / names[0])
    elif path.is_file():
        raise DataError(f"{path} is a file; the {format} format is a folder, give another name")
    else:
        _require_ending(path, format, ())
        require_writable(path)


def _require_ending(path: Path, format: str, endings: Sequence[str]) -> None:
    ending = path.suffix.lower()
    if ending in {".parquet", ".pq", ".json", ".npy", ".jsonl"} - set(endings):
        wanted = f"end with {endings[0]}" if endings else "name a folder, without ending"
        raise DataError(f"{path}: the {format} format should {wanted}; change the name, or the format")


def _plain_ids(ids: pa.Array) -> np.ndarray:
    values: Iterable[Any] = ids.to_pylist()
    return np.array(values, np.int64) if pa.types.is_integer(ids.type) else np.array(values, np.str_)


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one plain .npy file atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.save(stream, array, allow_pickle=False)

"""SIDs as words of a language model: the tokens to add to its vocabulary, items and histories as JSONL.

added_tokens.json    ["<a_0>", "<a_1>", ..., "<d_15>"]: a letter a digit, then the value
items.jsonl          {"item_id": ..., "sid": "<a_12><b_7><c_255><d_0>", "title": ...}
histories.jsonl      {"user_id": ..., "items": [...], "text": "<a_1>... <a_3>..."}: training events, oldest first
validation.jsonl     the same, history before the target, and "target", "target_text"; likewise test.jsonl
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sparcode.files import atomic_path, atomic_paths, write_json
from sparcode.semantic_id.histories import Histories
from sparcode.semantic_id.mapping import SemanticIds

FILES = ("added_tokens.json", "items.jsonl", "histories.jsonl", "validation.jsonl", "test.jsonl")
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def token(digit: int, value: int) -> str:
    """Return the word of one value of one digit (from 0): ``<a_12>``; from the 27th digit on ``<s27_12>``."""
    return f"<{_name(digit)}_{value}>"


def added_tokens(sizes: Iterable[int]) -> list[str]:
    """Return all words of SIDs with these sizes, digit by digit; no two are equal."""
    return [token(digit, value) for digit, size in enumerate(sizes) for value in range(size)]


def sid_words(mapping: SemanticIds) -> pa.Array:
    """Return every SID as words without spaces, (n,) large_string."""
    import pyarrow.compute as pc

    text = pa.large_string()
    parts = []
    for digit, column in enumerate(np.ascontiguousarray(mapping.codes.T)):
        values = pa.array(column).cast(text)
        ends = (pa.scalar(f"<{_name(digit)}_", text), pa.scalar(">", text), pa.scalar("", text))
        parts.append(pc.binary_join_element_wise(ends[0], values, ends[1], ends[2]))
    return pc.binary_join_element_wise(*parts, pa.scalar("", text))


def write_llm(mapping: SemanticIds, folder: Path, histories: Histories | None = None) -> dict[str, int]:
    """Write the files above and return the number of lines of each; none is replaced before all are there.

    Histories are of the items of ``mapping``, in its order. Files of an earlier export that have no successor go: they
    would be in the words of another tokenizer.
    """
    names = ["added_tokens.json", "items.jsonl"]
    if histories is not None:
        names += ["histories.jsonl", *(f"{split}.jsonl" for split in histories.held_out)]
    with atomic_paths(Path(folder) / name for name in names) as drafts:
        written = _write_files(mapping, dict(zip(names, drafts, strict=True)), histories)
    for name in set(FILES) - set(written):
        (Path(folder) / name).unlink(missing_ok=True)
    return written


def _write_files(mapping: SemanticIds, paths: dict[str, Path], histories: Histories | None) -> dict[str, int]:
    words, ids = sid_words(mapping).to_pylist(), mapping.ids.to_pylist()
    tokens = added_tokens(mapping.sizes)
    write_json(paths["added_tokens.json"], tokens)
    titles = None if histories is None else histories.titles
    written = {"added_tokens.json": len(tokens)}
    written["items.jsonl"] = _write_lines(paths["items.jsonl"], _items(ids, words, titles))
    if histories is None:
        return written
    written["histories.jsonl"] = _write_lines(paths["histories.jsonl"], _histories(histories, ids, words))
    for split in histories.held_out:
        name = f"{split}.jsonl"
        written[name] = _write_lines(paths[name], _held_out(histories, split, ids, words))
    return written


def _items(ids: list[Any], words: list[str], titles: list[str | None] | None) -> Iterable[dict[str, Any]]:
    for row, (item, sid) in enumerate(zip(ids, words, strict=True)):
        line = {"item_id": item, "sid": sid}
        yield line if titles is None or titles[row] is None else line | {"title": titles[row]}


def _histories(histories: Histories, ids: list[Any], words: list[str]) -> Iterable[dict[str, Any]]:
    for user, rows in histories.of_train():
        yield {"user_id": user, "items": [ids[row] for row in rows], "text": _text(rows, words)}


def _held_out(histories: Histories, split: str, ids: list[Any], words: list[str]) -> Iterable[dict[str, Any]]:
    for user, rows, targets in histories.of_held_out(split):
        yield {
            "user_id": user,
            "items": [ids[row] for row in rows],
            "text": _text(rows, words),
            "target": [ids[row] for row in targets],
            "target_text": _text(targets, words),
        }


def _text(rows: np.ndarray, words: list[str]) -> str:
    return " ".join(words[row] for row in rows)


def _name(digit: int) -> str:
    return LETTERS[digit] if digit < len(LETTERS) else f"s{digit + 1}"


def _write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> int:
    count = 0
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        for line in lines:
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    return count

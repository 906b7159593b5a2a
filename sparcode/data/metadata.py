"""Items and users tables: join by id, find titles, decide which columns are features, encode them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparcode.data.columns import find_id_column, plain
from sparcode.data.features import LARGEST_NUMBER, LARGEST_VECTOR, FeatureLayout, Features
from sparcode.data.ids import IdMap
from sparcode.data.joins import SHORT, align, is_long, is_piped
from sparcode.data.plain_types import decoded, type_name
from sparcode.data.text import LONGEST, ItemText, TextEncoder

_TITLES = ("title", "movietitle", "itemtitle", "producttitle", "name", "itemname", "productname", "headline")
_ID_LIKE = {"zip", "zipcode", "postcode", "postalcode", "phone", "email", "url", "imurl", "image", "asin", "isbn"}
_MOST_DISTINCT = 0.5
_MOST_WORDS = 1000
_FEW_WORDS = 100
_FEW_INTEGERS = 32
_MOSTLY_NUMBERS = 0.98


@dataclass(frozen=True)
class Metadata:
    """``titles``: (rows,) large_string or None. ``features``: None when no column is usable. ``summary``: JSON-able.

    ``text``: how one of the vectors was made of text, or None.
    """

    titles: pa.Array | None
    features: Features | None
    summary: dict[str, Any]
    text: ItemText | None = None


@dataclass
class _Columns:
    """Raw encodings collected column by column, before they are joined into Features.

    ``items.words``, ``free_text``: names of the columns whose text can become a vector. ``unusable``: how many values
    of a column are too large to compute with, or infinite; they are taken as missing.
    """

    rows: list[np.ndarray] = field(default_factory=list)
    words: list[np.ndarray] = field(default_factory=list)
    vocabulary: list[str] = field(default_factory=list)
    numeric: dict[str, np.ndarray] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    word_lists: list[str] = field(default_factory=list)
    free_text: list[str] = field(default_factory=list)
    unusable: dict[str, int] = field(default_factory=dict)

    def usable_numbers(self, name: str, array: pa.Array) -> np.ndarray:
        """Return ``numbers`` without what is too large."""
        values = numbers(array)
        large = np.abs(values) >= LARGEST_NUMBER
        self._count(name, large)
        return np.where(large, np.nan, values)

    def usable_vectors(self, name: str, array: pa.Array) -> np.ndarray | None:
        """Return ``vectors`` without those that hold what is too large, or infinite."""
        found = vectors(array)
        if found is None:
            return None
        large = ~(np.abs(found) < LARGEST_VECTOR).all(axis=1)
        self._count(name, large)
        return np.where(large[:, None], np.float32(0), found)

    def _count(self, name: str, large: np.ndarray) -> None:
        if large.any():
            self.unusable[name] = int(large.sum())


def read_metadata(
    table: pa.Table, role: str, id_column: str, ids: IdMap, *, layout: FeatureLayout | None = None,
    text: ItemText | None = None, title: bool = False, text_width: int = 0,
) -> Metadata:  # fmt: skip
    """Join ``table`` to ``ids`` and encode its columns.

    Rows of unknown ids are ignored, of several rows with one id the first counts. With ``layout`` (and ``text``) the
    encoding of an earlier dataset is used and values it does not know are left out (counted). ``title``: look for a
    title column. ``text_width``: largest width of a vector made of the text, 0 for none. MissingExtraError when text
    is to be encoded without scikit-learn.
    """
    key = find_id_column(table.column_names, role, id_column)
    # An earlier encoding may know long values, and they must be met as they are.
    longest = None if layout is not None else LONGEST if text_width else SHORT
    aligned, summary = align(table, key, ids, longest=longest, whole=_title_columns(table) if title else ())
    titles, title_column = _titles(aligned) if title else (None, None)
    body = aligned.drop_columns([name for name in (key, title_column) if name is not None])
    columns = _Columns()
    if layout is None:
        features, text = _encode(columns, body, titles, text_width)
    else:
        features, summary["unknown_values"] = _encode_like(columns, body, layout, titles, text)
    summary |= {"title": title_column, "features": _names(features), "ignored": columns.ignored}
    summary["taken_as_missing"] = columns.unusable
    if text is not None and features is not None:
        summary["text"] = _text_summary(text, features, title_column, body.column_names)
    return Metadata(titles, features, summary, text)


def encode(
    table: pa.Table, titles: pa.Array | None = None, text_width: int = 0
) -> tuple[Features | None, dict[str, str], ItemText | None]:
    """Choose and encode feature columns; the second value says why each other column is left out.

    With a ``text_width`` titles and columns of text become one more vector, the last, unless there is too little text.
    """
    columns = _Columns()
    features, text = _encode(columns, table, titles, text_width)
    return features, columns.ignored, text


def missing_lines(role: str, summary: dict[str, Any]) -> list[str]:
    """Return a warning for every column of a ``Metadata.summary`` of which values are too large to compute with."""
    return [
        f"{role}s table: column {name!r}: {count:,} values are infinite or too large to compute with (numbers from "
        f"{LARGEST_NUMBER:g}, vectors from {LARGEST_VECTOR:g} on) and are taken as missing"
        for name, count in summary.get("taken_as_missing", {}).items()
    ]


def _encode(
    columns: _Columns, table: pa.Table, titles: pa.Array | None, text_width: int
) -> tuple[Features | None, ItemText | None]:
    for name in table.column_names:
        _encode_column(columns, name, plain_array(table[name]))
    text = _add_text(columns, table, titles, text_width) if text_width else None
    raw = np.column_stack(list(columns.numeric.values())) if columns.numeric else np.zeros((table.num_rows, 0))
    means, stds = np.zeros(raw.shape[1]), np.ones(raw.shape[1], np.float32)
    for index in range(raw.shape[1]):
        known = raw[np.isfinite(raw[:, index]), index]
        means[index], stds[index] = centre(known), known.std()
    widths = [vector.shape[1] for vector in columns.vectors.values()]
    layout = FeatureLayout(columns.vocabulary, list(columns.numeric), means, stds, list(columns.vectors), widths)
    return (_assemble(layout, columns, raw) if layout.width else None), text


def centre(values: np.ndarray) -> float:
    """Return the mean, as a float32 unless that would lie far from it beside how little the values differ."""
    mean = float(values.mean())
    short = float(np.float32(mean))
    return short if abs(short - mean) <= 1e-3 * float(values.std()) else mean


def encode_like(
    table: pa.Table, layout: FeatureLayout, titles: pa.Array | None = None, text: ItemText | None = None
) -> tuple[Features, dict[str, str], int]:
    """Encode with an earlier layout: missing columns are unknown everywhere, new values are counted and left out."""
    columns = _Columns()
    features, unknown = _encode_like(columns, table, layout, titles, text)
    return features, columns.ignored, unknown


def _encode_like(
    columns: _Columns, table: pa.Table, layout: FeatureLayout, titles: pa.Array | None, text: ItemText | None
) -> tuple[Features, int]:
    rows, unknown = table.num_rows, 0
    given = [name for name in layout.vector_names if text is None or name != text.name]
    wanted = {*layout.category_names, *layout.numeric_names, *given, *(text.columns if text else ())}
    columns.ignored = {name: "not a feature of the earlier run" for name in table.column_names if name not in wanted}
    for name in layout.category_names:
        if name in table.column_names:
            places, values = category_values(plain_array(table[name]))
            words = np.array([layout.place_of_word.get(f"{name}={value}", -1) for value in values], dtype=np.int64)
            unknown += int((words < 0).sum())
            columns.rows.append(places[words >= 0])
            columns.words.append(words[words >= 0])
    raw = np.full((rows, len(layout.numeric_names)), np.nan)
    for index, name in enumerate(layout.numeric_names):
        if name in table.column_names:
            raw[:, index] = columns.usable_numbers(name, plain_array(table[name]))
    for name, width in zip(layout.vector_names, layout.vector_widths, strict=True):
        if text is not None and name == text.name:
            known = documents(table, titles if text.title else None, text.columns)
            columns.vectors[name] = text.encoder.transform(known)
            continue
        vector = columns.usable_vectors(name, plain_array(table[name])) if name in table.column_names else None
        fits = vector is not None and vector.shape[1] == width
        columns.vectors[name] = vector if fits and vector is not None else np.zeros((rows, width), np.float32)
    return _assemble(layout, columns, raw), unknown


def documents(table: pa.Table, titles: pa.Array | None, names: list[str]) -> list[str]:
    """Return the text of every row: the title and the values of the named columns, at most 2,000 characters."""
    parts: list[list[str]] = [[] for _ in range(table.num_rows)]
    arrays = [plain_array(table[name]) for name in names if name in table.column_names]
    for array in arrays if titles is None else [titles, *arrays]:
        if is_text(array.type):
            array = pc.utf8_slice_codeunits(array, 0, LONGEST)
        if is_text(array.type) or (is_list(array.type) and is_text(array.type.value_type)):
            for row, value in zip(*category_values(array), strict=True):
                parts[row].append(value)
    return [" ".join(words)[:LONGEST] for words in parts]


def text_columns(table: pa.Table) -> list[str]:
    """Return the names of the columns that hold words: text or lists of text, neither ids nor mostly links."""
    names = [name for name in table.column_names if not (plain(name).endswith("id") or plain(name) in _ID_LIKE)]
    return [name for name in names if _is_wordy(plain_array(table[name]))]


def plain_array(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array of a plain type (see ``plain_types``)."""
    return decoded(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column)


def category_values(array: pa.Array) -> tuple[np.ndarray, list[str]]:
    """Return (row, value) of every category of a column: lists flattened, ``a|b`` split, the rest as text."""
    if is_text(array.type) and is_piped(array):
        array = pc.split_pattern(array, "|")
    if is_list(array.type):
        rows = pc.list_parent_indices(array).to_numpy()
        flat = pc.list_flatten(array)
    else:
        rows, flat = np.arange(len(array)), array
    known = np.flatnonzero(np.asarray(flat.is_valid()))
    text = flat.take(pa.array(known)).cast(pa.large_string()).to_pylist()
    keep = [index for index, value in enumerate(text) if value.strip()]
    return np.asarray(rows, dtype=np.int64)[known][keep], [text[index].strip() for index in keep]


def numbers(array: pa.Array) -> np.ndarray:
    """Return float64 (rows,); nulls and text that is no number become nan."""
    if is_text(array.type):
        array = pc.utf8_trim_whitespace(pc.if_else(_numeric_text(array), array, pa.scalar(None, array.type)))
    if not (is_text(array.type) or is_number(array.type) or pa.types.is_boolean(array.type)):
        return np.full(len(array), np.nan)
    values = array.cast(pa.float64(), safe=False).fill_null(float("nan"))
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def vectors(array: pa.Array) -> np.ndarray | None:
    """Return float32 (rows, V) of a column of equally long number lists (0 where null or nan), else None.

    What is beyond float32 becomes infinite.
    """
    if not is_list(array.type) or not is_number(array.type.value_type):
        return None
    lengths = np.unique(pc.list_value_length(array).drop_null().to_numpy())
    if len(lengths) != 1 or lengths[0] == 0:
        return None
    result = np.zeros((len(array), int(lengths[0])), dtype=np.float32)
    flat = pc.list_flatten(array.drop_null()).cast(pa.float32(), safe=False).fill_null(0.0).to_numpy()
    rows = flat.reshape(-1, int(lengths[0]))
    result[np.asarray(array.is_valid())] = np.where(np.isnan(rows), np.float32(0), rows)
    return result


def is_text(kind: pa.DataType) -> bool:
    """True for string types."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: pa.DataType) -> bool:
    """True for list types."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_number(kind: pa.DataType) -> bool:
    """True for integers, floats and decimals."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_mostly_numbers(array: pa.Array) -> bool:
    """True for a column of text of which nearly every known value is a number."""
    return bool(pc.mean(_numeric_text(array).cast(pa.float64())).as_py() >= _MOSTLY_NUMBERS)


def _encode_column(columns: _Columns, name: str, array: pa.Array) -> None:
    kind = array.type
    if "=" in name:
        columns.ignored[name] = "its name contains '='"
    elif array.null_count == len(array):
        columns.ignored[name] = "empty"
    elif plain(name).endswith("id") or plain(name) in _ID_LIKE:
        columns.ignored[name] = "an id"
    elif is_list(kind) and pa.types.is_floating(kind.value_type):
        _add_vector(columns, name, array)
    elif _is_category(array):
        _add_categories(columns, name, array)
        if _is_wordy(array):
            columns.word_lists.append(name)
    elif is_number(kind) or (is_text(kind) and is_mostly_numbers(array)):
        _add_numbers(columns, name, array)
    elif is_text(kind):
        reason = None if is_piped(array) else _free_text(array)
        if reason:
            columns.ignored[name] = reason
        else:
            _add_categories(columns, name, array)
        if _is_wordy(array):
            (columns.free_text if reason else columns.word_lists).append(name)
    else:
        columns.ignored[name] = f"type {type_name(kind)}"


def _add_categories(columns: _Columns, name: str, array: pa.Array) -> None:
    rows, values = category_values(array)
    words, inverse, counts = np.unique(np.array(values, dtype=object), return_inverse=True, return_counts=True)
    if len(words) > _FEW_WORDS:
        # A value of one row alone says nothing about other rows.
        frequent = np.argsort(-counts, kind="stable")[:_MOST_WORDS]
        kept = np.sort(frequent[counts[frequent] > 1])
    else:
        kept = np.arange(len(words))
    if not len(kept):
        columns.ignored[name] = "every value occurs once"
        return
    place = np.full(len(words), -1, dtype=np.int64)
    place[kept] = np.arange(len(kept)) + len(columns.vocabulary)
    found = place[inverse]
    columns.rows.append(rows[found >= 0])
    columns.words.append(found[found >= 0])
    columns.vocabulary += [f"{name}={words[index]}" for index in kept]


def _add_numbers(columns: _Columns, name: str, array: pa.Array) -> None:
    values = columns.usable_numbers(name, array)
    known = values[np.isfinite(values)]
    # The test is made in float32, in which means and deviations are kept.
    if len(known) == 0:
        columns.ignored[name] = "no finite number"
    elif np.float32(known.std()) == 0:
        columns.ignored[name] = "the same number everywhere"
    else:
        columns.numeric[name] = values


def _add_vector(columns: _Columns, name: str, array: pa.Array) -> None:
    vector = columns.usable_vectors(name, array)
    if vector is None:
        columns.ignored[name] = "lists of numbers of different lengths"
    elif not vector.any():
        columns.ignored[name] = "no vector with a finite number but 0"
    else:
        columns.vectors[name] = vector


def _add_text(columns: _Columns, table: pa.Table, titles: pa.Array | None, width: int) -> ItemText | None:
    # Long texts come last: what the limit cuts off is never a brand or a category.
    names = columns.word_lists + columns.free_text
    texts = documents(table, titles, names)
    found = TextEncoder.fit_transform(texts, width)
    if found is None:
        return None
    taken = {*columns.numeric, *columns.vectors, *(word.partition("=")[0] for word in columns.vocabulary)}
    name = "text"
    while name in taken:
        name = "text_vector" if name == "text" else f"{name}_"
    encoder, columns.vectors[name] = found
    for used in names:
        columns.ignored.pop(used, None)
    return ItemText(name, titles is not None, names, encoder)


def _assemble(layout: FeatureLayout, columns: _Columns, raw: np.ndarray) -> Features:
    count, words = len(raw), max(len(layout.vocabulary), 1)
    empty = [np.zeros(0, dtype=np.int64)]
    # Sorted and without repeats: a list may name a value twice.
    cells = np.unique(np.concatenate(columns.rows or empty) * words + np.concatenate(columns.words or empty))
    indptr = np.zeros(count + 1, dtype=np.int64)
    np.cumsum(np.bincount(cells // words, minlength=count), out=indptr[1:])
    vector = np.concatenate(list(columns.vectors.values()), axis=1) if columns.vectors else None
    return Features(layout, indptr, (cells % words).astype(np.int32), layout.standardise(raw), vector)


def _titles(table: pa.Table) -> tuple[pa.Array | None, str | None]:
    for wanted in _TITLES:
        for name in table.column_names:
            text = _title_text(plain_array(table[name])) if plain(name) == wanted else None
            if text is not None:
                return text, name
    return None, None


def _title_columns(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if plain(name) in _TITLES]


def _title_text(array: pa.Array) -> pa.Array | None:
    """Return titles as text, "" where missing; None when the column holds what has no text (structs, bytes, ...)."""
    try:
        if is_list(array.type):
            array = pc.binary_join(array.cast(pa.list_(pa.string())), " ")
        return pc.fill_null(array.cast(pa.large_string()), "")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _numeric_text(array: pa.Array) -> pa.Array:
    return pc.match_substring_regex(array, r"^\s*-?[0-9]+(\.[0-9]+)?\s*$")


def _is_coded(array: pa.Array) -> bool:
    distinct = pc.count_distinct(array).as_py()
    return bool(distinct <= _FEW_INTEGERS and distinct <= len(array) / 10)


def _is_category(array: pa.Array) -> bool:
    kind = array.type
    if is_list(kind):
        return is_text(kind.value_type) or is_number(kind.value_type)
    return bool(pa.types.is_boolean(kind)) or (bool(pa.types.is_integer(kind)) and _is_coded(array))


def _is_wordy(array: pa.Array) -> bool:
    """Tell whether a column holds text that is not mostly links."""
    flat = pc.list_flatten(array) if is_list(array.type) else array
    if not is_text(flat.type):
        return False
    links = pc.mean(pc.match_substring_regex(flat, r"^\s*https?://").cast(pa.float64())).as_py()
    return links is not None and links <= 0.5


def _free_text(array: pa.Array) -> str | None:
    known = len(array) - array.null_count
    if is_long(pc.mean(pc.utf8_length(array)).as_py()):
        return "long text"
    distinct = pc.count_distinct(array).as_py()
    return "almost every row has its own text" if known > 10 and distinct > _MOST_DISTINCT * known else None


def _names(features: Features | None) -> dict[str, Any]:
    if features is None:
        return {}
    layout = features.layout
    counts = np.bincount(layout.column_of_word, minlength=len(layout.category_names))
    return {
        "categories": {name: int(count) for name, count in zip(layout.category_names, counts, strict=True)},
        "numeric": layout.numeric_names,
        "vectors": dict(zip(layout.vector_names, layout.vector_widths, strict=True)),
    }


def _text_summary(text: ItemText, features: Features, title: str | None, names: list[str]) -> dict[str, Any]:
    width = text.encoder.width
    return {
        "vector": text.name,
        "width": width,
        "terms": len(text.encoder.terms),
        # The vector of text is the last one of a layout.
        "rows": 0 if features.vector is None else int(features.vector[:, -width:].any(axis=1).sum()),
        "columns": ([title] if text.title and title else []) + [name for name in text.columns if name in names],
    }

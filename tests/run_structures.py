"""Run folders whose files are sound as files and wrong as a run: ``run_structures.py RUN 0-100``, as run_mutations.py.

An array of another type, shape, length or range in a safetensors file, a column of one in an Arrow file, each under
sizes that agree.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parent.parent))

from sparcode.build.job import build_index
from sparcode.index.arrays import read_arrays, write_arrays
from sparcode.retrievers.evaluation import evaluate_run
from tests.run_mutations import BINARY, MODELS, tried, use

Change = Callable[[np.ndarray], np.ndarray]
TYPES = ("float64", "float32", "float16", "int64", "int32", "uint32", "uint16", "uint8", "bool")
VALUES = (-1, 0, 1, 59, 60, 61, 255, 65535, 2**31 - 1, -(2**31), 2**62, float("nan"), float("inf"), 1e30)


def mutated(run: Path, target: Path, seed: int) -> str:
    """Copy ``run`` to ``target`` with one array or column changed and return what was."""
    shutil.copytree(run, target, copy_function=os.link)
    draw = random.Random(seed)
    names = [f"model/{name}.safetensors" for name in MODELS] + [f"data/{name}.arrow" for name in BINARY]
    name = draw.choice([name for name in names if (run / name).exists()])
    path = target / name
    return f"{name}:{(_arrays if name.startswith('model') else _table)(path, draw)}"


def _arrays(path: Path, draw: random.Random) -> str:
    arrays = {name: np.array(array) for name, array in read_arrays(path).items()}
    name = draw.choice(list(arrays))
    what = "dropped"
    if draw.random() < 0.1:
        del arrays[name]
    elif draw.random() < 0.1:
        what, other = "swapped", draw.choice(list(arrays))
        arrays[name], arrays[other] = arrays[other], arrays[name]
    else:
        what, change = draw.choice(_changes(draw))
        arrays[name] = change(arrays[name])
    path.unlink()
    write_arrays(path, arrays)
    return f"{name}:{what}"


def _changes(draw: random.Random) -> list[tuple[str, Change]]:
    kind, value = draw.choice(TYPES), draw.choice(VALUES)
    return [
        (f"as-{kind}", lambda array: _cast(array, kind)),
        (f"holds-{value}", lambda array: _with(array, value, draw)),
        ("transposed", lambda array: np.ascontiguousarray(array.T)),
        ("flat", lambda array: array.reshape(-1)),
        ("deeper", lambda array: array[..., None]),
        ("scalar", lambda array: array.reshape(-1)[:1].reshape(())),
        ("empty", lambda array: array[:0]),
        ("shorter", lambda array: array[:-1]),
        ("longer", lambda array: np.concatenate([array, array[-1:]])),
        ("doubled", lambda array: np.concatenate([array, array])),
        ("narrower", lambda array: np.ascontiguousarray(array[..., :-1])),
        ("reversed", lambda array: np.ascontiguousarray(array[::-1])),
    ]


def _cast(array: np.ndarray, kind: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return array.astype(kind)


def _with(array: np.ndarray, value: float, draw: random.Random) -> np.ndarray:
    changed = array.copy()
    if changed.size:
        with np.errstate(all="ignore"):
            changed.reshape(-1)[draw.randrange(changed.size)] = np.array(value).astype(array.dtype)
    return changed


def _table(path: Path, draw: random.Random) -> str:
    with pa.memory_map(str(path)) as stream:
        table = pa.ipc.open_file(stream).read_all()
    name = draw.choice(table.column_names)
    what, change = draw.choice(_column_changes(draw))
    place = table.column_names.index(name)
    if what == "dropped":
        table = table.drop_columns([name])
    elif what in ("rows-gone", "rows-twice", "no-rows"):
        count = {"rows-gone": len(table) - 1, "no-rows": 0}.get(what, len(table))
        table = pa.concat_tables([table] * 2) if what == "rows-twice" else table.slice(0, count)
    else:
        table = table.set_column(place, name, change(table[name].combine_chunks()))
    table = table.combine_chunks()
    path.unlink()
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    record = path.with_name("dataset.json")
    content = json.loads(record.read_text())
    content["files"][path.stem] = path.stat().st_size
    record.unlink()
    record.write_text(json.dumps(content))
    return f"{name}:{what}"


def _column_changes(draw: random.Random) -> list[tuple[str, Callable[[pa.Array], pa.Array]]]:
    kind, value = draw.choice(TYPES), draw.choice(VALUES)

    def values(change: Change) -> Callable[[pa.Array], pa.Array]:
        return lambda column: _inside(column, change)

    return [
        (f"values-as-{kind}", values(lambda array: _cast(array, kind))),
        (f"holds-{value}", values(lambda array: _with(array, value, draw))),
        ("values-reversed", values(lambda array: np.ascontiguousarray(array[::-1]))),
        ("all-alike", values(lambda array: np.full_like(array, array[0]) if len(array) else array)),
        ("nulls", lambda column: pa.array([None, *column.to_pylist()[1:]], column.type)),
        ("all-null", lambda column: pa.nulls(len(column), column.type)),
        ("text", lambda column: pa.array(["x"] * len(column), pa.large_string())),
        ("numbers", lambda column: pa.array(np.arange(len(column)))),
        ("lists", lambda column: pa.array([[1, 2]] * len(column), pa.list_(pa.int32()))),
        ("no-lists", lambda column: pa.array([[]] * len(column), pa.large_list(pa.int32()))),
        ("backwards", lambda column: column.take(pa.array(np.arange(len(column))[::-1].copy()))),
        ("first-twice", lambda column: column.take(pa.array([0, *range(len(column) - 1)]))),
        ("dictionary", lambda column: column if pa.types.is_nested(column.type) else column.dictionary_encode()),
        ("dropped", lambda column: column), ("rows-gone", lambda column: column),
        ("rows-twice", lambda column: column), ("no-rows", lambda column: column),
    ]  # fmt: skip


def _inside(column: pa.Array, change: Change) -> pa.Array:
    """Change the numbers of a column, or those in its lists; text is told from numbers by what comes of it."""
    if pa.types.is_fixed_size_list(column.type):
        return pa.FixedSizeListArray.from_arrays(_inside(column.values, change), column.type.list_size)
    if pa.types.is_large_list(column.type):
        return pa.LargeListArray.from_arrays(column.offsets, _inside(column.values, change))
    array = column.to_numpy(zero_copy_only=False)
    return pa.array(change(array)) if array.dtype.kind in "iuf" else column.slice(0, len(column))


def use_fully(folder: Path) -> None:
    """Query, evaluate and build again."""
    use(folder)
    evaluate_run(folder, retrievers=["sparcode", "popular"])
    build_index(folder)


if __name__ == "__main__":
    tried(mutated, use_fully if "--build" in sys.argv else use)

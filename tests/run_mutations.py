"""A run folder with one value changed, opened and queried in a process of its own: ``run_mutations.py RUN 0-100``.

Prints ``seed file outcome`` a mutant; outcomes are ``answered``, ``refused TYPE: message`` and ``raw TYPE: message``.
A process that dies prints nothing more, which is what the test beside it looks for.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import tempfile
import tomllib
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

VALUES: list[Any] = [
    0, -1, 1, 2, 3, 7, 65536, 2**31 - 1, 2**31, 2**63, 10**40, True, False, None, "", "x", "0", 0.5, -0.0, 1e308,
    [], {}, [1], [0] * 100_000, {"a": 1}, "\x1b[31m", "../..", "product", "residual", "counts", "sasrec",
]  # fmt: skip
TEXTS = ["", "{", "[]", "null", "[" * 100_000, '{"a": NaN}', '{"a": 1e999}', '{"a": 1, "a": 2}', "9" * 5000, "\ufeff{}"]
JSON_FILES = ("run.json", "query.json", "model/encoder.json", "model/rescorer.json", "model/additive.json",
              "data/dataset.json")  # fmt: skip
BINARY = ("items", "users", "train", "serving", "test", "item_features", "user_features", "item_attributes")
MODELS = ("encoder", "rescorer", "popularity", "transitions", "codes", "additive", "categories", "segments")


def mutated(run: Path, target: Path, seed: int) -> str:
    """Copy ``run`` to ``target`` with one file changed and return its name."""
    shutil.copytree(run, target, copy_function=os.link)
    draw = random.Random(seed)
    names = [*JSON_FILES] * 4 + [f"data/{name}.arrow" for name in BINARY] * 2
    names += [f"model/{name}.safetensors" for name in MODELS] + ["config.toml"]
    present = [name for name in names if (run / name).exists()]
    name = present[seed % len(present)]  # each has its turn
    content = (run / name).read_bytes()
    if name.endswith(".json"):
        content = _json(content, draw)
    elif name.endswith(".toml"):
        content = _toml(content, draw)
    else:
        content = _bytes(content, draw, len(content) if name.endswith(".arrow") else 4096)
    (target / name).unlink()
    (target / name).write_bytes(content)
    return name


def _json(content: bytes, draw: random.Random) -> bytes:
    if draw.random() < 0.1:
        return draw.choice(TEXTS).encode()
    root = json.loads(content)
    place: Any = root
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw.choice(keys)
        if not (isinstance(place[key], (dict, list)) and place[key] and draw.random() < 0.8):
            break
        place = place[key]
    if draw.random() < 0.15:
        del place[key]
    else:
        place[key] = draw.choice(VALUES)
    return json.dumps(root).encode()


def _toml(content: bytes, draw: random.Random) -> bytes:
    lines = content.decode().splitlines()
    places = [place for place, line in enumerate(lines) if " = " in line]
    place = draw.choice(places)
    lines[place] = lines[place].split(" = ")[0] + " = " + draw.choice(["0", "-1", "1e308", "nan", '""', "true", "[]"])
    tomllib.loads("\n".join(lines))
    return "\n".join(lines).encode()


def _bytes(content: bytes, draw: random.Random, most: int) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 4))):
        place = draw.randrange(min(most, len(changed)))
        changed[place] ^= draw.choice((1, 0x80, 0xFF, 1 << draw.randrange(8)))
    return bytes(changed) if draw.random() < 0.9 else bytes(changed[: draw.randrange(len(changed))])


def use(folder: Path) -> None:
    """Open a run by every way there is and ask it something; digests are not compared, so that damage gets far."""
    import numpy as np

    from sparcode.api import SparCode
    from sparcode.build.blocks import open_scorer
    from sparcode.build.items.evidence import open_evidence
    from sparcode.errors import QueryError
    from sparcode.query.encoder.additive import AdditiveEncoder
    from sparcode.query.pipeline import Pipeline
    from sparcode.run import Run
    from sparcode.types import Queries

    run = Run.open(folder)
    pipeline = Pipeline.open(folder, verify="none")
    history = np.array([1, 2, 3, 4, 5], np.int32)
    for k in (1, 3, 10, pipeline.item_count):
        pipeline.retrieve(Queries.single(history), k)
        pipeline.retrieve(Queries.single(history[:0]), k)
        pipeline.retrieve(Queries.single(history), k, rescore=0)
    pipeline.retrieve(Queries(np.array([0, 3, 5, 5], np.int64), history), 10)
    open_scorer(run.model_folder)
    open_evidence(run.model_folder, run.config.families.item)
    if (run.model_folder / "additive.json").exists():
        AdditiveEncoder.open(run.model_folder).encode_one(history)
    model = SparCode.load(folder, verify="none")
    items = run.dataset.item_ids.external.to_pylist()[:4]
    model.recommend_items(histories=[items], k=5)
    model.explain(history=items[:2], item=items[3])
    for user in run.dataset.user_ids.external.to_pylist()[:3]:
        model.recommend(users=[user], k=3)
    titles, attributes = run.dataset.titles, run.dataset.item_attributes
    list(titles or ())
    if attributes is not None:
        with suppress(QueryError):  # perhaps no item has it
            model.recommend_items(histories=[items], k=5, where="title=Item 0")
    if run.dataset.item_features is not None:
        run.dataset.item_features.dense(np.arange(5))


def tried(mutated: Callable[[Path, Path, int], str], use: Callable[[Path], None]) -> None:
    """Try the mutants of the seeds given as FIRST-LAST."""
    from sparcode.errors import SparcodeError

    run, (first, last) = Path(sys.argv[1]), map(int, sys.argv[2].split("-"))
    for seed in range(first, last):
        # Beside the run: a hard link does not leave its file system.
        with tempfile.TemporaryDirectory(dir=run.parent) as folder:
            target = Path(folder) / "run"
            name = mutated(run, target, seed)
            print(seed, name, end=" ", flush=True)
            try:
                use(target)
                outcome = "answered"
            except SparcodeError as problem:
                outcome = f"refused {type(problem).__name__}: {problem}"
            except Exception as problem:
                outcome = f"raw {type(problem).__name__}: {problem}"
                if "-v" in sys.argv:
                    traceback.print_exc()
            print(outcome.replace("\n", " ")[:600], flush=True)


if __name__ == "__main__":
    tried(mutated, use)

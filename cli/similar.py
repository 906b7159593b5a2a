"""``sparcode similar``: items like one item, through the same index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .output import print_json
from .query import print_answers

Item = Annotated[str, typer.Option("--item", metavar="ID", help="Item of the catalogue.", show_default=False)]


def similar_command(
    run: options.RunFolder, item: Item, k: options.Count = options.DEFAULT_COUNT, json: options.Json = False
) -> None:
    """Find items like one item, through the index."""
    answers = similar(run, item, k)
    if json:
        print_json(answers)
    else:
        print_answers(answers)


def similar(run: Path, item: str, k: int) -> list[dict[str, Any]]:
    """Return the answers, best first: item_id, score, title, filled."""
    from sparcode.api import SparCode

    model = SparCode.load(run)
    options.check_count(k, model.pipeline.item_count)
    return model.recommend_items(histories=[[item]], k=k)[0]

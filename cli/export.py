"""``sparcode export``: a part of a run in a format that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from . import options
from .output import in_json, note, print_pairs

Format = Annotated[
    Literal["onnx"], typer.Option("--format", help="onnx: the query tokenizer, histories in, tokens out.")
]
Out = Annotated[
    Path, typer.Option("--out", metavar="FILE", help="File to write or replace, *.onnx.", show_default=False)
]


def export_command(run: options.RunFolder, out: Out, format: Format = "onnx", json: options.Json = None) -> None:
    """Write the query tokenizer of a run for other runtimes.

    Beside FILE stands FILE.items.json, a list of item ids: the number the tokenizer knows an item by is its place.
    """
    summary = export(run, out)
    if in_json(summary, json):
        return
    difference = summary.pop("largest_difference")
    agrees = "not compared: onnxruntime is not installed" if difference is None else f"largest {difference:.1e}"
    print_pairs(summary | {"difference to the served encoder": agrees})
    note(f"wrote {summary['file']} and {summary['items_file']}")


def export(run: Path, out: Path) -> dict[str, Any]:
    """Write the file and return its description."""
    from sparcode.train.export_onnx import export_onnx

    return export_onnx(run, out)

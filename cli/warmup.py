"""``sparcode warmup``: kernels compiled before the first query needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import options
from .output import in_json, say


def warmup_command(run: options.RunFolder, json: options.Json = None) -> None:
    """Compile what the queries of a run need, once a machine.

    A container or a service that did it answers its first query at once.
    """
    content = warmup(run)
    if not in_json(content, json):
        say(f"ready in {content['seconds']:.1f} s; compiled kernels are kept in {content['kernels']}")


def warmup(run: Path) -> dict[str, Any]:
    """Return the seconds it took and where kernels are kept."""
    from sparcode.api import SparCode
    from sparcode.jit.cache import kept_in

    return {"seconds": round(SparCode.load(run).warmup(), 3), "kernels": kept_in()}

"""Query tokenizers: item vectors of a history -> K_u query tokens. A folder a kind, and the one list of kinds.

A kind is a word of ``config.TokenizerKind`` and a folder of that name (``-`` is ``_``) with three modules:

* ``layers``: ``TOKENIZER``, the torch module that is trained, a subclass of ``layers.Tokenizer``. Torch is imported in
  files of this name alone.
* ``arrays``: what is served, numpy and numba. ``INTERESTS``; ``check(spec)`` and ``shapes(spec)``; ``prepare(spec,
  arrays)`` gives the weights; ``memory(spec)``, ``remember`` and ``recall`` encode, all at once or event by event
  (see ``tokenizers.arrays``).
* ``onnx``: ``states(graph, events, spec, arrays)``, the same as operators of a graph.

Nothing is imported before it is asked for: serving takes ``arrays`` of one kind.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import get_args

from sparcode.config import TokenizerKind

KINDS: dict[str, str] = {kind: f"{__name__}.{kind.replace('-', '_')}" for kind in get_args(TokenizerKind)}
"""Kind -> its package."""


def part_of(kind: str, part: str) -> ModuleType:
    """Return the module ``part`` (``layers``, ``arrays`` or ``onnx``) of a kind; KeyError for an unknown one."""
    if kind not in KINDS:
        raise KeyError(f"tokenizer kind {kind!r}, expected one of {', '.join(KINDS)}")
    return import_module(f"{KINDS[kind]}.{part}")

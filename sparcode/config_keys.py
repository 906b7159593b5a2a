"""What every configuration key is: type, default, bounds, meaning; read off the typed sections."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sparcode.config import Config
from sparcode.errors import ConfigError

_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


@dataclass(frozen=True)
class Key:
    """One configuration key: dotted ``name``, ``values`` it takes, ``default`` (None: left open), ``meaning``."""

    name: str
    values: str
    default: Any
    meaning: str


def described_keys(prefix: str = "") -> list[Key]:
    """Return all keys in the order they are declared, or those whose name is or begins with ``prefix``.

    ``prefix``: a key (``model.heads``) or a section (``model``, ``families.item``). Raises ConfigError if none fits.
    """
    keys = list(_keys(Config, ""))
    section = prefix.rstrip(".")
    found = [key for key in keys if not section or key.name == section or key.name.startswith(section + ".")]
    if not found:
        sections = {key.name.rpartition(".")[0] for key in keys}
        near = difflib.get_close_matches(section, [*sections, *(key.name for key in keys)], n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"no configuration key or section {section!r}{hint}")
    return found


def _keys(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _keys(kind, f"{prefix}{name}.")
        else:
            yield Key(prefix + name, _values(field), field.get_default(), field.description or "")


def _values(field: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(bound, name)}"
        for bound in field.metadata
        for name, sign in _BOUNDS.items()
        if getattr(bound, name, None) is not None
    ]
    return ", ".join([_type_name(field.annotation), *bounds])


def _type_name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " | ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return " | ".join(_type_name(part) for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is dict:
        return "table"
    return {str: "text", int: "integer", float: "number", bool: "true | false"}.get(kind, str(kind))

"""What ``query.json`` says, every value checked where it is read: compiled code sizes its buffers by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from sparcode.errors import ConfigError, RunError, SparcodeError
from sparcode.spec_values import finite, shown, whole

MOST_PROBES = 1024
"""Codes read a token, at most."""
MOST_AGES = 1 << 16
"""Events of a history whose lists are read, at most."""
MAX_WEIGHT = 65535
"""Largest weight of a list."""
MOST_WEIGHT = (1 << 32) // 255 - 1
"""Largest sum of the weights of a query: a sum of impacts has 32 bits."""
MAX_FACTOR = 1e6
"""Largest factor of a sum beside the all-to-all score."""


@dataclass(frozen=True)
class QuerySettings:
    """Weights of the code families, fitted on validation.

    Search: ``learned_weight``, weight of each learned list; ``probes``, learned lists a token; ``item_weights`` and
    ``category_weights``, weight of the list of the event (of each of its categories) of age 0, 1, ... (0 = not read);
    ``segment_weight``, weight of each list of the user's categories, which a query without history reads with at least
    1. Rescoring: ``cached_weight`` and ``evidence_weight`` say what the cached sum of all lists, and that of all lists
    but the learned ones, count beside the all-to-all score (both sums in score units).

    Weights are integers 0..65535, probes 1..1024, factors finite and 0..10^6. Raises ConfigError naming the field.
    """

    learned_weight: int = 1
    probes: int = 1
    item_weights: tuple[int, ...] = ()
    evidence_weight: float = 0.0
    cached_weight: float = 0.0
    category_weights: tuple[int, ...] = ()
    segment_weight: int = 0

    def __post_init__(self) -> None:
        for name, read in _FIELDS.items():
            try:
                object.__setattr__(self, name, read(getattr(self, name)))
            except ValueError as problem:
                raise ConfigError(f"{name}: {problem}") from None
        for name, fixed in (("item_weights", self.learned_weight * self.probes), ("category_weights", 0)):
            total = fixed + sum(getattr(self, name))
            if total > MOST_WEIGHT:
                raise ConfigError(f"{name}: the weights of a query add up to {total:,}, at most {MOST_WEIGHT:,} can be")

    @classmethod
    def from_json(cls, values: Any, source: object = "query.json") -> QuerySettings:
        """Read the fields of ``query.json``; other keys are notes. RunError names ``source`` and the key."""
        if not isinstance(values, Mapping):
            raise _damaged(source, f"{type(values).__name__} found, expected an object")
        names = [field.name for field in fields(cls)]
        for name in names[:4]:  # the others are younger than the first runs
            if name not in values:
                raise _damaged(source, f"{name} is missing")
        try:
            return cls(**{name: values[name] for name in names if name in values})
        except SparcodeError as problem:
            raise _damaged(source, str(problem)) from None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _damaged(source: object, problem: str) -> RunError:
    return RunError(f"{source}: {problem}; it was damaged or edited: put it back, or build the index again")


def _weights(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{shown(value)} found, expected a list of integers 0..{MAX_WEIGHT}")
    if len(value) > MOST_AGES:
        raise ValueError(f"{len(value):,} weights found, expected at most {MOST_AGES:,}")
    return tuple(map(_weight, value))


def _weight(value: Any) -> int:
    return whole(value, 0, MAX_WEIGHT)


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "learned_weight": _weight,
    "probes": lambda value: whole(value, 1, MOST_PROBES),
    "item_weights": _weights,
    "evidence_weight": lambda value: finite(value, 0.0, MAX_FACTOR),
    "cached_weight": lambda value: finite(value, 0.0, MAX_FACTOR),
    "category_weights": _weights,
    "segment_weight": _weight,
}

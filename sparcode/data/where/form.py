"""A condition that was read: comparisons below ``and``, ``or`` and ``not``, and what it says of n things at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

IN, NOT_IN = "in", "not in"
ONE_BY_ONE = {IN: "=", NOT_IN: "!="}
"""How each value of a list is compared: ``in`` holds where one ``=`` does, ``not in`` where every ``!=`` does."""


@dataclass(frozen=True)
class Term:
    """One comparison, still as text: a column with one value, or with several after ``in`` and ``not in``.

    ``place``: the character of the condition at which it begins, from 0.
    """

    column: str
    operator: str
    values: tuple[str, ...]
    place: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Not:
    """Everything of which ``part`` does not hold, so also that whose value is missing."""

    part: Condition


@dataclass(frozen=True)
class And:
    """Where all parts hold."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Or:
    """Where a part holds."""

    parts: tuple[Condition, ...]


Condition = Term | Not | And | Or


def terms_of(condition: Condition) -> Iterator[Term]:
    """Yield the comparisons in their written order."""
    if isinstance(condition, Term):
        yield condition
        return
    for part in (condition.part,) if isinstance(condition, Not) else condition.parts:
        yield from terms_of(part)


def evaluate(condition: Condition, holds: Callable[[Term], np.ndarray]) -> np.ndarray:
    """Return (n,) bool: where a condition holds. ``holds``: the same of a comparison, an array that may be written.

    Every comparison is looked at, so that a wrong one is found whatever the others leave.
    """
    if isinstance(condition, Term):
        return holds(condition)
    if isinstance(condition, Not):
        mask = evaluate(condition.part, holds)
        return np.logical_not(mask, out=mask)
    join = np.logical_and if isinstance(condition, And) else np.logical_or
    mask = evaluate(condition.parts[0], holds)
    for part in condition.parts[1:]:
        join(mask, evaluate(part, holds), out=mask)
    return mask

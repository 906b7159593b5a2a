"""Written values beside stored ones, by one rule for rows and for attributes of items.

A decimal is compared as the column's type would print it: 0.7 written is the float32 0.7. Integers are exact at any
size, also beside decimals: of whole numbers ``>=3.5`` keeps 4. Times are microseconds since 1970, UTC.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

import numpy as np

_NUMBER = re.compile(r"[+-]?(\d{1,400}(\.\d{0,400})?|\.\d{1,400})([eE][+-]?\d{1,4})?", re.ASCII)
_INFINITE = {"inf": math.inf, "+inf": math.inf, "-inf": -math.inf}
_INFINITE |= {name.replace("inf", "infinity"): value for name, value in _INFINITE.items()}
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
"""How a truth value may be written, in lower case."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Bound:
    """A written value among numbers: at ``value`` if ``exact``, else just before it and after all smaller ones."""

    value: Any
    exact: bool = True

    def places(self, ascending: np.ndarray) -> tuple[int, int]:
        """Return how many of the sorted values are less, and how many are less or equal."""
        left = int(np.searchsorted(ascending, self.value, "left"))
        return left, int(np.searchsorted(ascending, self.value, "right")) if self.exact else left

    def holds(self, values: np.ndarray, operator: str) -> np.ndarray:
        """Return bool for each value: whether it stands as ``operator`` says to the written one; never for nan."""
        if operator in ("<", ">="):
            mask = values < self.value if operator == "<" else values >= self.value
        elif operator in ("<=", ">") and self.exact:
            mask = values <= self.value if operator == "<=" else values > self.value
        elif operator in ("<=", ">"):
            mask = values < self.value if operator == "<=" else values >= self.value
        else:
            equal = values == self.value if self.exact else np.zeros(len(values), bool)
            mask = ~equal if operator == "!=" else equal
        return mask & (values == values) if operator == "!=" else mask


def number_bound(text: str, dtype: np.dtype) -> Bound:
    """Return where a written number stands among numbers of a type; ValueError when it is none."""
    infinite = _INFINITE.get(text.lower())
    if infinite is None and not _NUMBER.fullmatch(text):
        raise ValueError(text)
    if dtype.kind in "iu":
        return _among_integers(infinite if infinite is not None else Decimal(text), dtype)
    if infinite is not None:
        return Bound(dtype.type(infinite))
    with np.errstate(over="ignore"):
        value = dtype.type(float(text))
    if np.isfinite(value):
        return Bound(value)
    # Beyond the finite numbers of the type, but not beyond its infinities.
    return Bound(dtype.type(math.inf) if value > 0 else np.finfo(dtype).min, exact=False)


def printed_as(value: float, dtype: np.dtype) -> float:
    """Return the float64 of what a float type holds in place of ``value``."""
    with np.errstate(over="ignore"):
        return float(dtype.type(value))


def time_bound(text: str) -> Bound:
    """Return a written date or time (UTC unless it names an offset) in microseconds; ValueError when it is none."""
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return Bound((moment - _EPOCH) // timedelta(microseconds=1))


def _among_integers(number: Decimal | float, dtype: np.dtype) -> Bound:
    limits = np.iinfo(dtype)
    if number > limits.max:
        return Bound(math.inf, exact=False)
    if number < limits.min:
        return Bound(-math.inf, exact=False)
    above = Decimal(number).to_integral_value(ROUND_CEILING)
    # As the type itself: numpy would compare uint64 with a Python integer, or int64, as floats.
    return Bound(dtype.type(int(above)), exact=above == number)

"""Single values of a small JSON file, checked where they are read: ValueError says what was found and expected."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

LARGEST = 1 << 31
"""No size or count of a model is larger."""


def whole(value: Any, low: int, high: int) -> int:
    """Return an integer ``low..high``; ValueError for anything else, booleans and whole floats included."""
    try:
        number = low - 1 if _is_truth(value) else operator.index(value)
    except TypeError:
        number = low - 1
    if not low <= number <= high:
        raise ValueError(f"{shown(value)} found, expected an integer {low}..{high}")
    return number


def finite(value: Any, low: float, high: float) -> float:
    """Return a finite number ``low..high``; ValueError for anything else."""
    try:
        number = math.nan if isinstance(value, (str, bytes)) or _is_truth(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise ValueError(f"{shown(value)} found, expected a number {low:g}..{high:g}")
    return number


def count_of(spec: Mapping[str, Any], key: str, low: int = 1, high: int = LARGEST) -> int:
    """Return ``spec[key]``, an integer ``low..high``; KeyError or ValueError naming the key."""
    try:
        return whole(spec[key], low, high)
    except ValueError as problem:
        raise ValueError(f"{key}: {problem}") from None


def number_of(spec: Mapping[str, Any], key: str, low: float, high: float) -> float:
    """Return ``spec[key]``, a finite number ``low..high``; KeyError or ValueError naming the key."""
    try:
        return finite(spec[key], low, high)
    except ValueError as problem:
        raise ValueError(f"{key}: {problem}") from None


def choice_of(spec: Mapping[str, Any], key: str, known: tuple[Any, ...], default: Any = None) -> Any:
    """Return ``spec[key]`` (or the default), one of ``known``; ValueError naming the key."""
    value = spec.get(key, default)
    if not any(type(value) is type(each) and value == each for each in known):
        raise ValueError(f"{key}: {shown(value)} found, expected one of {', '.join(map(str, known))}")
    return value


def shown(value: Any) -> str:
    """Return a value for a message, however long it is."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "an integer of more than 20 digits"
    text = ascii(value) if isinstance(value, (int, float, str, type(None))) else type(value).__name__
    return text if len(text) <= 40 else text[:37] + "..."


def _is_truth(value: Any) -> bool:
    return type(value).__name__ in ("bool", "bool_")

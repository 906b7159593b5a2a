"""Which policy a build follows: arguments and configuration merged into one consistent setting."""

from __future__ import annotations

import math
from typing import Any

from sparcode.config import IndexConfig
from sparcode.errors import ConfigError

KEYS = {
    "global-bias": ("bias", "density"),
    "budget": ("budget_mb", "postings_per_query"),
    "length": ("length",),
}
"""Policy -> the settings that say how much it keeps; ``item_floor`` goes with any budget."""


def resolve_settings(defaults: IndexConfig, given: dict[str, Any], block_codes: int | None) -> IndexConfig:
    """Merge arguments and configuration into one consistent setting; ConfigError names what contradicts."""
    named = {key: value for key, value in given.items() if value is not None}
    floor_named = "item_floor" in named
    floor = named.pop("item_floor", defaults.item_floor)
    values = named or defaults.model_dump(exclude_none=True, exclude={"block_codes", "item_floor"})
    policy = str(values.get("policy") or _implied(values))
    if policy not in KEYS:
        raise ConfigError(f"policy {policy!r} found, expected global-bias, budget or length")
    wrong = sorted(values.keys() - {"policy", *KEYS[policy]})
    if wrong and (named or policy != "global-bias"):
        raise ConfigError(f"{wrong[0]} does not belong to policy {policy}; leave one of them out")
    used = {key: values[key] for key in KEYS[policy] if key in values}
    _check_complete(policy, used)
    if policy == "budget" and floor is not None:
        used["item_floor"] = floor
    elif floor and (floor_named or not named):
        raise ConfigError(f"item_floor does not belong to policy {policy}; give a budget or leave it out")
    for key, value in used.items():
        _check_value(key, value)
    if block_codes is None:
        block_codes = defaults.block_codes
    return IndexConfig.model_validate({"policy": policy, "block_codes": block_codes} | used)


def _implied(values: dict[str, Any]) -> str:
    return next((policy for policy in ("budget", "length") if values.keys() & set(KEYS[policy])), "global-bias")


def _check_complete(policy: str, used: dict[str, Any]) -> None:
    if policy == "budget" and not used:
        raise ConfigError("policy budget needs budget_mb or postings_per_query")
    if policy == "length" and not used:
        raise ConfigError("policy length needs length, the number of items kept of every code")
    if policy == "global-bias" and len(used) > 1:
        raise ConfigError("bias and density exclude each other: give one of them")


def _check_value(key: str, value: Any) -> None:
    number = float(value)
    if not math.isfinite(number):
        raise ConfigError(f"{key} of {number} found, expected a finite number")
    if key == "item_floor":
        if number < 0 or number != int(number):
            raise ConfigError(f"item_floor of {number:g} found, expected a whole number, 0 for none")
        return
    if key == "length" and (number < 1 or number != int(number)):
        raise ConfigError(f"length of {number:g} found, expected a whole number of at least 1")
    if key != "bias" and (not number > 0 or (key == "density" and number > 100)):
        expected = "percent, above 0 and at most 100" if key == "density" else "a number above 0"
        raise ConfigError(f"{key} of {number:g} found, expected {expected}")

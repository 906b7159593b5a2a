"""Which policy a build follows: arguments and configuration merged into one consistent setting."""

from __future__ import annotations

import math
from typing import Any

from sparcode.config import IndexConfig
from sparcode.errors import ConfigError


def resolve_settings(defaults: IndexConfig, given: dict[str, Any], block_codes: int | None) -> IndexConfig:
    """Merge arguments and configuration into one consistent setting; ConfigError names what contradicts."""
    named = {key: value for key, value in given.items() if value is not None}
    values = named or defaults.model_dump(exclude_none=True, exclude={"block_codes"})
    cuts = {"bias", "density"} & values.keys()
    budgets = {"budget_mb", "postings_per_query"} & values.keys()
    policy = values.get("policy") or ("budget" if budgets else "global-bias")
    if policy not in ("global-bias", "budget"):
        raise ConfigError(f"policy {policy!r} found, expected global-bias or budget")
    wrong = budgets if policy == "global-bias" else cuts
    if wrong and (named or policy == "budget"):
        raise ConfigError(f"{sorted(wrong)[0]} does not belong to policy {policy}; leave one of them out")
    if policy == "budget" and not budgets:
        raise ConfigError("policy budget needs budget_mb or postings_per_query")
    if policy == "global-bias" and len(cuts) > 1:
        raise ConfigError("bias and density exclude each other: give one of them")
    if block_codes is None:
        block_codes = defaults.block_codes
    used = {key: float(values[key]) for key in (cuts if policy == "global-bias" else budgets)}
    for key, value in used.items():
        if not math.isfinite(value):
            raise ConfigError(f"{key} of {value} found, expected a finite number")
        if key != "bias" and (not value > 0 or (key == "density" and value > 100)):
            expected = "percent, above 0 and at most 100" if key == "density" else "a number above 0"
            raise ConfigError(f"{key} of {value:g} found, expected {expected}")
    return IndexConfig.model_validate({"policy": policy, "block_codes": block_codes} | used)

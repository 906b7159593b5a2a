"""The configuration of a run for production: that of an evaluated run, trained on every event."""

from __future__ import annotations

from typing import Any

from sparcode.config import Config, DataConfig, config_from_dict, updated
from sparcode.errors import ConfigError
from sparcode.run import Run
from sparcode.wording import warn

_OWN = ("seed", "data.", "train.threads", "train.precision", "index.")
"""Keys, and starts of keys, that the new run may choose itself; ``data`` is judged apart."""
_OWN_DATA = ("split_by", "time_cut", "catalogue_items")


def production_config(config: Config, earlier: Run, systems: list[str]) -> Config:
    """Take sizes, schedule, best epoch and data options of an evaluated run, to train on every event.

    What ``config`` sets itself of ``seed``, ``train.threads``, ``train.precision``, ``index`` and
    ``data.catalogue_items`` holds. Raises ConfigError when it sets another ``data`` option than the earlier run had;
    other keys it sets are ignored with a warning. ``systems``: names of what may have been trained.
    """
    if config.data.split_by != "none":
        raise ConfigError(
            f"like: trains on every event, found data.split_by={config.data.split_by!r}; set it to 'none'"
        )
    given = _dotted(config.model_dump(exclude_unset=True))
    taken = earlier.config
    had = _dotted(taken.model_dump())
    for key, value in given.items():
        if not key.startswith(_OWN) and value is not None and had.get(key) != value:
            warn(
                f"{key}={value} is ignored: a run trained like an earlier one takes over its {had.get(key)}",
                stacklevel=4,
            )
    own = {key: value for key, value in given.items() if key.startswith(_OWN) and not key.startswith("data.")}
    merged = config_from_dict(taken.model_dump() | {"data": inherited(config.data, taken.data).model_dump()})
    parts = earlier.record["training"]
    trained = {system: parts[system]["best_epoch"] + 1 for system in systems if system in parts}
    # Schedules keep their length, so that the learning rate at the chosen epoch is the one that was validated.
    warm = merged.train.warm_start
    return updated(
        merged,
        own
        | {
            "seed": config.seed,
            "train.stop_after": trained["two-tower" if warm else "sparcode"],
            "train.fine_tune_stop_after": trained["sparcode"] if warm else None,
            "additive.stop_after": trained.get("additive"),
        },
    )


def inherited(data: DataConfig, earlier: DataConfig) -> DataConfig:
    """Return the data options of an earlier run, and of ``data`` those that a new run may choose.

    Raises ConfigError when ``data`` sets an option that the earlier run had otherwise.
    """
    given = data.model_dump(exclude_unset=True)
    columns = given.pop("columns", {})
    for role, name in columns.items():
        if earlier.columns.get(role, name) != name:
            raise _contradiction(f"columns.{role}", name, earlier.columns[role])
    for key, value in given.items():
        if key not in _OWN_DATA and value != getattr(earlier, key):
            raise _contradiction(key, value, getattr(earlier, key))
    # A column that held out events is not asked for where none are; nor are ratings that nobody compares.
    unused = {"split"} | (set() if earlier.min_rating is not None else {"rating"})
    kept = {role: name for role, name in earlier.columns.items() if role not in unused}
    own = {key: getattr(data, key) for key in _OWN_DATA if key in given or key != "catalogue_items"}
    return DataConfig.model_validate(earlier.model_dump() | own | {"columns": kept | columns})


def _contradiction(key: str, value: Any, had: Any) -> ConfigError:
    was = "not set" if had is None else repr(had)
    return ConfigError(
        f"data.{key}: {value!r} contradicts the earlier run, where it was {was}: a run trained like it reads its data "
        "alike; leave the option out, or train without like"
    )


def _dotted(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            found |= _dotted(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found

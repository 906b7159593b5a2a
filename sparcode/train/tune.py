"""`sparcode tune`: search the configuration by validation; the test split is never looked at."""

from __future__ import annotations

import functools
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sparcode.config import Config, check_threads, to_toml, updated
from sparcode.data.dataset import Dataset, load_dataset
from sparcode.errors import ConfigError, DataError, MissingExtraError
from sparcode.files import append_text, require_writable, write_text
from sparcode.locks import locked
from sparcode.train.defaults import resolve
from sparcode.train.run import TrainingJob, require_training_pairs, resolve_device, train_run
from sparcode.train.trials import Result, Trials, digest_of

SYSTEMS = ("sparcode", "two-tower", "additive")
Tell = Callable[[str], None]
_NOTHING = "# The defaults were best: no trial in {} was better on validation, so nothing is changed here.\n"


def tune(
    data: Any, out: str | Path, config: Config | None = None, *, trials: int = 20, minutes: float | None = None,
    system: str = "sparcode", device: str = "auto", threads: int | None = None, progress: Tell | None = None,
) -> Config:  # fmt: skip
    """Search learning rate, dropout, sizes and negatives for ``trials`` trials or ``minutes``, whichever ends first.

    A trial of ``sparcode`` trains every part, builds the index and is judged by its rescored answers; those of
    ``two-tower`` and ``additive`` train one model. The first trial is the given configuration, so the result is never
    worse on validation. Writes the best configuration to ``out`` (TOML) and every trial to
    ``<out stem>.trials.jsonl``; returns the best. ``threads``: CPU threads, absent: as ``train.threads`` says.

    optuna keeps the trials in ``<out stem>.trials.db``: the same call again goes on where it was stopped, with the
    trials it would have tried, and ``trials`` counts those of before (``minutes`` do not). Other data, another
    configuration or another version of sparcode are another search, kept beside it. Raises ConfigError on a bad
    argument, DataError when the data leave no validation queries, and RunError when another process is at it.
    """
    out, config = Path(out), config or Config()
    if check_threads(threads) is not None:
        config = updated(config, {"train.threads": threads})
    if type(trials) is not int or not isinstance(minutes, (int, float, type(None))):
        raise ConfigError(f"trials={trials!r} minutes={minutes!r}: expected a whole number, and a number or None")
    if trials < 1 or (minutes is not None and minutes <= 0):
        raise ConfigError(f"--trials {trials} --minutes {minutes}: expected at least one trial and more than 0 minutes")
    if system not in SYSTEMS:
        raise ConfigError(f"--system {system!r}: expected one of {', '.join(SYSTEMS)}")
    log, kept = out.with_suffix(".trials.jsonl"), out.with_suffix(".trials.db")
    for file in (out, log, kept):
        require_writable(file)
    dataset = load_dataset(data, config.data, seed=config.seed)
    if dataset.validation is None or not len(dataset.validation):
        raise DataError("tuning needs validation queries: use --split-by leave-last-out, time or column")
    require_training_pairs(dataset)
    tell = progress or (lambda line: None)
    search = _Search(data, dataset, config, system, resolve_device(device), tell)
    busy = f"{out} is being tuned by another process; wait for it to finish, or choose another --out"
    with locked(out.with_suffix(".trials.lock"), busy):
        best = search.run(log, kept, trials, None if minutes is None else minutes * 60)
        changed = to_toml(best, changes_only=True)
        write_text(out, changed if changed.strip() else _NOTHING.format(log.name))
    return best


class _Search:
    def __init__(
        self, data: Any, dataset: Dataset, config: Config, system: str, device: torch.device, tell: Tell
    ) -> None:
        self.data, self.dataset, self.config, self.system, self.tell = data, dataset, config, system, tell
        self.device = device

    def run(self, log: Path, kept: Path, trials: int, seconds: float | None) -> Config:
        """Go on from the trials in ``kept`` until there are so many, or until the time is over; return the best."""
        with _quiet_optuna():
            stored = self._open(kept)
            results = stored.results()
            if results:
                self.tell(f"going on after {len(results)} trials of this search in {kept}")
            elif stored.others:
                self.tell(f"{kept} holds the trials of {stored.others} other searches; this one begins")
            write_text(log, "".join(map(self._line, results)))
            end = math.inf if seconds is None else time.perf_counter() + seconds
            while len(results) < trials and (not results or time.perf_counter() < end):
                results.append(self._next(stored, len(results)))
                append_text(log, self._line(results[-1]))
        best = max(results, key=lambda result: result.metric)  # the first of equals
        return self._with(best.changes)

    def _open(self, kept: Path) -> Trials:
        name = f"{self.system} {digest_of(self.dataset, self.config, self.system, self.device.type)}"
        notes = {"data": str(self.dataset.summary["source"]), "configuration": to_toml(self.config, changes_only=True)}
        return Trials(kept, name, self.config.seed, notes)

    def _next(self, stored: Trials, number: int) -> Result:
        """Try and keep one more configuration; number 0 is the given one."""
        if number == 0:
            result = self._trial(0, {})
            stored.record_given(result.metric, result.seconds)
            return result
        trial, changes = stored.begin(number, functools.partial(_suggest, config=self.config, system=self.system))
        result = self._trial(number, changes)
        stored.record(trial, result.metric, result.seconds)
        return result

    def _trial(self, number: int, changes: dict[str, Any]) -> Result:
        """Train one configuration and tell its validation NDCG@10."""
        started = time.perf_counter()
        metric = self._train(self._with(changes))
        result = Result(number, metric, changes, round(time.perf_counter() - started, 1))
        self.tell(f"trial {number}: validation NDCG@10 {metric:.4f} in {result.seconds:.0f} s {changes}")
        return result

    def _line(self, result: Result) -> str:
        line = {"trial": result.number, "system": self.system, "validation_ndcg@10": result.metric}
        return json.dumps(line | {"changes": result.changes, "seconds": result.seconds}) + "\n"

    def _with(self, changes: dict[str, Any]) -> Config:
        return updated(self.config, changes)

    def _train(self, config: Config) -> float:
        with tempfile.TemporaryDirectory(prefix="sparcode-tune-", ignore_cleanup_errors=True) as folder:
            if self.system == "sparcode":
                return self._train_and_build(config, Path(folder, "run"))
            job = TrainingJob(Path(folder), resolve(config, self.dataset), self.device)
            return job.fit(self.system, self.dataset)[1].best_metric

    def _train_and_build(self, config: Config, folder: Path) -> float:
        from sparcode.build.job import build_index

        train_run(self.data, folder, config, baselines=False, device=self.device.type, progress=False)
        return float(build_index(folder)["validation_ndcg@10_rescored"])


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Keep optuna's notes of every step from the terminal; how much it says is the caller's again afterwards."""
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "tune", "sparcode tune") from None
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _suggest(trial: Any, config: Config, system: str) -> dict[str, Any]:
    """Draw one configuration: the knobs that moved validation most in our own tables."""
    additive = config.families.item.enabled and config.families.item.additive
    changes = _suggest_additive(trial) if system == "additive" or (system == "sparcode" and additive) else {}
    if system == "additive":
        return changes
    changes |= {
        "train.learning_rate": trial.suggest_float("train.learning_rate", 5e-4, 8e-3, log=True),
        "train.weight_decay": trial.suggest_float("train.weight_decay", 1e-3, 0.3, log=True),
        "train.history_dropout": trial.suggest_float("train.history_dropout", 0.0, 0.3),
        "model.dropout": trial.suggest_float("model.dropout", 0.1, 0.6),
        "model.temperature": trial.suggest_float("model.temperature", 0.05, 0.2),
        "model.history": trial.suggest_categorical("model.history", [20, 50, 100]),
        "loss.negatives": trial.suggest_categorical("loss.negatives", [128, 256, 512, 1024]),
    }
    if config.model.tokenizer in ("sasrec", "gru4rec"):
        changes["model.blocks"] = trial.suggest_int("model.blocks", 1, 2)
    if config.model.tokenizer == "sasrec":
        changes["model.attention_heads"] = trial.suggest_categorical("model.attention_heads", [1, 2, 4])
    return changes


def _suggest_additive(trial: Any) -> dict[str, Any]:
    return {
        "additive.learning_rate": trial.suggest_float("additive.learning_rate", 5e-4, 8e-3, log=True),
        "additive.dropout": trial.suggest_float("additive.dropout", 0.1, 0.7),
        "additive.temperature": trial.suggest_float("additive.temperature", 0.05, 0.2),
        "additive.item_id_dropout": trial.suggest_float("additive.item_id_dropout", 0.0, 0.5),
        "additive.history_dropout": trial.suggest_float("additive.history_dropout", 0.0, 0.3),
    }

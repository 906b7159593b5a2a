"""`sparcode tune`: search the configuration by validation; the test split is never looked at."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparcode.config import Config, check_threads, to_toml, updated
from sparcode.data.dataset import Dataset, load_dataset
from sparcode.errors import ConfigError, DataError, MissingExtraError
from sparcode.files import append_text, require_writable, write_text
from sparcode.train.defaults import resolve
from sparcode.train.run import TrainingJob, require_training_pairs, resolve_device, train_run

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
    ``<out stem>.trials.jsonl``; returns the best. Raises ConfigError on a bad argument and DataError when the data
    leave no validation queries. ``threads``: CPU threads, absent: as ``train.threads`` says.
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
    log = out.with_suffix(".trials.jsonl")
    for file in (out, log):
        require_writable(file)
    dataset = load_dataset(data, config.data, seed=config.seed)
    if dataset.validation is None or not len(dataset.validation):
        raise DataError("tuning needs validation queries: use --split-by leave-last-out, time or column")
    require_training_pairs(dataset)
    tell = progress or (lambda line: None)
    search = _Search(data, dataset, config, system, device, log, tell)
    best = search.run(trials, None if minutes is None else minutes * 60)
    changed = to_toml(best, changes_only=True)
    write_text(out, changed if changed.strip() else _NOTHING.format(log.name))
    return best


class _Search:
    def __init__(
        self, data: Any, dataset: Dataset, config: Config, system: str, device: str, log: Path, tell: Tell
    ) -> None:
        self.data, self.dataset, self.config, self.system, self.tell = data, dataset, config, system, tell
        self.device, self.log = resolve_device(device), log

    def run(self, trials: int, seconds: float | None) -> Config:
        try:
            import optuna
        except ImportError:
            raise MissingExtraError("optuna", "tune", "sparcode tune") from None
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            return self._search(optuna, trials, seconds)
        finally:
            optuna.logging.set_verbosity(verbosity)

    def _search(self, optuna: Any, trials: int, seconds: float | None) -> Config:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        started = time.perf_counter()
        given = self._trial(0, {})
        sampler = optuna.samplers.TPESampler(seed=self.config.seed, n_startup_trials=8)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        left = None if seconds is None else seconds - (time.perf_counter() - started)
        if trials > 1 and (left is None or left > 0):
            suggest = functools.partial(_suggest, config=self.config, system=self.system)
            study.optimize(lambda trial: self._trial(trial.number + 1, suggest(trial)), trials - 1, timeout=left)
        better = study.trials and study.best_value > given
        return self._with(study.best_params if better else {})

    def _trial(self, number: int, changes: dict[str, Any]) -> float:
        """Train one configuration, log it, and return its validation NDCG@10; trial 0 is the given one."""
        started = time.perf_counter()
        metric = self._train(self._with(changes))
        line = {"trial": number, "system": self.system, "validation_ndcg@10": metric, "changes": changes}
        line["seconds"] = round(time.perf_counter() - started, 1)
        append_text(self.log, json.dumps(line) + "\n")
        self.tell(f"trial {number}: validation NDCG@10 {metric:.4f} in {line['seconds']:.0f} s {changes}")
        return metric

    def _with(self, changes: dict[str, Any]) -> Config:
        return updated(self.config, changes)

    def _train(self, config: Config) -> float:
        folder = Path(tempfile.mkdtemp(prefix="sparcode-tune-"))
        try:
            if self.system == "sparcode":
                return self._train_and_build(config, folder / "run")
            job = TrainingJob(folder, resolve(config, self.dataset), self.device)
            return job.fit(self.system, self.dataset)[1].best_metric
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _train_and_build(self, config: Config, folder: Path) -> float:
        from sparcode.build.job import build_index

        train_run(self.data, folder, config, baselines=False, device=self.device.type, progress=False)
        return float(build_index(folder)["validation_ndcg@10_rescored"])


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

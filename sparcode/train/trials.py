"""The trials of ``sparcode tune``, kept by optuna in a SQLite file, so that a search that was stopped goes on.

A search is told from others in the same file by a digest of all that its results depend on. SQLite keeps whole
transactions whenever the process dies; optuna's journal file, which needs no SQL, does not: a line cut short makes it
unreadable. A trial that was cut off left no result. It is drawn again, and equal, because what a trial tries depends
only on the results before it and on a seed of its own.
"""

from __future__ import annotations

import functools
import hashlib
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparcode import __version__
from sparcode.config import Config, updated
from sparcode.data.dataset import Dataset, save_dataset
from sparcode.errors import RunError
from sparcode.files import read_object, require_regular
from sparcode.seeding import derive

_RANDOM_TRIALS = 8
"""Drawn at random before the sampler begins to learn; the first of all, the given configuration, is not drawn."""
_GIVEN = "given configuration"


@dataclass(frozen=True)
class Result:
    """A finished trial: its number, from 0 (the given configuration), its validation NDCG@10, what it changed."""

    number: int
    metric: float
    changes: dict[str, Any]
    seconds: float


def digest_of(dataset: Dataset, config: Config, system: str, device: str) -> str:
    """Return 16 hex digits: which search this is. The number of threads and where the data lie do not count."""
    with tempfile.TemporaryDirectory(prefix="sparcode-tune-") as folder:
        save_dataset(dataset, Path(folder, "data"))
        data = read_object(Path(folder, "data", "dataset.json"))["sha256"]
    settings = updated(config, {"train.threads": 0}).model_dump()
    content = json.dumps([__version__, system, device, settings, data], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class Trials:
    """The trials of one search in the SQLite file ``path``; ``name`` tells the search.

    RunError when the file holds something else, or cannot be read or written. One process at a time: a trial without a
    result counts as cut off.
    """

    def __init__(self, path: Path, name: str, seed: int, notes: dict[str, str]) -> None:
        import optuna
        from sqlalchemy.pool import NullPool

        self.path, self.seed, self._optuna = path, seed, optuna
        require_regular(path, RunError)
        # Connections are made here, because URLs with a path are read differently by versions of SQLAlchemy.
        connected = {"creator": functools.partial(sqlite3.connect, path), "poolclass": NullPool}
        with self._one_line():
            storage = optuna.storages.RDBStorage("sqlite://", engine_kwargs=connected)
            earlier = optuna.get_all_study_names(storage)
            self.others = len([found for found in earlier if found != name])
            self._study = optuna.create_study(
                direction="maximize", storage=storage, study_name=name, load_if_exists=True
            )
            for key, note in notes.items():
                self._study.set_user_attr(key, note)
            for cut_off in self._study.get_trials(deepcopy=False, states=[optuna.trial.TrialState.RUNNING]):
                self._study.tell(cut_off.number, state=optuna.trial.TrialState.FAIL)

    def results(self) -> list[Result]:
        """Return the finished trials in their order."""
        with self._one_line():
            given = self._study.user_attrs.get(_GIVEN)
            complete = [self._optuna.trial.TrialState.COMPLETE]
            found = self._study.get_trials(deepcopy=False, states=complete)
        if given is None:
            return []
        results = [
            Result(number, float(trial.value), trial.params, float(trial.user_attrs.get("seconds", 0.0)))
            for number, trial in enumerate(found, start=1)
            if trial.value is not None
        ]
        return [Result(0, given["metric"], {}, given["seconds"]), *results]

    def record_given(self, metric: float, seconds: float) -> None:
        """Keep the result of the given configuration, which is none of the sampler's trials."""
        with self._one_line():
            self._study.set_user_attr(_GIVEN, {"metric": metric, "seconds": seconds})

    def begin(self, number: int, suggest: Callable[[Any], dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
        """Return optuna's next trial and what ``suggest`` drew from it; ``number``: how many results there are."""
        seed = derive(self.seed, "tune", number) % (1 << 32)
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM_TRIALS)
        with self._one_line():
            trial = self._study.ask()
            return trial, suggest(trial)

    def record(self, trial: Any, metric: float, seconds: float) -> None:
        """Keep the result of a trial that ``begin`` gave."""
        with self._one_line():
            trial.set_user_attr("seconds", seconds)
            self._study.tell(trial, metric)

    @contextmanager
    def _one_line(self) -> Iterator[None]:
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, self._optuna.exceptions.OptunaError, RuntimeError) as problem:
            reason = " ".join(str(getattr(problem, "orig", None) or problem).split())[:200]
            what = "cannot be used as the trials of a search"
            raise RunError(f"{self.path} {what} ({reason}); make room, or move it away to begin anew") from problem

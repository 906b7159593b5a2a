"""`sparcode train`: from data to a self-contained run folder."""

from __future__ import annotations

import shutil
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparcode.build.items.lists import with_repeats
from sparcode.build.items.transitions import count_transitions
from sparcode.config import Config, check_threads, to_toml, updated
from sparcode.data.dataset import Dataset, load_dataset, open_dataset, save_dataset
from sparcode.data.repeats import training_advice
from sparcode.errors import ConfigError, DataError, RunError
from sparcode.files import (
    append_text,
    make_folder,
    read_json,
    require_own_folder,
    require_writable,
    write_json,
    write_text,
)
from sparcode.index.layout import MAX_ITEMS
from sparcode.locks import locked
from sparcode.model.additive import AdditiveModel
from sparcode.model.sparcode import SparCodeModel
from sparcode.model.two_tower import TwoTowerModel
from sparcode.run import FORMAT, Run, hash_model
from sparcode.seeding import derive
from sparcode.train.checkpoint import load_best
from sparcode.train.defaults import config_of, resolve
from sparcode.train.export import (
    export_additive,
    export_codes,
    export_fill_order,
    export_sparcode,
    export_transitions,
    export_two_tower,
    export_word_lists,
)
from sparcode.train.loop import Callback, LoopState, Trainer
from sparcode.train.negatives import CandidateSampler
from sparcode.train.objective import Objective
from sparcode.train.production import production_config
from sparcode.train.progress import Progress, Silent, Terminal
from sparcode.train.scope import training_scope
from sparcode.train.validation import Validator
from sparcode.train.warm_start import start_from
from sparcode.wording import warn

SYSTEMS: dict[str, type[SparCodeModel]] = {
    "sparcode": SparCodeModel,
    "two-tower": TwoTowerModel,
    "additive": AdditiveModel,
}


def train_run(
    data: Any, out: str | Path, config: Config | None = None, *, resume: bool = False, overwrite: bool = False,
    baselines: bool = True, device: str = "auto", like: str | Path | None = None, threads: int | None = None,
    callback: Callback | None = None, progress: bool = True,
) -> Run:  # fmt: skip
    """Train SparCode (and the two-tower beside it) on ``data`` and write the run folder ``out``.

    ``data`` is a path, a fetched name or a table. ``like`` is an evaluated run whose epochs, sizes and fitted
    weights are taken over to train on every event (``data.split_by = "none"``). ``threads``: CPU threads of this call,
    absent: as ``train.threads`` says; another number may change last bits. Raises RunError if ``out`` is
    taken and neither ``resume`` nor ``overwrite`` is given; DataError and ConfigError as their messages say.
    """
    out = Path(out)
    config = config or Config()
    check_threads(threads)
    job = TrainingJob(out, config, resolve_device(device), callback, Terminal() if progress else Silent(), threads)
    try:
        with training_scope(job.device, job.threads):
            return job.run(data, resume=resume, overwrite=overwrite, baselines=baselines, like=like)
    finally:
        job.progress.close()


def resolve_device(name: str) -> torch.device:
    """Return the device of ``auto | cpu | cuda | mps``; ConfigError if torch cannot use it here."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((kind for kind in ("cuda", "mps") if available[kind]), "cpu"))
    if name not in available:
        raise ConfigError(f"--device {name!r}: expected one of auto, cpu, cuda, mps")
    if not available[name]:
        usable = ", ".join(kind for kind, usable in available.items() if usable)
        raise ConfigError(f"--device {name}: torch finds no such device on this machine; usable: {usable}")
    return torch.device(name)


def product_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the scorer's matrix products; ``auto`` takes bfloat16 where the hardware has units for it.

    On processors without matrix units (AMX) bfloat16 was no faster here: the step is then bound by memory.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    pays = amx() if device.type == "cpu" else device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if pays else torch.float32


LOCK = "train.lock"
"""Held while a run is trained into its folder."""


class TrainingJob:
    """The steps of one training run; each leaves a file behind by which a resumed run skips it."""

    def __init__(
        self, out: Path, config: Config, device: torch.device, callback: Callback | None = None,
        progress: Progress | None = None, threads: int | None = None,
    ) -> None:  # fmt: skip
        self.out, self.config, self.device = out, config, device
        self.threads = config.train.threads if threads is None else threads
        self.callback, self.progress = callback, progress or Silent()

    def run(self, data: Any, *, resume: bool, overwrite: bool, baselines: bool, like: str | Path | None) -> Run:
        earlier = None if like is None else Run.open(like)
        if earlier is not None:
            self.config = production_config(self.config, earlier, list(SYSTEMS))
            if earlier.folder.resolve() == self.out.resolve():
                raise RunError(f"--like {like}: a run cannot be trained over itself; choose another --out")
        self._claim(resume, overwrite)
        with ExitStack() as self.held:
            return self._train(data, resume, overwrite, baselines, earlier)

    def _train(self, data: Any, resume: bool, overwrite: bool, baselines: bool, earlier: Run | None) -> Run:
        dataset = self._dataset(data, resume, overwrite, earlier)
        self._advise_repeats(dataset)
        self.config = resolve(self.config, dataset)
        write_text(self.out / "config.toml", to_toml(self.config))
        started = time.perf_counter()
        summary = self._train_all(dataset, resume, baselines and self.config.baselines.two_tower)
        if earlier is not None and (earlier.folder / "query.json").exists():
            write_json(self.out / "query.json", earlier.query_settings | {"taken_from": str(earlier.folder)})
        run = self._record(summary | {"seconds": round(time.perf_counter() - started, 1)}, dataset)
        shutil.rmtree(self.out / "checkpoints", ignore_errors=True)
        return run

    def _train_all(self, dataset: Dataset, resume: bool, baseline: bool) -> dict[str, Any]:
        """Train what the configuration asks for; the two-tower comes first because SparCode starts from it."""
        summary: dict[str, Any] = {}
        if baseline or self.config.train.warm_start:
            summary["two-tower"] = self._train_two_tower(dataset, resume, export=baseline)
        if self._needs_additive():
            summary["additive"] = self._train_additive(dataset, resume)
        return {"sparcode": self._train_sparcode(dataset, resume)} | summary

    def _needs_additive(self) -> bool:
        family = self.config.families.item
        return family.enabled and family.additive

    def _claim(self, resume: bool, overwrite: bool) -> None:
        started = any((self.out / name).exists() for name in ("data", "config.toml", "run.json"))
        if resume and overwrite:
            raise RunError("--resume and --overwrite exclude each other: give one of them")
        if self.out.exists() and not self.out.is_dir():
            raise RunError(f"{self.out} is a file; --out expects a folder, choose another one")
        require_writable(self.out / "run.json" if self.out.exists() else self.out)  # before data are read
        if started and not (resume or overwrite):
            raise RunError(f"{self.out} already holds a run; continue it with --resume or replace it with --overwrite")
        others = any(path.name != LOCK for path in self.out.iterdir()) if self.out.exists() else False
        if not started and others and not resume:
            raise RunError(f"{self.out} is not empty and holds no run; choose another --out")

    def _hold(self, resume: bool, overwrite: bool) -> None:
        """Take the folder for this process until the run ends; what another has begun meanwhile is refused as before.

        Nothing is created before: data that are refused leave no folder behind.
        """
        make_folder(self.out)
        busy = f"{self.out} is being trained by another process; wait for it to finish, or choose another --out"
        self.held.enter_context(locked(self.out / LOCK, busy))
        self._claim(resume, overwrite)
        if resume:
            for name in ("data", "model", "checkpoints"):
                require_own_folder(self.out / name)
            append_text(self.out / "metrics.jsonl", "")  # refused now, not after an epoch

    def _clear(self) -> None:
        """Remove what an earlier run left; the folder itself, which a link may name, and the lock stay."""
        for path in self.out.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def _dataset(self, data: Any, resume: bool, overwrite: bool, earlier: Run | None) -> Dataset:
        folder = self.out / "data"
        if resume and (self.out / "config.toml").exists() and folder.exists():
            saved = Run(self.out, {}).config
            if resolve_equal(self.config, saved):
                self.config = saved
                self._hold(resume, overwrite)
                dataset = open_dataset(folder)
                self._same_source(data, dataset)
                return dataset
            raise RunError(f"--resume: the configuration differs from {self.out}/config.toml; use --overwrite")
        like = None if earlier is None else earlier.dataset
        dataset = load_dataset(data, self.config.data, seed=self.config.seed, like=like)
        require_training_pairs(dataset)
        require_room(dataset)
        self._item_features(dataset)
        self._width(dataset)
        resolve(self.config, dataset)
        # Everything that can be refused has been: only now an earlier run gives way.
        self._hold(resume, overwrite)
        if not resume:
            self._clear()
        save_dataset(dataset, folder)
        return dataset

    def _advise_repeats(self, dataset: Dataset) -> None:
        which = "test" if dataset.validation is None else "validation"
        advice = training_advice(getattr(dataset, which), which)
        if advice is not None and not self.config.query.include_seen:
            warn(advice, stacklevel=2)

    def _same_source(self, data: Any, dataset: Dataset) -> None:
        # Resuming reads the run's own copy; other data beside --resume would be ignored without a word.
        source = dataset.summary.get("source", "")
        given = isinstance(data, (str, Path)) and Path(data).exists() and Path(source).exists()
        if given and not Path(data).samefile(source):
            raise RunError(f"--resume: {self.out} is trained on {source}, not on {data}; use --overwrite")

    def fit(
        self, system: str, dataset: Dataset, resume: bool = False, warm: dict[str, Tensor] | None = None
    ) -> tuple[Trainer, LoopState]:
        """Train one system (``sparcode``, ``two-tower`` or ``additive``) under ``config``, which must be resolved.

        ``warm``: weights of a trained two-tower that ``sparcode`` starts from.
        """
        with training_scope(self.device, self.threads):
            return self._fit(system, dataset, resume, warm)

    def _fit(
        self, system: str, dataset: Dataset, resume: bool, warm: dict[str, Tensor] | None
    ) -> tuple[Trainer, LoopState]:
        config = config_of(system, self.config, warm=warm is not None)
        torch.manual_seed(derive(config.seed, system, "initial"))
        model = SYSTEMS[system](config, dataset.item_count, self._item_features(dataset), self._width(dataset))
        if warm is not None:
            start_from(model, warm)
        model.scorer.product_dtype = product_dtype(config.train.precision, self.device)
        trainer = self._trainer(system, model, dataset, warm is not None and self.config.train.fine_tune_epochs == 0)
        return trainer, trainer.fit(resume)

    def _train_sparcode(self, dataset: Dataset, resume: bool) -> dict[str, Any]:
        folder = self.out / "model"
        if resume and (folder / "trained.json").exists():
            return dict(read_json(folder / "trained.json", RunError))
        warm = load_best(self._checkpoint("two-tower")) if self.config.train.warm_start else None
        trainer, state = self.fit("sparcode", dataset, resume, warm)
        export_sparcode(trainer.model, folder)
        export_transitions(dataset.train, dataset.item_count, self.config, folder)
        export_word_lists(dataset, self.config, folder)
        export_fill_order(dataset.popularity, folder)
        codes = export_codes(trainer.model, trainer.objective, dataset.train, self.config, folder)
        summary = _summary(state) | codes
        write_json(folder / "trained.json", summary)
        return summary

    def _checkpoint(self, system: str) -> Path:
        return self.out / "checkpoints" / f"{system}.safetensors"

    def _train_two_tower(self, dataset: Dataset, resume: bool, export: bool = True) -> dict[str, Any]:
        folder = self.out / "model"
        trained = folder / "two_tower_trained.json"
        warm = self.config.train.warm_start and not (folder / "trained.json").exists()
        if resume and trained.exists() and (self._checkpoint("two-tower").exists() or not warm):
            return dict(read_json(trained, RunError))
        trainer, state = self.fit("two-tower", dataset, resume)
        if export:
            export_two_tower(trainer.model, folder)
        summary = _summary(state)
        write_json(trained, summary)
        return summary

    def _train_additive(self, dataset: Dataset, resume: bool) -> dict[str, Any]:
        folder = self.out / "model"
        if resume and (folder / "additive_trained.json").exists():
            return dict(read_json(folder / "additive_trained.json", RunError))
        trainer, state = self.fit("additive", dataset, resume)
        assert isinstance(trainer.model, AdditiveModel)
        export_additive(trainer.model, folder)
        summary = _summary(state)
        summary["validation_ndcg@10_with_counts"] = summary.pop("validation_ndcg@10")
        write_json(folder / "additive_trained.json", summary)
        return summary

    def _trainer(self, name: str, model: SparCodeModel, dataset: Dataset, codes_only: bool = False) -> Trainer:
        model = model.to(self.device)
        config = model.config
        users = self._user_features(dataset) if model.feature_width else None
        popularity = np.bincount(dataset.train.items, minlength=dataset.item_count)
        if model.items.content is not None or not config.loss.unseen_negatives:
            # Else ids are all there is to tell unseen items by, and as negatives they are learned.
            model.items.learn_ids_of(torch.from_numpy(popularity > 0))
        sampler = CandidateSampler(config.loss, popularity, derive(config.seed, name, "negatives"))
        table = None if users is None else torch.from_numpy(users).to(self.device)
        objective = Objective(model, sampler, table, config.train.history_dropout)
        return Trainer(
            name, model, objective, dataset.train, self._validator(name, dataset, users, config), config, self.out,
            self.progress, self._noted, codes_only,
        )  # fmt: skip

    def _noted(self, report: dict[str, Any]) -> None:
        for line in usage_warnings(report, self.config):
            warn(line, stacklevel=2)
        if self.callback is not None:
            self.callback(report)

    def _validator(self, name: str, dataset: Dataset, users: np.ndarray | None, config: Config) -> Validator | None:
        if dataset.validation is None:
            return None
        most, family, counted = config.train.evaluation_users, config.families.item, None
        repeats = config.query.include_seen
        if name == "additive" and family.counted:
            counted = count_transitions(dataset.train, dataset.item_count, family)
            counted = with_repeats(counted, dataset.train, family) if repeats else counted
        history, seed = config.model.history, config.seed
        return Validator(dataset.validation, most, history, users, seed, counted, family.decay, repeats)

    def _item_features(self, dataset: Dataset) -> Any:
        if self.config.model.item_content and dataset.item_features is None:
            raise ConfigError("model.item_content=true, but the data hold no usable item columns (items.* file)")
        return dataset.item_features if self.config.model.item_content else None

    def _width(self, dataset: Dataset) -> int:
        if not self.config.model.user_features:
            return 0
        if dataset.user_features is None:
            raise ConfigError("model.user_features=true, but the data hold no usable user columns (users.* file)")
        return dataset.user_features.width

    def _user_features(self, dataset: Dataset) -> np.ndarray | None:
        if not self._width(dataset):
            return None
        return dataset.user_features.dense(np.arange(len(dataset.user_ids)))  # type: ignore[union-attr]

    def _record(self, summary: dict[str, Any], dataset: Dataset) -> Run:
        record = {
            "format": FORMAT,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "model_hash": hash_model(self.out / "model"),
            "items": dataset.item_count,
            "users": len(dataset.user_ids),
            "training": summary,
        }
        write_json(self.out / "run.json", record)
        return Run.open(self.out)


def require_training_pairs(dataset: Dataset) -> None:
    """Raise DataError unless some user has two training events: one to read and one to predict."""
    events = np.diff(dataset.train.indptr)
    if events.max(initial=0) < 2:
        raise DataError(
            f"no user has 2 training events after cleaning and splitting ({len(events):,} users, {int(events.sum()):,} "
            "training events found); give longer histories or another --split-by"
        )


def require_room(dataset: Dataset) -> None:
    """Raise DataError when there are more items than an index can name."""
    if dataset.item_count > MAX_ITEMS:
        raise DataError(
            f"{dataset.item_count:,} items found ({dataset.items_without_event:,} of them without an event), an index "
            f"holds at most {MAX_ITEMS:,}; data.catalogue_items=false leaves out those without an event"
        )


def resolve_equal(asked: Config, saved: Config) -> bool:
    """Tell whether ``saved`` is ``asked`` with only open values filled in."""

    def agrees(left: Any, right: Any) -> bool:
        if isinstance(left, dict) and isinstance(right, dict):
            return all(agrees(value, right.get(key)) for key, value in left.items())
        return left is None or left == right

    # Another number of threads may go on with a run: it changes last bits at most.
    asked = updated(asked, {"train.threads": saved.train.threads})
    return agrees(asked.model_dump(), saved.model_dump())


def usage_warnings(report: dict[str, Any], config: Config) -> list[str]:
    """Return loud warnings about collapsing codebooks, from the report of an epoch."""
    lines = []
    if report.get("usage", 1.0) < 0.5:
        lines.append(
            f"codebook collapse: only {report['usage']:.0%} of the codewords are used in epoch {report['epoch'] + 1}; "
            "lower quantizer.codewords or raise quantizer.warmup"
        )
    if (config.model.heads or 1) > 1 and report.get("distinct_codes", 2.0) < 2:
        lines.append(
            f"the {config.model.heads} query tokens share codes: {report['distinct_codes']:.2f} distinct codes a query "
            f"in epoch {report['epoch'] + 1}; lower model.heads or raise quantizer.codewords"
        )
    return lines


def _summary(state: LoopState) -> dict[str, Any]:
    return {
        "epochs_run": state.epoch,
        "best_epoch": state.best_epoch,
        "validation_ndcg@10": state.best_metric if state.best_metric >= 0 else None,
        "seconds": round(state.seconds, 2),
        "positions": state.positions,
        "positions_per_second": round(state.positions / max(state.seconds, 1e-9), 1),
        "padding_share": round(1 - state.positions / max(state.padded_positions, 1), 4),
    }

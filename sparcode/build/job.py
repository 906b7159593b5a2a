"""The offline job: stored codes x items -> posting lists of a run, published as the next generation of its index.

Steps: choose the codes to store (``budget``), count what queries read (``reads``), score in blocks, each a shard
on disk, so that a stopped job goes on where it was (``blocks``), let the policy cut (``cut``), add the other
families, quantise with one scale, fit the query settings on validation, leave out what these do not read, publish.
The earlier index stays in use until that succeeds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparcode.build.assembly import assemble, items_in_no_list, select
from sparcode.build.blocks import BlockScoring, Progress, open_scorer
from sparcode.build.budget import ByteBudget
from sparcode.build.coverage import needed_lists
from sparcode.build.cut import Cut, Cutter
from sparcode.build.fit import default_settings, fit_settings
from sparcode.build.items.family import make_item_family
from sparcode.build.items.words import open_word_lists
from sparcode.build.policy import resolve_settings
from sparcode.build.reads import Reads, validation_reads
from sparcode.build.runners import Runner, build_runner
from sparcode.build.score.candidates import Candidates
from sparcode.build.score.scoring import ListScorer
from sparcode.build.stored_codes import Stored, busiest, fallback_table, rows_of
from sparcode.config import Config, IndexConfig, check_threads, updated
from sparcode.errors import BudgetError, ConfigError, RunError
from sparcode.files import make_folder, own_folder, read_object, write_json
from sparcode.index.arrays import Arrays, read_arrays
from sparcode.index.layout import MAX_ITEMS, Index
from sparcode.index.store import publish
from sparcode.locks import locked
from sparcode.progress import Bars
from sparcode.query.encoder.encoder import Encoder
from sparcode.query.model_checks import read_codes
from sparcode.query.pipeline import Pipeline, QuerySettings
from sparcode.query.search.searcher import Searcher
from sparcode.run import Run
from sparcode.threads import limited

_log = logging.getLogger(__name__)


def build_index(
    run_folder: str | Path,
    *,
    policy: str | None = None,
    bias: float | None = None,
    density: float | None = None,
    budget_mb: float | None = None,
    postings_per_query: float | None = None,
    length: int | None = None,
    item_floor: int | None = None,
    runner: str = "serial",
    workers: int | None = None,
    block_codes: int | None = None,
    overrides: dict[str, Any] | None = None,
    threads: int | None = None,
    progress: bool | Progress = False,
) -> dict[str, Any]:
    """Build and publish the index of a run, fit its query settings, and return a JSON-able summary.

    Settings that are None come from the run's configuration when none of the policy's is given. ``length``: keep the
    best so many items of every code. ``item_floor``: with a budget, every item with a training event is in at least so
    many lists, those of all families counted. ``progress``: True for a bar on stderr, or a callable that receives
    blocks done and blocks in all; what is done between is logged. ``threads``: of numeric libraries, and workers when
    none are named; absent: all CPUs this process may use. ``overrides``: dotted keys of the run's configuration that
    hold for this build alone, e.g. ``{"families.learned.enabled": False}``. Raises BudgetError (naming the smallest
    feasible budget), ConfigError on contradictory settings, RunError when another build runs.
    """
    started = time.perf_counter()
    check_threads(threads)
    run = Run.open(run_folder)
    run.check_model()
    given = {
        "policy": policy, "bias": bias, "density": density, "budget_mb": budget_mb,
        "postings_per_query": postings_per_query, "length": length, "item_floor": item_floor,
    }  # fmt: skip
    config = updated(run.config, overrides or {})
    settings = resolve_settings(config.index, given, block_codes)
    scorers = build_runner(runner, workers or threads)
    with limited(threads), exclusive(run.folder / "index-work") as work, reporter(progress) as report:
        job = Job(run, config, settings, scorers, work, report)
        index, info = job.index()
        chosen, notes = query_settings(run, config, settings, index, job.item_weights, job.list_info)
        if index.has_family("category") and not chosen.category_weights:
            index, info = job.without("category")
        generation = publish(
            run.index_folder, index, model_hash=run.model_hash, config_hash=_digest(settings.model_dump()), info=info
        )
        if notes is not None:
            write_json(run.folder / "query.json", chosen.to_json() | notes)
        shutil.rmtree(work, ignore_errors=True)
    seconds = {"score_s": round(job.scoring.seconds, 3), "build_s": round(time.perf_counter() - started, 3)}
    figures = {key: value for key, value in (notes or {}).items() if key != "item_lists"}
    summary = info | {"cache_bytes": index.cache_bytes, "generation": generation} | figures | seconds
    write_json(run.folder / "build.json", summary)
    return summary


class _Learned(NamedTuple):
    """The learned lists: stored codes, fallback table, postings and the cut that made them, reads by validation."""

    stored: Stored
    table: np.ndarray | None
    kept: Candidates
    cut: Cut
    reads: Reads


class Job:
    """One build; holds what its steps share."""

    def __init__(
        self, run: Run, config: Config, settings: IndexConfig, runner: Runner, work: Path, report: Progress
    ) -> None:
        self.run, self.config, self.settings = run, config, settings
        self.scoring = BlockScoring(run, work, runner, settings.block_codes, report)
        self.model = run.model_folder
        self.encoder = Encoder.open(self.model)
        self.arrays = read_arrays(self.model / "encoder.safetensors")
        self.item_count = int(self.encoder.spec["items"])
        if self.item_count > MAX_ITEMS:  # before hours of scoring
            raise RunError(f"{run.folder} has {self.item_count:,} items; an index holds at most {MAX_ITEMS:,}")
        self.items: Arrays | None = None
        # Rows of segments stand before those of categories, which may be left out after the fit: the first family
        # gives the scale, and it must stay the one that was fitted.
        found = open_word_lists(self.model, config.families, self.item_count)
        self.words: dict[str, Arrays] = {name: found[name] for name in ("segment", "category") if name in found}
        _log.info("item lists: made, and fitted on validation where there is one")
        lists, self.item_weights, self.list_info = make_item_family(run, config, self._most_item_postings())
        self.items = None if lists is None else lists._asdict()
        self.learned: _Learned | None = None
        self.needs = self._needs()

    def index(self) -> tuple[Index, dict[str, Any]]:
        """Return the finished index and what to remember about it."""
        if self._has_learned():
            _log.info("learned lists: %s items scored under the stored codes", f"{self.item_count:,}")
            self.learned = self._learned_lists()
        return self._assembled()

    def without(self, family: str) -> tuple[Index, dict[str, Any]]:
        """Return the finished index anew with a family of words left out."""
        del self.words[family]
        return self._assembled()

    def _has_learned(self) -> bool:
        return self.config.families.learned.enabled and self.encoder.spec.get("quantizer") is not None

    def _lists(self) -> dict[str, Arrays]:
        """Return the lists of all families but the learned one."""
        return ({} if self.items is None else {"item": self.items}) | self.words

    def _bytes(self) -> ByteBudget | None:
        most = self.settings.budget_mb
        return None if most is None else ByteBudget(most, self.item_count, self._lists())

    def _most_item_postings(self) -> int | None:
        """Return how many postings of item lists a byte budget affords beside the fewest codes; None without one."""
        budget, quantizer = self._bytes(), self.encoder.spec.get("quantizer")
        if budget is None:
            return None
        if quantizer is None or not self._has_learned():
            return budget.item_postings()
        trained = len(np.unique(self.run.dataset.train.items))
        books, codewords = int(quantizer["books"]), int(quantizer["codewords"])
        return budget.item_postings_beside_codes(books, codewords, self.settings.item_floor or 0, trained)

    def _needs(self) -> np.ndarray | None:
        """Return how many learned lists each item needs (n,); None without an item floor."""
        floor = self.settings.item_floor
        if not floor:
            return None
        if not self._has_learned():
            raise ConfigError("item_floor is met by learned lists and they are off; leave item_floor out")
        # Lists of categories may be left out after the fit.
        others = [lists for name, lists in self._lists().items() if name != "category"]
        return needed_lists(floor, self.run.dataset.train.items, others, self.item_count)

    def _assembled(self) -> tuple[Index, dict[str, Any]]:
        made = self.learned
        if made is None:
            index = assemble(self.item_count, None, None, self.items, None, self.words)
            info = {"policy": "none", "codes": 0, "postings": int(len(index.postings))} | self.list_info
        else:
            index = assemble(self.item_count, made.stored.codes, made.kept, self.items, made.table, self.words)
            info = self._info(made)
        return index, info | {"items_in_no_list_of": items_in_no_list(index)}

    def _learned_lists(self) -> _Learned:
        """Choose codes, score them and cut."""
        stored, codebooks = self._choose_codes(), self.arrays["codebooks"]
        kind = str(self.encoder.spec["quantizer"]["kind"])
        table = fallback_table(stored, codebooks, kind)
        rows = partial(rows_of, stored=stored, table=table, codebooks=codebooks, kind=kind)
        reads = validation_reads(self.run, self.config.families, self.encoder, stored, rows, self._lists())
        if not reads.queries and self.settings.postings_per_query is not None:
            raise BudgetError(
                "postings_per_query is measured on validation queries and this run has none; use budget_mb"
            )
        candidates, cut = self._cutter(open_scorer(self.model), stored, reads).cut()
        return _Learned(stored, table, select(candidates, cut), cut, reads)

    def _choose_codes(self) -> Stored:
        books, codewords = self.arrays["codebooks"].shape[:2]
        arrays = read_codes(self.model / "codes.safetensors", self.item_count, books, codewords)
        codes, traffic = np.array(arrays["codes"]), np.array(arrays["traffic"])
        if self.needs is not None and self.needs.max(initial=0) > len(codes):
            floor = self.settings.item_floor
            raise ConfigError(f"item_floor of {floor} found, expected at most {len(codes)}, the codes that have lists")
        budget = self._bytes()
        most = None if budget is None else budget.codes(codes.shape[1], codewords, self.needs)
        return busiest(codes, traffic, codewords, most)

    def _cutter(self, scorer: ListScorer, stored: Stored, reads: Reads) -> Cutter:
        budget = self._bytes()
        return Cutter(
            self.settings, self.config.families.learned.length, scorer, self.scoring, stored, self.item_count, reads,
            None if budget is None else budget.learned_postings(stored), self.needs,
        )  # fmt: skip

    def _info(self, made: _Learned) -> dict[str, Any]:
        stored, kept, cut = made.stored, made.kept, made.cut
        lengths = np.diff(kept.indptr)
        pairs = len(stored.codes) * self.item_count
        others = self._lists()
        reads = made.reads
        mean = float(lengths @ reads.codes) + sum(reads.lists[name] for name in others) if reads.queries else None
        word_postings = {f"{name}_postings": len(lists["items"]) for name, lists in self.words.items()}
        return {
            "policy": self.settings.policy,
            "settings": self.settings.model_dump(exclude_none=True, exclude={"policy", "block_codes"}),
            "offset": cut.offset, "mu": cut.mu, "lambda": cut.lam,
            "codes": len(stored.codes), "items": self.item_count,
            "learned_postings": int(lengths.sum()),
            "item_postings": 0 if self.items is None else len(self.items["items"]),
            "density_percent": 100.0 * float(lengths.sum()) / pairs,
            "mean_list": float(lengths.mean()), "longest_list": int(lengths.max(initial=0)),
            "empty_lists": int((lengths == 0).sum()),
            "items_in_no_list": int((np.bincount(kept.items, minlength=self.item_count) == 0).sum()),
            "item_floor_postings": cut.for_items,
            "postings_per_query": mean, "validation_queries": reads.queries,
        } | word_postings | self.list_info  # fmt: skip


@contextmanager
def exclusive(folder: Path) -> Iterator[Path]:
    """Hold the work folder for one build at a time; the system releases it when the process dies."""
    busy = f"{folder.parent} is being built by another process; wait for it to finish"
    make_folder(folder.parent)
    with locked(folder.with_name("index-work.lock"), busy):
        own_folder(folder)
        yield folder


@contextmanager
def reporter(progress: bool | Progress) -> Iterator[Progress]:
    """Give what blocks are reported to: a bar on stderr for True, the callable that was given, or nothing."""
    if not progress:
        yield lambda done, total: None
    elif callable(progress):
        yield progress
    else:
        with Bars() as bars:
            yield lambda done, total: bars.update("scoring codes", done=done, total=total, note=f"{done}/{total}")


def query_settings(
    run: Run, config: Config, settings: IndexConfig, index: Index, item_weights: tuple[int, ...],
    list_info: dict[str, Any],
) -> tuple[QuerySettings, dict[str, Any] | None]:  # fmt: skip
    """Fit probes and weights of a new index on validation; returns them and the notes that go with them to a file.

    Settings taken over from an evaluated run (``--like``) are left alone; there are no notes then. A read budget was
    solved for the configured number of probes, so that number is not changed by fitting.
    """
    taken = read_object(run.query_file) if run.query_file.exists() else {}
    if "taken_from" in taken:
        return QuerySettings.from_json(taken, run.query_file), None
    validation = run.held_out("validation")
    if settings.postings_per_query is not None:
        config = updated(config, {"families.learned.probes": config.families.learned.probes or 1})
    pipeline = Pipeline.over(run, Searcher(index), QuerySettings(1, 1, (), 1.0))
    chosen = default_settings(pipeline, config, item_weights)
    figures: dict[str, Any] = {}
    if validation is not None and len(validation):
        chosen, figures = fit_settings(pipeline.with_settings(chosen), validation, config, item_weights)
    lists = list_info.get("item_lists")
    return chosen, figures | ({} if lists is None else {"item_lists": lists})


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

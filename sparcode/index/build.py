"""The offline job: stored codes x items -> posting lists of a run, published as the next generation of its index.

Steps: choose the codes to store, score them in blocks (each block a shard on disk, so that a stopped job goes on
where it was), let the policy cut, add the other families, quantise with one scale, fit the query settings on
validation, leave out what these do not read, publish. The earlier index stays in use until that succeeds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparcode.config import Config, IndexConfig, updated
from sparcode.errors import BudgetError, CorruptIndexError, RunError
from sparcode.files import read_json, write_json
from sparcode.index.arrays import Arrays, read_arrays, write_arrays
from sparcode.index.assembly import assemble, select
from sparcode.index.budget import Cut, bias_cut, budget_cut, density_cut, length_cut
from sparcode.index.encoder import Encoder
from sparcode.index.families import CategoryReader, ItemReader, RowReader, SegmentReader
from sparcode.index.fit import default_settings, fit_settings
from sparcode.index.item_family import make_item_family
from sparcode.index.layout import MAX_CODE_TABLE, Index, composite
from sparcode.index.pipeline import Pipeline, QuerySettings
from sparcode.index.policy import resolve_settings
from sparcode.index.runners import Runner, build_runner
from sparcode.index.scoring import CodeScorer, ListScorer
from sparcode.index.searcher import Searcher
from sparcode.index.shards import Block, Candidates, open_scorer, read_shards, run_block
from sparcode.index.store import publish
from sparcode.index.stored import Stored, busiest, fallback_table, nearest_rows
from sparcode.index.word_lists import open_word_lists
from sparcode.run import Run
from sparcode.seeding import generator

LONGEST_SHARE = 1 / 16
"""Largest mean list, as a share of the items, when nothing says how much to keep and no bias was trained in."""
MIN_LIST = 4
"""Policy budget: every stored code keeps at least so many postings."""
AFFORDED = 16
"""Policy budget: no more codes are stored than the storage can give this many postings each."""
HEAD_ROOM = 4.0
"""Candidates scored for a budget, as a multiple of what it can keep; the solver needs room to move."""
ITEM_SHARE = 0.6
"""Policy budget: share of the bytes that the postings of item lists may take when there are learned codes too."""
POSTING_BYTES = 4
SAMPLE_PAIRS = 1 << 22

Progress = Callable[[int, int], None]


def build_index(
    run_folder: str | Path,
    *,
    policy: str | None = None,
    bias: float | None = None,
    density: float | None = None,
    budget_mb: float | None = None,
    postings_per_query: float | None = None,
    length: int | None = None,
    runner: str = "serial",
    workers: int | None = None,
    block_codes: int | None = None,
    overrides: dict[str, Any] | None = None,
    progress: bool | Progress = False,
) -> dict[str, Any]:
    """Build and publish the index of a run, fit its query settings, and return a JSON-able summary.

    Settings that are None come from the run's configuration when none of the policy's is given. ``length``: keep the
    best so many items of every code. ``progress``: True for a bar on stderr, or a callable that receives blocks done
    and blocks in all. ``overrides``: dotted keys of the run's configuration that hold for this build alone, e.g.
    ``{"families.learned.enabled": False}``. Raises BudgetError (naming the smallest feasible budget), ConfigError on
    contradictory settings, RunError when another build runs.
    """
    started = time.perf_counter()
    run = Run.open(run_folder)
    run.check_model()
    given = {
        "policy": policy, "bias": bias, "density": density, "budget_mb": budget_mb,
        "postings_per_query": postings_per_query, "length": length,
    }  # fmt: skip
    config = updated(run.config, overrides or {})
    settings = resolve_settings(config.index, given, block_codes)
    with _exclusive(run.folder / "index-work") as work, _reporter(progress) as report:
        job = Job(run, config, settings, build_runner(runner, workers), work, report)
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
    seconds = {"score_s": round(job.score_seconds, 3), "build_s": round(time.perf_counter() - started, 3)}
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
    reads: np.ndarray
    queries: int


class Job:
    """One build; holds what its steps share."""

    def __init__(
        self, run: Run, config: Config, settings: IndexConfig, runner: Runner, work: Path, report: Progress
    ) -> None:
        self.run, self.settings, self.runner, self.work, self.report = run, settings, runner, work, report
        self.config = config
        self.model = run.model_folder
        self.encoder = Encoder.open(self.model)
        self.arrays = read_arrays(self.model / "encoder.safetensors")
        self.score_seconds = 0.0
        self.item_count = int(self.encoder.spec["items"])
        self.items: Arrays | None = None
        # Rows of segments stand before those of categories, which may be left out after the fit: the first family
        # gives the scale, and it must stay the one that was fitted.
        found = open_word_lists(self.model, config.families)
        self.words: dict[str, Arrays] = {name: found[name] for name in ("segment", "category") if name in found}
        lists, self.item_weights, self.list_info = make_item_family(run, config, self._most_item_postings())
        self.items = None if lists is None else lists._asdict()
        self.list_reads: dict[str, float] = {}
        self.learned: _Learned | None = None

    def _most_item_postings(self) -> int | None:
        """Return how many postings of item lists a byte budget affords beside one learned code; None without one."""
        if self.settings.budget_mb is None:
            return None
        budget, quantizer = self.settings.budget_mb * 1e6, self.encoder.spec.get("quantizer")
        share, reserved = budget, 8 * (self.item_count + 1)
        if self.config.families.learned.enabled and quantizer is not None:
            share = ITEM_SHARE * budget
            reserved += self._fixed_bytes(1, int(quantizer["books"]), int(quantizer["codewords"]))
            reserved += POSTING_BYTES * min(AFFORDED, self.item_count)
        return max(0, int(min(share, budget - reserved) // POSTING_BYTES))

    def index(self) -> tuple[Index, dict[str, Any]]:
        """Return the finished index and what to remember about it."""
        if self.config.families.learned.enabled and self.encoder.spec.get("quantizer") is not None:
            self.learned = self._learned_lists()
        return self._assembled()

    def without(self, family: str) -> tuple[Index, dict[str, Any]]:
        """Return the finished index anew with a family of words left out."""
        del self.words[family]
        return self._assembled()

    def _assembled(self) -> tuple[Index, dict[str, Any]]:
        made = self.learned
        if made is None:
            index = assemble(self.item_count, None, None, self.items, None, self.words)
            return index, {"policy": "none", "codes": 0, "postings": int(len(index.postings))} | self.list_info
        index = assemble(self.item_count, made.stored.codes, made.kept, self.items, made.table, self.words)
        return index, self._info(made)

    def _learned_lists(self) -> _Learned:
        """Choose codes, score them and cut."""
        stored = self._choose_codes()
        table = fallback_table(stored, self.arrays["codebooks"], str(self.encoder.spec["quantizer"]["kind"]))
        reads, queries = self._validation_reads(stored, table)
        candidates, cut = self._cut(open_scorer(self.model), stored, reads, sum(self.list_reads.values()))
        return _Learned(stored, table, select(candidates, cut), cut, reads, queries)

    def _choose_codes(self) -> Stored:
        arrays = read_arrays(self.model / "codes.safetensors")
        codes, traffic = np.array(arrays["codes"]), np.array(arrays["traffic"])
        codewords = int(self.encoder.spec["quantizer"]["codewords"])
        if not len(codes):
            raise CorruptIndexError(f"{self.model}/codes.safetensors holds no codes; train the run again")
        most = self._affordable_codes(codes.shape[1], codewords)
        return busiest(codes, traffic, codewords, most)

    def _fixed_bytes(self, codes: int, books: int, codewords: int) -> int:
        others = self._lists().values()
        lists = sum(POSTING_BYTES * len(each["items"]) for each in others)
        rows = codes + sum(len(each["indptr"]) - 1 for each in others)
        table = 4 * codewords**books if codewords**books <= MAX_CODE_TABLE else 0
        return lists + 8 * (rows + 1) + table + 2 * books * codes

    def _affordable_codes(self, books: int, codewords: int) -> int | None:
        if self.settings.budget_mb is None:
            return None
        left = self.settings.budget_mb * 1e6 - self._fixed_bytes(0, books, codewords)
        most = int(left // (8 + 2 * books + POSTING_BYTES * min(AFFORDED, self.item_count)))
        if most < 1:
            one = self._fixed_bytes(1, books, codewords) + POSTING_BYTES * min(AFFORDED, self.item_count)
            raise BudgetError(
                f"budget of {self.settings.budget_mb:g} MB found, the smallest feasible is {_up_to(one / 1e6)} MB "
                "(lists of the other families, offsets, fallback table and one code)"
            )
        return most

    def _lists(self) -> dict[str, Arrays]:
        """Return the lists of all families but the learned one."""
        return ({} if self.items is None else {"item": self.items}) | self.words

    def _validation_reads(self, stored: Stored, table: np.ndarray | None) -> tuple[np.ndarray, int]:
        """Return how often a validation query reads each code, and the number of queries; notes ``list_reads``."""
        validation = self.run.held_out("validation")
        reads = np.zeros(len(stored.codes))
        if validation is None or len(validation) == 0:
            if self.settings.postings_per_query is not None:
                raise BudgetError(
                    "postings_per_query is measured on validation queries and this run has none; use budget_mb"
                )
            return reads, 0
        count, probes = len(validation), self.config.families.learned.probes or 1
        for start in range(0, count, 4096):
            queries = validation.queries.slice(start, min(start + 4096, count))
            tokens = self.encoder.tokens(queries)[self.encoder.has_tokens(queries)]
            codes = self.encoder.codes(tokens, probes)[0].reshape(-1, stored.codes.shape[1])
            reads += np.bincount(self._rows(codes, stored, table), minlength=len(reads))
        for name, lists in self._lists().items():
            rows = self._reader(name, lists).read(validation.queries).rows
            self.list_reads[name] = float(np.diff(lists["indptr"])[rows].sum()) / count
        return reads / count, count

    def _rows(self, codes: np.ndarray, stored: Stored, table: np.ndarray | None) -> np.ndarray:
        keys = composite(codes, stored.codewords)
        if table is not None:
            return table[keys]
        unique, inverse = np.unique(keys, return_inverse=True)
        first = np.zeros(len(unique), np.int64)
        first[inverse.reshape(-1)] = np.arange(len(keys))
        rows = nearest_rows(codes[first], stored, self.arrays["codebooks"], str(self.encoder.spec["quantizer"]["kind"]))
        return rows[inverse.reshape(-1)]

    def _reader(self, name: str, lists: Arrays) -> RowReader:
        """Return the reader of a family's lists at the most it may read."""
        families, count = self.config.families, len(lists["indptr"]) - 1
        if name == "item":
            return ItemReader(0, (1,) * families.item.history)
        if name == "segment":
            return SegmentReader(0, count, 1)
        return CategoryReader(0, count, lists["item_indptr"], lists["item_words"], (1,) * families.category.history)

    def _cut(self, scorer: ListScorer, stored: Stored, reads: np.ndarray, item_reads: float) -> tuple[Candidates, Cut]:
        """Score under a threshold that surely suffices; where it did not, score again under a lower one."""
        if self.settings.length is not None:
            candidates = self._score(stored, float("inf"), self.settings.length)
            return candidates, length_cut(candidates, self._trained_zero(scorer))
        pairs = len(stored.codes) * self.item_count
        share = self._share(scorer, stored, reads, item_reads)
        sample = sampled_scores(scorer, stored.codes)
        floor = self._floor(scorer)
        while True:
            threshold = self._threshold(scorer, sample, share)
            candidates = self._score(stored, threshold, floor)
            cut = self._apply(scorer, candidates, stored, reads, item_reads, threshold)
            if not cut.exhausted or len(candidates.values) == pairs or self._trained_zero(scorer) == threshold:
                return candidates, cut
            share = min(1.0, 4 * share)

    def _share(self, scorer: ListScorer, stored: Stored, reads: np.ndarray, item_reads: float) -> float:
        """Return the share of pairs worth scoring into candidates; 0 when the threshold is known beforehand."""
        pairs = len(stored.codes) * self.item_count
        if self.settings.policy == "global-bias":
            wanted = self._density(scorer)
            return 0.0 if wanted is None else wanted * 1.25 + 1e-4
        limits = []
        if self.settings.budget_mb is not None:
            limits.append(self._most_postings(stored) / pairs)
        if self.settings.postings_per_query is not None:
            each = max(float(reads.sum()), 1e-9)
            limits.append(max(self.settings.postings_per_query - item_reads, 0.0) / each / self.item_count)
        return min(1.0, HEAD_ROOM * min(limits) + 1e-4)

    def _floor(self, scorer: ListScorer) -> int:
        # With a trained bias a score of zero means nothing, and no list is filled up with nothing.
        return MIN_LIST if self.settings.policy == "budget" and self._trained_bias(scorer) is None else 0

    def _trained_bias(self, scorer: ListScorer) -> float | None:
        spec = scorer.rescorer.spec if isinstance(scorer, CodeScorer) else {}
        return None if spec.get("bias") is None else float(spec["bias"])

    def _trained_zero(self, scorer: ListScorer) -> float | None:
        trained = self._trained_bias(scorer)
        return None if trained is None else -trained

    def _density(self, scorer: ListScorer) -> float | None:
        """Return the wanted share of pairs under global-bias, None when a bias is given or was trained in."""
        if self.settings.density is not None:
            return self.settings.density / 100
        if self.settings.bias is not None or self._trained_bias(scorer) is not None:
            return None
        return min(self.config.families.learned.length / self.item_count, LONGEST_SHARE)

    def _threshold(self, scorer: ListScorer, sample: np.ndarray, share: float) -> float:
        trained = self._trained_zero(scorer)
        if self.settings.policy == "global-bias" and share == 0.0:
            return -self.settings.bias if self.settings.bias is not None else float(trained or 0.0)
        low = -np.inf if share >= 1.0 else float(np.quantile(sample, 1.0 - share))
        # Under a budget a trained bias still says what is worth nothing; global-bias with a density overrules it.
        return low if trained is None or self.settings.policy == "global-bias" else max(low, trained)

    def _most_postings(self, stored: Stored) -> int:
        assert self.settings.budget_mb is not None
        fixed = self._fixed_bytes(len(stored.codes), stored.codes.shape[1], stored.codewords)
        return int((self.settings.budget_mb * 1e6 - fixed) // POSTING_BYTES)

    def _apply(
        self, scorer: ListScorer, candidates: Candidates, stored: Stored, reads: np.ndarray,
        item_reads: float, threshold: float,
    ) -> Cut:  # fmt: skip
        pairs = len(stored.codes) * self.item_count
        if self.settings.policy == "global-bias":
            wanted = self._density(scorer)
            if wanted is None:
                return bias_cut(candidates, -threshold)
            return density_cut(candidates, round(wanted * pairs), pairs)
        wish = self.settings.postings_per_query
        if wish is not None and wish < item_reads:
            raise BudgetError(
                f"budget of {wish:g} postings a query found, the {' and '.join(reversed(self.list_reads))} lists alone "
                f"need {_up_to(item_reads)}; shorten them (families.item.length or history) or raise the budget"
            )
        zero = threshold if np.isfinite(threshold) else float(candidates.values.min(initial=0.0))
        try:
            return budget_cut(
                candidates, stored.traffic, zero=zero, floor=self._floor(scorer), reads=reads,
                most_postings=None if self.settings.budget_mb is None else self._most_postings(stored),
                most_reads=None if wish is None else wish - item_reads,
            )  # fmt: skip
        except BudgetError:
            least = float(np.minimum(np.diff(candidates.indptr), self._floor(scorer)) @ reads) + item_reads
            raise BudgetError(
                f"budget of {self.settings.postings_per_query or self.settings.budget_mb:g} found, too small for the "
                f"shortest lists; the smallest feasible is {_up_to(least)} postings a query"
            ) from None

    def _score(self, stored: Stored, threshold: float, floor: int) -> Candidates:
        began = time.perf_counter()
        identity = [self.run.model_hash, threshold.hex(), floor, self.settings.block_codes, len(stored.codes)]
        digest = hashlib.sha256(json.dumps(identity).encode() + stored.codes.tobytes()).hexdigest()[:16]
        folder = self.work / digest
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / "stored.safetensors", {"codes": stored.codes})
        size = self.settings.block_codes
        blocks = [
            Block(str(self.model), str(folder), start, min(start + size, len(stored.codes)), threshold, floor)
            for start in range(0, len(stored.codes), size)
        ]
        self.report(0, len(blocks))
        for done, _ in enumerate(self.runner.map_blocks(run_block, blocks), start=1):
            self.report(done, len(blocks))
        self.score_seconds += time.perf_counter() - began
        return read_shards(blocks)

    def _info(self, made: _Learned) -> dict[str, Any]:
        stored, kept, cut = made.stored, made.kept, made.cut
        lengths = np.diff(kept.indptr)
        pairs = len(stored.codes) * self.item_count
        others = self._lists()
        mean = float(lengths @ made.reads) + sum(self.list_reads[name] for name in others) if made.queries else None
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
            "items_in_no_list": self.item_count - len(np.unique(kept.items)),
            "postings_per_query": mean, "validation_queries": made.queries,
        } | word_postings | self.list_info  # fmt: skip


def sampled_scores(scorer: ListScorer, codes: np.ndarray) -> np.ndarray:
    """Return scores (X,) float32 of a fixed random sample of codes and runs of items; all pairs when they are few."""
    rng = generator(0, "threshold sample")
    most = max(1, min(512, SAMPLE_PAIRS // scorer.item_count if scorer.item_count <= 8192 else 512))
    chosen = codes if len(codes) <= most else codes[np.sort(rng.choice(len(codes), most, replace=False))]
    plan = scorer.plan(chosen)
    if scorer.item_count <= 8192:
        return scorer.scores(plan).reshape(-1)
    starts = np.sort(rng.choice(scorer.item_count // 64, 128, replace=False)) * 64
    return np.concatenate([scorer.scores(plan, int(start), int(start) + 64).reshape(-1) for start in starts])


def query_settings(
    run: Run, config: Config, settings: IndexConfig, index: Index, item_weights: tuple[int, ...],
    list_info: dict[str, Any],
) -> tuple[QuerySettings, dict[str, Any] | None]:  # fmt: skip
    """Fit probes and weights of a new index on validation; returns them and the notes that go with them to a file.

    Settings taken over from an evaluated run (``--like``) are left alone; there are no notes then. A read budget was
    solved for the configured number of probes, so that number is not changed by fitting.
    """
    path = run.folder / "query.json"
    taken = read_json(path) if path.exists() else {}
    if "taken_from" in taken:
        return QuerySettings.from_json(taken), None
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


def _up_to(value: float) -> str:
    """Write a bound with four digits, rounded up, so that the number itself is feasible."""
    from math import ceil, floor, log10

    step = 10.0 ** (floor(log10(value)) - 3) if value > 0 else 1.0
    return f"{ceil(value / step - 1e-9) * step:.6g}"


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def _exclusive(folder: Path) -> Iterator[Path]:
    """Hold the work folder for one build at a time; the system releases it when the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name("index-work.lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{folder.parent} is being built by another process; wait for it to finish") from None
        folder.mkdir(parents=True, exist_ok=True)
        yield folder


@contextmanager
def _reporter(progress: bool | Progress) -> Iterator[Progress]:
    if not progress:
        yield lambda done, total: None
    elif callable(progress):
        yield progress
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("scoring codes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Bar(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("blocks", total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

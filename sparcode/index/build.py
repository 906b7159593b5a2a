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
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparcode.config import Config, IndexConfig, updated
from sparcode.errors import BudgetError, ConfigError, CorruptIndexError, RunError
from sparcode.files import read_json, write_json
from sparcode.index.arrays import Arrays, read_arrays, write_arrays
from sparcode.index.assembly import assemble, items_in_no_list, select
from sparcode.index.budget import LATENCY_SHARE, Cut, bias_cut, budget_cut, density_cut, floor_pairs, length_cut, pi_of
from sparcode.index.coverage import (
    Coverage,
    CoverBlock,
    coverage_of,
    needed_lists,
    read_cover,
    run_cover_block,
    unsettled,
    with_reserve,
)
from sparcode.index.encoder import Encoder
from sparcode.index.families import CategoryReader, ItemReader, RowReader, SegmentReader
from sparcode.index.fit import default_settings, fit_settings
from sparcode.index.item_family import make_item_family
from sparcode.index.layout import MAX_CODE_TABLE, MAX_ITEMS, Index, composite
from sparcode.index.pipeline import Pipeline, QuerySettings
from sparcode.index.policy import resolve_settings
from sparcode.index.reservoir import Reservoir, draw, sampled_codes, solve_prices
from sparcode.index.runners import Runner, build_runner
from sparcode.index.scoring import CodeScorer, ListScorer
from sparcode.index.searcher import Searcher
from sparcode.index.shards import Block, Candidates, open_scorer, read_shards, run_block
from sparcode.index.store import publish
from sparcode.index.stored import Stored, busiest, fallback_table, nearest_rows
from sparcode.index.word_lists import open_word_lists
from sparcode.run import Run

LONGEST_SHARE = 1 / 16
"""Largest mean list, as a share of the items, when nothing says how much to keep and no bias was trained in."""
MIN_LIST = 4
"""Policy budget: every stored code keeps at least so many postings."""
AFFORDED = 16
"""Policy budget: no more codes are stored than the storage can give this many postings each."""
HEAD_ROOM = 4.0
"""Candidates scored for a budget, as a multiple of what it can keep; the solver needs room to move."""
MOST_CANDIDATES = 1 << 24
"""Policy budget: beyond so many candidates, prices are found on a sample and few more than fit are scored."""
PRICE_SLACK = 1.15
"""Candidates scored at such prices, as a multiple of what fits; doubled when they did not suffice."""
LEAST_USED = 0.98
"""Policy budget: share of what is allowed that is used, as far as there are pairs."""
ITEM_SHARE = 0.6
"""Policy budget: share of the bytes that the postings of item lists may take when there are learned codes too."""
POSTING_BYTES = 4

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
    item_floor: int | None = None,
    runner: str = "serial",
    workers: int | None = None,
    block_codes: int | None = None,
    overrides: dict[str, Any] | None = None,
    progress: bool | Progress = False,
) -> dict[str, Any]:
    """Build and publish the index of a run, fit its query settings, and return a JSON-able summary.

    Settings that are None come from the run's configuration when none of the policy's is given. ``length``: keep the
    best so many items of every code. ``item_floor``: with a budget, every item with a training event is in at least so
    many lists, those of all families counted. ``progress``: True for a bar on stderr, or a callable that receives
    blocks done and blocks in all. ``overrides``: dotted keys of the run's configuration that hold for this build
    alone, e.g. ``{"families.learned.enabled": False}``. Raises BudgetError (naming the smallest feasible budget),
    ConfigError on contradictory settings, RunError when another build runs.
    """
    started = time.perf_counter()
    run = Run.open(run_folder)
    run.check_model()
    given = {
        "policy": policy, "bias": bias, "density": density, "budget_mb": budget_mb,
        "postings_per_query": postings_per_query, "length": length, "item_floor": item_floor,
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
        if self.item_count > MAX_ITEMS:  # before hours of scoring
            raise RunError(f"{run.folder} has {self.item_count:,} items; an index holds at most {MAX_ITEMS:,}")
        self.items: Arrays | None = None
        # Rows of segments stand before those of categories, which may be left out after the fit: the first family
        # gives the scale, and it must stay the one that was fitted.
        found = open_word_lists(self.model, config.families)
        self.words: dict[str, Arrays] = {name: found[name] for name in ("segment", "category") if name in found}
        lists, self.item_weights, self.list_info = make_item_family(run, config, self._most_item_postings())
        self.items = None if lists is None else lists._asdict()
        self.list_reads: dict[str, float] = {}
        self.learned: _Learned | None = None
        self.needs = self._needs()

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

    def _has_learned(self) -> bool:
        return self.config.families.learned.enabled and self.encoder.spec.get("quantizer") is not None

    def _most_item_postings(self) -> int | None:
        """Return how many postings of item lists a byte budget affords beside the fewest codes; None without one."""
        if self.settings.budget_mb is None:
            return None
        budget, quantizer = self.settings.budget_mb * 1e6, self.encoder.spec.get("quantizer")
        share, reserved = budget, 8 * (self.item_count + 1)
        if self._has_learned() and quantizer is not None:
            share, floor = ITEM_SHARE * budget, self.settings.item_floor or 0
            codes = max(1, floor)
            reserved += self._fixed_bytes(codes, int(quantizer["books"]), int(quantizer["codewords"]))
            reserved += POSTING_BYTES * min(AFFORDED, self.item_count) * codes
            reserved += POSTING_BYTES * floor * len(np.unique(self.run.dataset.train.items))
        return max(0, int(min(share, budget - reserved) // POSTING_BYTES))

    def index(self) -> tuple[Index, dict[str, Any]]:
        """Return the finished index and what to remember about it."""
        if self._has_learned():
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
            info = {"policy": "none", "codes": 0, "postings": int(len(index.postings))} | self.list_info
        else:
            index = assemble(self.item_count, made.stored.codes, made.kept, self.items, made.table, self.words)
            info = self._info(made)
        return index, info | {"items_in_no_list_of": items_in_no_list(index)}

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
        if self.needs is not None and self.needs.max(initial=0) > len(codes):
            floor = self.settings.item_floor
            raise ConfigError(f"item_floor of {floor} found, expected at most {len(codes)}, the codes that have lists")
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
        # What the needs of items may cost is set aside before codes are chosen, so that they fit beside any floor.
        fewest, needed = (1, 0) if self.needs is None else (max(1, int(self.needs.max())), int(self.needs.sum()))
        each = POSTING_BYTES * min(AFFORDED, self.item_count)
        left = self.settings.budget_mb * 1e6 - self._fixed_bytes(0, books, codewords) - POSTING_BYTES * needed
        most = int(left // (8 + 2 * books + each))
        if most < fewest:
            least = self._fixed_bytes(fewest, books, codewords) + each * fewest + POSTING_BYTES * needed
            floor = "" if self.needs is None else f", {needed:,} postings for item_floor"
            raise BudgetError(
                f"budget of {self.settings.budget_mb:g} MB found, the smallest feasible is {_up_to(least / 1e6)} MB "
                f"(lists of the other families, offsets, fallback table{floor} and {_codes(fewest)})"
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
        sample = draw(scorer, sampled_codes(stored.codes, self.item_count))
        while True:
            threshold = self._threshold(scorer, sample, share)
            if self.settings.policy == "budget" and share * pairs > MOST_CANDIDATES and np.isfinite(threshold):
                candidates, cut = self._cut_at_prices(scorer, stored, reads, item_reads, threshold)
            else:
                candidates = self._score(stored, threshold, self._floor(scorer))
                candidates, coverage = self._coverage(stored, candidates, threshold)
                cut = self._apply(scorer, candidates, stored, reads, item_reads, threshold, coverage=coverage)
            if not cut.exhausted or len(candidates.values) == pairs or self._trained_zero(scorer) == threshold:
                return candidates, cut
            share = min(1.0, 4 * share)

    def _cut_at_prices(
        self, scorer: ListScorer, stored: Stored, reads: np.ndarray, item_reads: float, zero: float
    ) -> tuple[Candidates, Cut]:
        """Solve the budget on a sample, score under each code's own threshold, and land on the budget exactly."""
        price, floor = 1.0 / pi_of(stored.traffic), self._floor(scorer)
        postings, wish = self._limits(stored, item_reads)
        sample = draw(scorer, stored.codes, zero)
        prices = solve_prices(sample, price, reads, zero, postings, wish, LATENCY_SHARE, self.needs)
        slack = PRICE_SLACK
        while True:
            keys = sample.values.astype(np.float64) - prices.lam * price[sample.codes]
            levels = [
                sample.level(keys, most * slack, cost) for most, cost in ((postings, None), (wish, reads)) if most
            ]
            mu = max(zero, *levels)
            thresholds = (mu + prices.lam * price).astype(np.float32)
            candidates = self._score(stored, thresholds, floor)
            candidates, coverage = self._coverage(stored, candidates, float(thresholds.max()))
            cut = self._apply(scorer, candidates, stored, reads, item_reads, zero, prices.lam, coverage)
            # A posting of a busy code may not fit where those of others would, had they been scored.
            used = float(np.bincount(candidates.codes[cut.kept], minlength=len(reads)) @ reads)
            short = wish is not None and used < LEAST_USED * wish and cut.kept.sum() < LEAST_USED * (postings or np.inf)
            cut = replace(cut, exhausted=bool(cut.exhausted or short))
            if mu <= zero or not cut.exhausted:
                return candidates, cut
            slack *= 2

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

    def _threshold(self, scorer: ListScorer, sample: Reservoir, share: float) -> float:
        trained = self._trained_zero(scorer)
        if self.settings.policy == "global-bias" and share == 0.0:
            return -self.settings.bias if self.settings.bias is not None else float(trained or 0.0)
        most = share * float(sample.weights.sum())
        low = -np.inf if share >= 1.0 else sample.level(sample.values.astype(np.float64), most)
        # Under a budget a trained bias still says what is worth nothing; global-bias with a density overrules it.
        return low if trained is None or self.settings.policy == "global-bias" else max(low, trained)

    def _most_postings(self, stored: Stored) -> int:
        assert self.settings.budget_mb is not None
        fixed = self._fixed_bytes(len(stored.codes), stored.codes.shape[1], stored.codewords)
        return int((self.settings.budget_mb * 1e6 - fixed) // POSTING_BYTES)

    def _limits(self, stored: Stored, item_reads: float) -> tuple[int | None, float | None]:
        """Return the most learned postings, and the most of them a query may read."""
        wish = self.settings.postings_per_query
        if wish is not None and wish < item_reads:
            raise BudgetError(
                f"budget of {wish:g} postings a query found, the {' and '.join(reversed(self.list_reads))} lists alone "
                f"need {_up_to(item_reads)}; shorten them (families.item.length or history) or raise the budget"
            )
        postings = None if self.settings.budget_mb is None else self._most_postings(stored)
        return postings, None if wish is None else wish - item_reads

    def _apply(
        self, scorer: ListScorer, candidates: Candidates, stored: Stored, reads: np.ndarray,
        item_reads: float, threshold: float, lam: float | None = None, coverage: Coverage | None = None,
    ) -> Cut:  # fmt: skip
        pairs = len(stored.codes) * self.item_count
        if self.settings.policy == "global-bias":
            wanted = self._density(scorer)
            if wanted is None:
                return bias_cut(candidates, -threshold)
            return density_cut(candidates, round(wanted * pairs), pairs)
        postings, wish = self._limits(stored, item_reads)
        zero = threshold if np.isfinite(threshold) else float(candidates.values.min(initial=0.0))
        try:
            return budget_cut(
                candidates, stored.traffic, zero=zero, floor=self._floor(scorer), reads=reads,
                most_postings=postings, most_reads=wish, lam=lam, coverage=coverage,
            )  # fmt: skip
        except BudgetError:
            needed = floor_pairs(candidates, self._floor(scorer), coverage)
            least = float(np.bincount(candidates.codes[needed], minlength=len(reads)) @ reads) + item_reads
            floors = "shortest lists" + (" and item_floor" if self.needs is not None else "")
            raise BudgetError(
                f"budget of {self.settings.postings_per_query or self.settings.budget_mb:g} found, too small for the "
                f"{floors}; the smallest feasible is {_up_to(least)} postings a query"
            ) from None

    def _score(self, stored: Stored, threshold: float | np.ndarray, floor: int) -> Candidates:
        began = time.perf_counter()
        thresholds = np.array(np.broadcast_to(np.asarray(threshold, np.float32), len(stored.codes)))
        identity = [self.run.model_hash, floor, self.settings.block_codes, len(stored.codes)]
        content = json.dumps(identity).encode() + stored.codes.tobytes() + thresholds.tobytes()
        folder = self.work / hashlib.sha256(content).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / "stored.safetensors", {"codes": stored.codes, "thresholds": thresholds})
        size = self.settings.block_codes
        blocks = [
            Block(str(self.model), str(folder), start, min(start + size, len(stored.codes)), floor)
            for start in range(0, len(stored.codes), size)
        ]
        self.report(0, len(blocks))
        for done, _ in enumerate(self.runner.map_blocks(run_block, blocks), start=1):
            self.report(done, len(blocks))
        self.score_seconds += time.perf_counter() - began
        return read_shards(blocks)

    def _coverage(self, stored: Stored, candidates: Candidates, threshold: float) -> tuple[Candidates, Coverage | None]:
        """Add the best pairs of items that may be left over; all pairs above ``threshold`` are candidates."""
        if self.needs is None:
            return candidates, None
        needs, began = unsettled(candidates, self.needs, threshold), time.perf_counter()
        content = json.dumps([self.run.model_hash, self.settings.block_codes]).encode()
        folder = self.work / hashlib.sha256(content + stored.codes.tobytes() + needs.tobytes()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / "cover.safetensors", {"codes": stored.codes, "needs": needs})
        size, count = self.settings.block_codes, len(stored.codes)
        blocks = [
            CoverBlock(str(self.model), str(folder), start, min(start + size, count)) for start in range(0, count, size)
        ]
        for _ in self.runner.map_blocks(run_cover_block, blocks):
            pass
        together, reserve = with_reserve(candidates, read_cover(blocks, needs))
        self.score_seconds += time.perf_counter() - began
        return together, coverage_of(together.items, self.needs, reserve)

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
            "items_in_no_list": int((np.bincount(kept.items, minlength=self.item_count) == 0).sum()),
            "item_floor_postings": cut.for_items,
            "postings_per_query": mean, "validation_queries": made.queries,
        } | word_postings | self.list_info  # fmt: skip


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


def _codes(count: int) -> str:
    return "one code" if count == 1 else f"{count} codes"


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

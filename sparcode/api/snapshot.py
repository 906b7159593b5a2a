"""One state of a run folder: what was opened together answers together, whatever is written there later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparcode.api import arguments
from sparcode.api.arguments import Items
from sparcode.api.unknown import internal_ids, policy_of
from sparcode.data.storage import Dataset
from sparcode.errors import QueryError, RunError
from sparcode.query.attributes import AttributeFilter
from sparcode.query.filters import ItemSet
from sparcode.query.pipeline import Pipeline
from sparcode.run import Run
from sparcode.threads import available_cpus
from sparcode.types import NO_ITEM, Hits, Queries

ALWAYS_WIDE = 1000
"""Answers are k columns wide up to here; a larger k is cut to the number of items, if that is smaller."""
VERIFY = ("auto", "full", "none")
"""What opening checks, see ``sparcode.index.open``."""
_BLOCK = 4096
_PLACES = 1 << 22
_MOST_NAMED = 1 << 18
"""Items whose external ids are kept as Python objects (about 16 MB) once an answer has been named."""


class Settings(NamedTuple):
    """How a batch is answered: columns of the answer, candidates, repeats, filters, threads."""

    k: int
    rescore: int | None
    include_seen: bool
    allow: ItemSet | None
    deny: ItemSet | None
    threads: int

    def options(self) -> dict[str, Any]:
        """Return what the pipeline takes by name."""
        return {
            "rescore": self.rescore, "include_seen": self.include_seen, "allow": self.allow, "deny": self.deny,
            "threads": self.threads,
        }  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """A run, its index and its ids as they were when opened. Nothing changes it, so threads may share one."""

    run: Run
    pipeline: Pipeline
    dataset: Dataset
    verify: str
    location: Path

    @classmethod
    def open(cls, run: Run, verify: str) -> Snapshot:
        """Open index, ids and configuration of a run, all at once: what is read later could be that of a later run, or
        gone."""
        _ = run.config
        return cls(run, Pipeline.open(run.folder, verify=verify), run.dataset, verify, run.location)

    @cached_property
    def attribute_filter(self) -> AttributeFilter:
        """What ``where`` asks; QueryError for a run without attributes of items."""
        attributes = self.dataset.item_attributes
        if attributes is not None:
            return AttributeFilter(attributes)
        if "items_table" in self.dataset.summary:
            raise QueryError(
                f"where: {self.run.folder} was trained by a version that kept no attributes of items; train the run "
                "again"
            )
        raise QueryError(
            f"where: the data of {self.run.folder} had no table of items; train with an items.* file beside "
            "interactions.*"
        )

    def where(self, condition: Any) -> ItemSet:
        """Return the items that satisfy a condition."""
        example = "a condition such as 'genres=Comedy and year>=1990'"
        return self.attribute_filter.where(arguments.text(condition, "where", example))

    def settings(
        self, k: Any, rescore: Any, include_seen: Any, where: Any, allow: Items | None, deny: Items | None,
        unknown: Any, threads: Any = 1,
    ) -> Settings:  # fmt: skip
        """Return checked settings; no number in them is larger than the run can use."""
        items = self.pipeline.item_count
        width = min(arguments.whole(k, "k", 1), max(items, ALWAYS_WIDE))
        if rescore is not None:
            rescore = min(arguments.whole(rescore, "rescore", 0, " (0: posting lists alone)"), items)
        allowed, denied = self.item_set(allow, "allow", unknown), self.item_set(deny, "deny", unknown)
        if where is not None:
            found = self.where(where)
            allowed = found if allowed is None else found & allowed
        workers = available_cpus() if threads is None else arguments.whole(threads, "threads", 1)
        return Settings(width, rescore, self.repeats(include_seen), allowed, denied, workers)

    def repeats(self, include_seen: Any) -> bool:
        """Return whether items of the history are answers: as asked, or as the run's configuration says."""
        if include_seen is None:
            return self.run.config.query.include_seen
        return arguments.truth(include_seen, "include_seen")

    def item_set(self, items: Any, name: str, unknown: Any) -> ItemSet | None:
        """Return the items of a filter: None, a set or mask as it is, or ids looked up."""
        count = self.pipeline.item_count
        if items is None or isinstance(items, ItemSet) or (isinstance(items, np.ndarray) and items.dtype == np.bool_):
            return ItemSet.of(items, count, name)
        ids = arguments.listed(items, name, ordered=False)
        found = internal_ids(self.dataset.item_ids, ids, name, policy_of(unknown, "raise"), "left out")
        return ItemSet.from_ids(found[found != NO_ITEM], count)

    def queries(self, users: Any, histories: Any, features: Any, unknown: Any) -> Queries:
        """Return who asks as a batch: known users, or histories and features."""
        if users is not None and (histories is not None or features is not None):
            raise QueryError("give users, or histories and features, not both")
        if users is not None:
            return self.user_queries(arguments.listed(users, "users"), unknown)
        if histories is None and features is None:
            raise QueryError("give users, histories or features")
        described = None if features is None else arguments.features_of(features)
        rows = [[]] * len(described or []) if histories is None else arguments.histories_of(histories)
        if described is not None and len(described) != len(rows):
            raise QueryError(f"{len(rows)} histories beside {len(described)} features; give as many of each")
        return self.history_queries(rows, "histories", policy_of(unknown, "warn"), self._encoded(described))

    def history_queries(
        self, rows: list[list[Any]], name: str, policy: str, features: np.ndarray | None = None,
        place: Callable[[int], str] | None = None,
    ) -> Queries:  # fmt: skip
        """Return lists of external item ids as queries, without the ids that are unknown.

        ``place``: how messages call the value of a position, by default ``name`` and its two numbers.
        """
        starts = np.array([0, *accumulate(map(len, rows))], np.int64)

        def counted(position: int) -> str:
            row = int(np.searchsorted(starts, position, "right")) - 1
            return f"{name}[{row}][{position - int(starts[row])}]"

        flat = rows[0] if len(rows) == 1 else [value for row in rows for value in row]
        items = internal_ids(self.dataset.item_ids, flat, name, policy, "left out", place or counted)
        kept = items != NO_ITEM
        if kept.all():
            return Queries(starts, items, features)
        before = np.append(0, np.cumsum(kept, dtype=np.int64))
        return Queries(before[starts], items[kept], features)

    def event(self, item: Any, unknown: Any) -> np.ndarray:
        """Return the internal id of one event more, (1,) int32; (0,) where it is unknown and left out."""
        return self.history_queries([[item]], "item", policy_of(unknown, "warn"), place=lambda _: "item").items

    def single_items(self, items: np.ndarray) -> Queries:
        """Return one query an item, its history the item alone, empty where the item is NO_ITEM."""
        kept = items != NO_ITEM
        return Queries(np.concatenate([[0], np.cumsum(kept)]).astype(np.int64), items[kept])

    def user_queries(self, users: list[Any], unknown: Any = None, name: str = "users") -> Queries:
        """Return the histories (and features) of users as queries; one that is unknown has neither."""
        then = "answered as users without history"
        rows = internal_ids(self.dataset.user_ids, users, name, policy_of(unknown, "raise"), then)
        serving, nothing = self.dataset.serving, np.empty(0, np.int32)
        parts = [nothing if row == NO_ITEM else serving.row(int(row)) for row in rows]
        indptr = np.array([0, *accumulate(map(len, parts))], np.int64)
        items = parts[0] if len(parts) == 1 else np.concatenate([*parts, nothing])
        described = self.dataset.user_features if self.pipeline.reads_user_features else None
        if described is None:
            return Queries(indptr, items)
        dense = described.dense(np.maximum(rows, 0))
        dense[rows == NO_ITEM] = 0
        return Queries(indptr, items, dense)

    def _encoded(self, features: list[Any] | None) -> np.ndarray | None:
        if features is None:
            return None
        known = self.dataset.user_features
        if not self.pipeline.reads_user_features or known is None:
            raise QueryError(
                "this run reads no user features; train with a users.* file and --set model.user_features=true or "
                "--set families.segment.enabled=true"
            )
        return np.array([known.encode_json(row) for row in features], np.float32).reshape(len(features), known.width)

    def hits(self, queries: Queries, how: Settings, tokens: np.ndarray | None = None) -> Hits:
        """Answer a batch, block by block; ids and scores (B, k). ``tokens`` (1, K_u, d): those of a single query, where
        they are known already."""
        if len(queries) == 1:  # asked most often, and every call in Python shows in its time
            return self._answered(queries, how, tokens)
        blocks = [hits for _, hits in self.blocks(queries, how)]
        if not blocks:
            return Hits(np.empty((0, how.k), np.int32), np.empty((0, how.k), np.float32))
        if len(blocks) == 1:
            return blocks[0]
        return Hits(np.concatenate([hits.ids for hits in blocks]), np.concatenate([hits.scores for hits in blocks]))

    def blocks(self, queries: Queries, how: Settings) -> Iterator[tuple[int, Hits]]:
        """Yield (first query, answers) of blocks that are small enough for their candidates to fit in memory."""
        depth = self.pipeline.default_rescore if how.rescore is None else how.rescore
        step = max(1, min(_BLOCK, _PLACES // max(how.k, min(depth, self.pipeline.item_count))))
        for low in range(0, len(queries), step):
            block = queries if len(queries) <= step else queries.slice(low, min(low + step, len(queries)))
            yield low, self._answered(block, how)

    def _answered(self, queries: Queries, how: Settings, tokens: np.ndarray | None = None) -> Hits:
        found = min(how.k, self.pipeline.item_count)
        hits = self.pipeline.retrieve(queries, found, tokens=tokens, **how.options())
        if found == how.k:
            return hits
        beyond = ((0, 0), (0, how.k - found))
        ids = np.pad(hits.ids, beyond, constant_values=NO_ITEM)
        return Hits(ids, np.pad(hits.scores, beyond, constant_values=-np.inf))

    def external(self, ids: np.ndarray) -> np.ndarray:
        """Return external ids as objects, None for padding, in the shape of ``ids``."""
        if self._names is not None:
            return self._names[ids]
        external = np.empty(ids.shape, object)  # None everywhere
        found = ids != NO_ITEM
        external[found] = self.dataset.item_ids.to_external(ids[found])
        return external

    @cached_property
    def _names(self) -> np.ndarray | None:
        """External ids as objects, and None behind them, where NO_ITEM finds it; None for catalogues that would fill
        the memory with objects, and for ids that are not those of the index, which are refused when they are asked."""
        known = self.dataset.item_ids.external
        count = len(known)
        if count > _MOST_NAMED or known.null_count or count != self.pipeline.item_count:
            return None
        names = np.empty(count + 1, object)
        names[:count] = known.to_numpy(zero_copy_only=False)
        return names

    def title(self, internal: int) -> str | None:
        """Return the title of an item, None in a run without titles."""
        titles = self.dataset.titles
        return None if titles is None else titles[internal]


def opened(folder: Any, verify: Any) -> Snapshot:
    """Open a run folder by its path; RunError, QueryError and the errors of damaged files are one line."""
    path, how = arguments.folder(folder, "run"), arguments.choice(verify, "verify", VERIFY)
    try:
        return Snapshot.open(Run.open(path), how)
    except OSError as problem:
        raise RunError(f"{problem.filename or path}: the run cannot be opened: {problem.strerror or problem}") from None

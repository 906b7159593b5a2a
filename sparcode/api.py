"""The library in four lines: train, load, recommend, explain. External ids in, external ids out; no torch to serve."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcode.data.storage import verify_dataset
from sparcode.errors import ConfigError, QueryError
from sparcode.index.arrays import read_arrays
from sparcode.index.attributes import AttributeFilter
from sparcode.index.filters import ItemSet
from sparcode.index.pipeline import Pipeline
from sparcode.run import Run
from sparcode.types import NO_ITEM, Hits, Queries

if TYPE_CHECKING:
    from sparcode.config import Config

Ids = Sequence[Any]
Items = Ids | np.ndarray | ItemSet
"""Items of a filter: external ids, or a mask (n,) bool by internal id such as ``items_where`` gives."""
Filters = tuple[ItemSet | None, ItemSet | None]


class SparCode:
    """A trained run that answers queries. Calls do not change it, so threads may share one."""

    def __init__(self, run: Run, *, verify: str = "auto") -> None:
        self.run = run
        self.pipeline = Pipeline.open(run.folder, verify=verify)

    @classmethod
    def train(
        cls, data: Any, out: str | Path, config: Config | str | Path | dict[str, Any] | None = None, **options: Any
    ) -> SparCode:
        """Train on a path, a fetched name or a table, build the index, and open the result.

        ``config``: a Config, a TOML file, or a dictionary of dotted keys such as ``{"model.heads": 4}``.
        ``options``: ``resume``, ``overwrite``, ``baselines``, ``device``, ``like``, ``callback``, ``progress``.
        """
        from sparcode.index.build import build_index
        from sparcode.train.run import train_run

        train_run(data, Path(out), _config(config), **options)
        build_index(Path(out))
        return cls.load(out)

    @classmethod
    def load(cls, run: str | Path, *, verify: str = "auto") -> SparCode:
        """Open a run folder; ``verify``: auto, full or none (see ``sparcode.index.open``)."""
        return cls(Run.open(run), verify=verify)

    @cached_property
    def _dataset(self) -> Any:
        return self.run.dataset

    @cached_property
    def _attribute_filter(self) -> AttributeFilter:
        attributes = self._dataset.item_attributes
        if attributes is not None:
            return AttributeFilter(attributes)
        if "items_table" in self._dataset.summary:
            raise QueryError(
                f"--where: {self.run.folder} was trained by a version that kept no attributes of items; train the run "
                "again"
            )
        raise QueryError(
            f"--where: the data of {self.run.folder} had no table of items; train with an items.* file beside "
            "interactions.*"
        )

    def recommend(
        self, users: Ids | None = None, histories: Sequence[Ids] | None = None,
        features: Sequence[dict[str, Any]] | None = None, k: int = 10, *, rescore: int | None = None,
        include_seen: bool | None = None, where: str | None = None, allow: Items | None = None,
        deny: Items | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return (ids, scores) of shape (B, k): external ids as objects, scores float32, best first.

        Queries are known ``users``, or ``histories`` (lists of item ids, oldest first), or user ``features`` (with
        or without histories). Places that popularity filled have score nan; places for which no eligible item
        is left hold None and -inf. ``rescore``: candidates scored exactly. ``include_seen``: items of the history
        are answers too; None = as the run's configuration says (``query.include_seen``, False unless set).

        Answers are items that satisfy ``where`` (e.g. ``"genres=Comedy and year>=1990"``), are in ``allow`` and not
        in ``deny``: item ids, or masks as of ``items_where``. Raises UnknownIdError and QueryError with one-line
        messages.
        """
        queries = self._queries(users, histories, features)
        allowed, denied = self._filters(where, allow, deny)
        repeats = self.run.config.query.include_seen if include_seen is None else include_seen
        hits = self.pipeline.retrieve(queries, k, rescore=rescore, include_seen=repeats, allow=allowed, deny=denied)
        return self._external(hits.ids), hits.scores

    def recommend_items(self, **arguments: Any) -> list[list[dict[str, Any]]]:
        """Return, for each query of ``recommend``, a list of {item_id, score, title, filled}."""
        ids, scores = self.recommend(**arguments)
        internal = self._internal(ids)
        return [self._described(*row) for row in zip(ids, internal, scores, strict=True)]

    def similar_items(
        self, ids: Ids, k: int = 10, *, where: str | None = None, allow: Items | None = None, deny: Items | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids, scores) of shape (B, k): what the index recommends after each item alone.

        ``where``, ``allow``, ``deny``: as of ``recommend``.
        """
        histories = [[item] for item in _listed(ids, "ids")]
        return self.recommend(histories=histories, k=k, where=where, allow=allow, deny=deny)

    def predict(
        self, users: Ids, k: int = 10, *, where: str | None = None, allow: Items | None = None,
        deny: Items | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return (ids, scores) for many known users; the same as ``recommend(users=...)``, in blocks."""
        allow, deny = self._filters(where, allow, deny)
        starts = range(0, len(users), 4096)
        blocks = [self.recommend(users=users[low : low + 4096], k=k, allow=allow, deny=deny) for low in starts]
        if not blocks:
            return np.empty((0, k), object), np.empty((0, k), np.float32)
        return np.concatenate([ids for ids, _ in blocks]), np.concatenate([scores for _, scores in blocks])

    def items_where(self, condition: str) -> np.ndarray:
        """Return (n,) bool by internal id: which items satisfy a condition; a copy, to be combined and given on.

        ``allow=model.items_where("genres=Comedy") | model.items_where("year<1950")``. Raises QueryError.
        """
        return self._where(condition).mask.copy()

    def explain(self, user: Any = None, item: Any = None, history: Ids | None = None) -> dict[str, Any]:
        """Tell which codes gave ``item`` how much for a user or a history, and what exact rescoring made of it."""
        if (user is None) == (history is None) or item is None:
            raise QueryError("explain needs an item and exactly one of user and history")
        queries = self._queries(None if user is None else [user], None if history is None else [history], None)
        internal = int(self._dataset.item_ids.to_internal([item])[0])
        explained = self.pipeline.explain(queries, internal)
        explained["lists"] = [self._with_name(part) for part in explained["lists"]]
        ranking = self.pipeline.retrieve_exhaustive(queries, min(1000, self.pipeline.item_count))
        found = np.flatnonzero(ranking.ids[0] == internal)
        rank = int(found[0]) if len(found) else None
        seen = bool((queries.items == internal).any())
        item = self._external(np.array([internal]))[0]
        head = {"item_id": item, "title": self._title(internal), "seen": seen, "exhaustive_rank": rank}
        return head | explained

    def info(self, verify: bool = False) -> dict[str, Any]:
        """Describe the run: sizes, bytes by part, hashes, settings; ``verify`` checks every digest first.

        ``attributes``: the columns that ``where`` can name, and their kinds.
        """
        if verify:
            self._verify()
        index, manifest = self.pipeline.searcher.index, self.pipeline.searcher.manifest
        attributes = self._dataset.item_attributes
        return {
            "folder": str(self.run.folder),
            "items": self.pipeline.item_count,
            "users": len(self._dataset.user_ids),
            "model_hash": self.run.model_hash,
            "index": {
                "generation": manifest.get("generation"),
                "families": [{"name": family.name, "lists": family.rows} for family in index.families],
                "postings": len(index.postings),
                "info": manifest.get("info", {}),
            },
            "attributes": {} if attributes is None else {name: part.kind for name, part in attributes.columns.items()},
            "cache_bytes": index.cache_bytes,
            "rescoring_bytes": self.pipeline.rescorer.bytes,
            "encoder_bytes": self.pipeline.encoder_bytes,
            "attribute_bytes": 0 if attributes is None else attributes.bytes,
            "query": self.pipeline.settings.to_json(),
            "training": self.run.record.get("training", {}),
            "verified": verify,
        }

    def _verify(self) -> None:
        """Compare the digests of data, model and index; CorruptIndexError names what is damaged."""
        verify_dataset(self.run.folder / "data")
        for path in sorted(self.run.model_folder.glob("*.safetensors")):
            read_arrays(path, verify=True)
        self.run.check_model()
        Pipeline.open(self.run.folder, verify="full")

    def _queries(
        self, users: Ids | None, histories: Sequence[Ids] | None, features: Sequence[dict[str, Any]] | None
    ) -> Queries:
        if users is not None and (histories is not None or features is not None):
            raise QueryError("give users, or histories and features, not both")
        if users is not None:
            return self._user_queries(users)
        if histories is None and features is None:
            raise QueryError("give users, histories or features")
        count = len(histories if histories is not None else features or [])
        histories = histories if histories is not None else [[]] * count
        if features is not None and len(features) != len(histories):
            raise QueryError(f"{len(histories)} histories beside {len(features)} features; give as many of each")
        if isinstance(histories, str) or any(isinstance(history, str) for history in histories):
            raise QueryError("histories must be a list of lists of item ids, e.g. histories=[['50', '181']]")
        known = self._dataset.item_ids
        rows = [known.to_internal(list(history)) for history in histories]
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        items = np.concatenate([*rows, np.empty(0, np.int32)]).astype(np.int32)
        return Queries(indptr, items, self._encoded_features(features))

    def _user_queries(self, users: Ids) -> Queries:
        rows = self._dataset.user_ids.to_internal(_listed(users, "users"))
        serving = self._dataset.serving
        parts = [serving.row(int(row)) for row in rows]
        indptr = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        items = np.concatenate([*parts, np.empty(0, np.int32)]).astype(np.int32)
        described = self._dataset.user_features if self.pipeline.reads_user_features else None
        return Queries(indptr, items, None if described is None else described.dense(rows))

    def _encoded_features(self, features: Sequence[dict[str, Any]] | None) -> np.ndarray | None:
        if features is None:
            return None
        known = self._dataset.user_features
        if not self.pipeline.reads_user_features or known is None:
            raise QueryError(
                "this run reads no user features; train with a users.* file and --set model.user_features=true or "
                "--set families.segment.enabled=true"
            )
        return np.array([known.encode_json(row) for row in features], np.float32).reshape(len(features), known.width)

    def _filters(self, where: str | None, allow: Items | None, deny: Items | None) -> Filters:
        """Return ``allow`` and ``deny`` as sets; what satisfies ``where`` narrows ``allow``."""
        allowed, denied = self._item_set(allow, "allow"), self._item_set(deny, "deny")
        if where is not None:
            found = self._where(where)
            allowed = found if allowed is None else found & allowed
        return allowed, denied

    def _where(self, condition: str) -> ItemSet:
        if not isinstance(condition, str):
            kind = type(condition).__name__
            raise QueryError(f"where is a {kind}; expected a condition such as 'genres=Comedy and year>=1990'")
        return self._attribute_filter.where(condition)

    def _item_set(self, items: Items | None, name: str) -> ItemSet | None:
        if items is None or isinstance(items, ItemSet) or (isinstance(items, np.ndarray) and items.dtype == np.bool_):
            return ItemSet.of(items, self.pipeline.item_count, name)
        return ItemSet.from_ids(self._dataset.item_ids.to_internal(_listed(items, name)), self.pipeline.item_count)

    def _external(self, ids: np.ndarray) -> np.ndarray:
        external = np.full(ids.shape, None, object)
        found = ids != NO_ITEM
        external[found] = self._dataset.item_ids.to_external(ids[found])
        return external

    def _internal(self, external: np.ndarray) -> np.ndarray:
        found = external != np.array(None)
        internal = np.full(external.shape, NO_ITEM, np.int32)
        internal[found] = self._dataset.item_ids.to_internal(external[found].tolist())
        return internal

    def _described(self, ids: np.ndarray, internal: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
        filled = Hits(internal, scores).filled
        return [
            {
                "item_id": ids[place],
                "score": None if filled[place] else float(scores[place]),
                "title": self._title(int(internal[place])),
                "filled": bool(filled[place]),
            }
            for place in range(len(ids))
            if internal[place] != NO_ITEM
        ]

    def _title(self, internal: int) -> str | None:
        titles = self._dataset.titles
        return None if titles is None else titles[internal]

    def _with_name(self, part: dict[str, Any]) -> dict[str, Any]:
        """Add the name of what a list belongs to: the item of the history, or the category of items or users."""
        if part["family"] == "item":
            internal = int(part["code"])
            name = self._dataset.item_ids.to_external(np.array([internal]))[0]
            return part | {"item_id": name, "title": self._title(internal)}
        described = {"category": self._dataset.item_features, "segment": self._dataset.user_features}
        features = described.get(part["family"])
        return part if features is None else part | {"word": features.vocabulary[int(part["code"])]}


def _listed(ids: Ids | np.ndarray, name: str) -> list[Any]:
    if isinstance(ids, str):
        raise QueryError(f"{name} must be a list of ids, found the text {ids!r}; write [{ids!r}]")
    return list(ids)


def _config(config: Config | str | Path | dict[str, Any] | None) -> Config:
    from sparcode.config import Config, load_config, updated

    if config is None or isinstance(config, Config):
        return config or Config()
    if isinstance(config, dict):
        return updated(Config(), config)
    if isinstance(config, (str, Path)):
        return load_config(Path(config))
    raise ConfigError(f"config is a {type(config).__name__}; expected a Config, a path, or a dictionary of dotted keys")

"""``SparCode``: a trained run as an object. What it does is in the files beside it; here is what it promises."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sparcode.api import answers, arguments
from sparcode.api.arguments import Ids, Items
from sparcode.api.explanation import explanation
from sparcode.api.session import Session
from sparcode.api.snapshot import VERIFY, Settings, Snapshot, opened
from sparcode.api.unknown import internal_ids, policy_of
from sparcode.api.warming import warm
from sparcode.data.storage import verify_dataset
from sparcode.errors import ConfigError, QueryError
from sparcode.index.arrays import read_arrays
from sparcode.query.pipeline import Pipeline
from sparcode.run import Run
from sparcode.types import Hits

if TYPE_CHECKING:
    import pyarrow as pa

    from sparcode.config import Config

OPTIONS = frozenset({"resume", "overwrite", "baselines", "device", "like", "callback", "progress", "threads"})
"""What ``SparCode.train`` hands on to ``train.run.train_run``."""
Features = Sequence[dict[str, Any]]


class SparCode:
    """A trained run that answers queries.

    Threads may share one: a call works on the state it found when it began, and ``reload`` replaces that state in one
    step. Processes may be given one (pickle, joblib, Ray, Spark): it opens the same folder there, which must be
    reachable under the same absolute path. After ``os.fork`` open a new one.

    **Unknown ids.** ``unknown``: "raise" (UnknownIdError names the first), "warn" (one warning counts them and names
    three) or "ignore". By default histories warn and go on without the unknown ids, everything else raises: a user, an
    item asked for, or a filter that is not what was meant should not pass unnoticed. Under "warn" and "ignore" an
    unknown user is answered as a user without history (by popularity), and unknown ids of ``allow`` and ``deny`` are
    left out; rows of answers stay aligned with the input. None and nan count as unknown ids.

    **Lists** of ids are any sequence, iterator, numpy array, or column of pandas, polars or pyarrow; sets only where
    order does not matter (``allow``, ``deny``). Whatever else is given is a QueryError of one line.
    """

    def __init__(self, run: Run, *, verify: str = "auto") -> None:
        if not isinstance(run, Run):
            raise QueryError(f"run is {arguments.shown(run)}; expected a Run, or SparCode.load with the path of one")
        self._snapshot = Snapshot.open(run, arguments.choice(verify, "verify", VERIFY))

    @classmethod
    def train(
        cls, data: Any, out: str | Path, config: Config | str | Path | dict[str, Any] | None = None,
        *, columns: dict[str, str] | None = None, where: str | None = None, min_rating: float | None = None,
        k_core: int | None = None, split_by: str | None = None, time_cut: Any = None, seed: int | None = None,
        **options: Any,
    ) -> SparCode:  # fmt: skip
        """Train on a path, a fetched name or a table, build the index, and open the result.

        ``config``: a Config, a TOML file, or a dictionary of dotted keys such as ``{"model.heads": 4}``. ``columns``
        (role to name, e.g. ``{"user": "customer"}``), ``where``, ``min_rating``, ``k_core``, ``split_by``, ``time_cut``
        and ``seed`` win over it; they are the keys of its section ``data``, and its ``seed``.
        ``options``: ``resume``, ``overwrite``, ``baselines``, ``device``, ``like``, ``threads``, ``callback``,
        ``progress``.
        """
        from sparcode.build.job import build_index
        from sparcode.config import updated
        from sparcode.train.run import train_run

        folder = arguments.folder(out, "out")
        if options.get("like") is not None:
            options["like"] = arguments.folder(options["like"], "like")
        for name in options.keys() - OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(sorted(OPTIONS))}"
            raise ConfigError(f"train has no option {name!r}{hint}")
        for name in ("resume", "overwrite", "baselines", "progress"):
            arguments.truth(options.get(name, False), name)
        if not callable(options.get("callback") or print):
            raise ConfigError(f"callback is {arguments.shown(options['callback'])}; expected a function of a report")
        given = {
            "data.columns": columns, "data.where": where, "data.min_rating": min_rating, "data.k_core": k_core,
            "data.split_by": split_by, "data.time_cut": time_cut, "seed": seed,
        }  # fmt: skip
        chosen = updated(_config(config), {key: value for key, value in given.items() if value is not None})
        train_run(data, folder, chosen, **options)
        build_index(folder, threads=options.get("threads"))
        return cls.load(folder)

    @classmethod
    def load(cls, run: str | Path, *, verify: str = "auto") -> SparCode:
        """Open a run folder; ``verify``: auto, full or none (see ``sparcode.index.open``)."""
        return cls._of(opened(run, verify))

    @classmethod
    def _of(cls, snapshot: Snapshot) -> SparCode:
        model = object.__new__(cls)
        model._snapshot = snapshot
        return model

    @property
    def run(self) -> Run:
        """The run folder that was opened."""
        return self._snapshot.run

    @property
    def pipeline(self) -> Pipeline:
        """The online path, by internal ids."""
        return self._snapshot.pipeline

    def reload(self) -> SparCode:
        """Open what the folder holds now (a new index, a new training) and answer from it; returns ``self``.

        Threads that are answering finish on the state they began with. When the folder cannot be opened the error is
        raised and the earlier state goes on answering.
        """
        now = self._snapshot
        self._snapshot = opened(now.location, now.verify)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        now = self._snapshot
        return _reopened, (str(now.location), now.verify)

    def __repr__(self) -> str:
        return answers.one_line(answers.facts(self._snapshot))

    def _repr_html_(self) -> str:
        return answers.as_html(answers.facts(self._snapshot))

    def recommend(
        self, users: Ids | None = None, histories: Ids | None = None, features: Features | None = None,
        k: int = 10, *, rescore: int | None = None, include_seen: bool | None = None, where: str | None = None,
        allow: Items | None = None, deny: Items | None = None, unknown: str | None = None, threads: int | None = 1,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return (ids, scores) of shape (B, k): external ids as objects, scores float32, best first.

        Queries are known ``users``, or ``histories`` (lists of item ids, oldest first), or user ``features`` (with
        or without histories). Places that popularity filled have score nan; places for which no eligible item
        is left hold None and -inf. A k above 1,000 is cut to the number of items if that is smaller; ``rescore``,
        candidates scored exactly, to the number of items. ``include_seen``: items of the history are answers too;
        None = as the run's configuration says (``query.include_seen``, False unless set).

        Answers are items that satisfy ``where`` (``"genres in (Comedy, Drama) and not year<1990"``), are in ``allow``
        and not in ``deny``: item ids, or masks as of ``items_where``. ``unknown``: see the class. ``threads`` share the
        queries of a batch (None: all this process may use); answers do not depend on them. Raises UnknownIdError and
        QueryError with one-line messages.
        """
        now = self._snapshot
        how = now.settings(k, rescore, include_seen, where, allow, deny, unknown, threads)
        hits = now.hits(now.queries(users, histories, features, unknown), how)
        return now.external(hits.ids), hits.scores

    def recommend_items(
        self, users: Ids | None = None, histories: Ids | None = None, features: Features | None = None,
        k: int = 10, *, rescore: int | None = None, include_seen: bool | None = None, where: str | None = None,
        allow: Items | None = None, deny: Items | None = None, unknown: str | None = None, threads: int | None = 1,
    ) -> list[list[dict[str, Any]]]:  # fmt: skip
        """Return, for each query of ``recommend``, a list of {item_id, score, title, filled}, best first.

        Fit for JSON: the score is None where popularity filled the place, and places without an item are left out.
        """
        now = self._snapshot
        how = now.settings(k, rescore, include_seen, where, allow, deny, unknown, threads)
        return answers.described(now, now.hits(now.queries(users, histories, features, unknown), how))

    def recommend_table(
        self, users: Ids | None = None, histories: Ids | None = None, features: Features | None = None,
        k: int = 10, *, rescore: int | None = None, include_seen: bool | None = None, where: str | None = None,
        allow: Items | None = None, deny: Items | None = None, unknown: str | None = None, threads: int | None = 1,
    ) -> pa.Table:  # fmt: skip
        """Return the answers of ``recommend`` as a table, one row an answer, best first in each query.

        Columns: ``query`` (int64, place in the input), ``rank`` (int32, from 0), ``item_id`` (int64 or string, as the
        data have them), ``score`` (float32, null where popularity filled the place), ``title``, ``filled`` (bool).
        ``.to_pandas()`` makes a DataFrame of it. Places without an item are left out.
        """
        now = self._snapshot
        how = now.settings(k, rescore, include_seen, where, allow, deny, unknown, threads)
        return answers.answer_table(now, now.hits(now.queries(users, histories, features, unknown), how))

    def session(
        self, history: Ids = (), *, features: dict[str, Any] | None = None, unknown: str | None = None
    ) -> Session:
        """Return a session: one history that grows by ``append(item)``, and answers by ``recommend(k)``.

        ``history``: item ids, oldest first; ``features`` of the user; ``unknown`` items: as of ``histories`` in
        ``recommend``. Answers equal those of ``recommend(histories=[history])`` bit for bit, and a session goes on
        with the run as it is now, whatever is reloaded later. Raises QueryError and UnknownIdError.
        """
        now, described = self._snapshot, None if features is None else [features]
        return Session(now, now.queries(None, [history], described, unknown), unknown)

    def similar_items(
        self, ids: Ids, k: int = 10, *, where: str | None = None, allow: Items | None = None,
        deny: Items | None = None, unknown: str | None = None, threads: int | None = 1,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return (ids, scores) of shape (B, k): what the index recommends after each item alone.

        ``where``, ``allow``, ``deny``, ``unknown``, ``threads``: as of ``recommend``; unknown ``ids``
        raise unless told otherwise.
        """
        now = self._snapshot
        how = now.settings(k, None, None, where, allow, deny, unknown, threads)
        policy, known = policy_of(unknown, "raise"), now.dataset.item_ids
        found = internal_ids(known, arguments.listed(ids, "ids"), "ids", policy, "answered by popularity")
        hits = now.hits(now.single_items(found), how)
        return now.external(hits.ids), hits.scores

    def predict(
        self, users: Ids, k: int = 10, *, where: str | None = None, allow: Items | None = None,
        deny: Items | None = None, unknown: str | None = None, threads: int | None = 1,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return (ids, scores) for many known users; the same as ``recommend(users=...)``.

        The arrays take 12 bytes a place; ``predict_tables`` gives the answers block by block.
        """
        if users is None:
            raise QueryError("users is None; expected a list of user ids")
        return self.recommend(users=users, k=k, where=where, allow=allow, deny=deny, unknown=unknown, threads=threads)

    def predict_tables(
        self, users: Ids, k: int = 10, *, where: str | None = None, allow: Items | None = None,
        deny: Items | None = None, unknown: str | None = None, threads: int | None = 1,
    ) -> Iterator[pa.Table]:  # fmt: skip
        """Yield the answers for many known users as tables of some thousand users each, in the order given.

        Columns: ``user_id`` (as the data have them), then ``rank``, ``item_id``, ``score`` and ``filled`` as of
        ``recommend_table``. Arguments are checked before the first table; there is at least one, maybe without rows.
        """
        now = self._snapshot
        how = now.settings(k, None, None, where, allow, deny, unknown, threads)
        given = arguments.listed(users, "users")
        queries, names = now.user_queries(given, unknown), answers.labels(now.dataset.user_ids, given)
        return _user_tables(now, names, now.blocks(queries, how), how)

    def warmup(self) -> float:
        """Compile what queries of this run need, so that the first of them need not wait; return the seconds it took.

        Kernels are kept for later processes, see ``sparcode warmup``. Answers do not depend on it.
        """
        return warm(self._snapshot)

    def items_where(self, condition: str) -> np.ndarray:
        """Return (n,) bool by internal id: which items satisfy a condition; a copy, to be combined and given on.

        ``allow=model.items_where("genres=Comedy") | model.items_where("year<1950")``. Raises QueryError.
        """
        return self._snapshot.where(condition).mask.copy()

    def explain(
        self, user: Any = None, item: Any = None, history: Ids | None = None, *, include_seen: bool | None = None,
        where: str | None = None, allow: Items | None = None, deny: Items | None = None, unknown: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Tell which codes gave ``item`` how much for a user or a history, and what exact rescoring made of it.

        ``seen``: it is in the history. ``eligible``: answers may hold it; if not, ``excluded_because`` says "seen"
        (``include_seen=True`` ranks it) or "filtered" (by ``where``, ``allow``, ``deny``). ``exhaustive_rank``: its
        place (from 0) by exact score among the items that are not in the history, for one that is among all items;
        None behind the first 1,000. The item must be known, whatever ``unknown`` says of users and histories.
        """
        if (user is None) == (history is None) or item is None:
            raise QueryError("explain needs an item and exactly one of user and history")
        now = self._snapshot
        how = now.settings(1, None, include_seen, where, allow, deny, unknown)
        if user is not None:
            queries = now.user_queries([user], unknown, "user")
        else:
            queries = now.history_queries([arguments.listed(history, "history")], "history", policy_of(unknown, "warn"))
        (internal,) = internal_ids(now.dataset.item_ids, [item], "item", "raise", "", lambda _: "item")
        return explanation(now, queries, int(internal), how.include_seen, how.allow, how.deny)

    def info(self, verify: bool = False) -> dict[str, Any]:
        """Describe the run: sizes, bytes by part, hashes, settings; ``verify`` checks every digest first.

        ``attributes``: the columns that ``where`` can name, and their kinds.
        """
        now, verify = self._snapshot, arguments.truth(verify, "verify")
        if verify:
            _verify(now.run)
        index, manifest = now.pipeline.searcher.index, now.pipeline.searcher.manifest
        attributes = now.dataset.item_attributes
        return {
            "folder": str(now.run.folder),
            "items": now.pipeline.item_count,
            "items_without_event": now.dataset.items_without_event,
            "users": len(now.dataset.user_ids),
            "model_hash": now.run.model_hash,
            "index": {
                "generation": manifest.get("generation"),
                "families": [{"name": family.name, "lists": family.rows} for family in index.families],
                "postings": len(index.postings),
                "info": manifest.get("info", {}),
            },
            "attributes": {} if attributes is None else {name: part.kind for name, part in attributes.columns.items()},
            "cache_bytes": index.cache_bytes,
            "rescoring_bytes": now.pipeline.rescorer.bytes,
            "encoder_bytes": now.pipeline.encoder_bytes,
            "attribute_bytes": 0 if attributes is None else attributes.bytes,
            "query": now.pipeline.settings.to_json(),
            "training": now.run.record.get("training", {}),
            "verified": verify,
        }


def _user_tables(
    now: Snapshot, names: pa.Array, blocks: Iterator[tuple[int, Hits]], how: Settings
) -> Iterator[pa.Table]:
    low = None
    for low, hits in blocks:
        table = answers.answer_table(now, hits, low)
        yield table.select(["rank", "item_id", "score", "filled"]).add_column(0, "user_id", names.take(table["query"]))
    if low is None:
        nothing = answers.answer_table(now, Hits(np.empty((0, how.k), np.int32), np.empty((0, how.k), np.float32)))
        yield nothing.select(["rank", "item_id", "score", "filled"]).add_column(0, "user_id", names)


def _verify(run: Run) -> None:
    """Compare the digests of data, model and index; CorruptIndexError names what is damaged."""
    verify_dataset(run.location / "data")
    for path in sorted(run.model_folder.glob("*.safetensors")):
        read_arrays(path, verify=True)
    run.check_model()
    Pipeline.open(run.location, verify="full")


def _reopened(folder: str, verify: str) -> SparCode:
    """Open the folder of a model that travelled between processes."""
    return SparCode.load(folder, verify=verify)


def _config(config: Config | str | Path | dict[str, Any] | None) -> Config:
    from sparcode.config import Config, load_config, updated

    if config is None or isinstance(config, Config):
        return config or Config()
    if isinstance(config, dict):
        if wrong := [key for key in config if not isinstance(key, str)]:
            raise ConfigError(f"config has the key {wrong[0]!r}; expected dotted keys such as 'model.heads'")
        return updated(Config(), config)
    if isinstance(config, (str, Path)):
        return load_config(Path(config))
    raise ConfigError(f"config is a {type(config).__name__}; expected a Config, a path, or a dictionary of dotted keys")

"""A user who is clicking: what the encoder computed of earlier events is kept; answers are those of ``recommend``."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparcode.api.arguments import Items
from sparcode.api.snapshot import Snapshot
from sparcode.errors import QueryError
from sparcode.query.encoder.state import EncoderState
from sparcode.types import Queries


class Session:
    """One history that grows, made by ``SparCode.session``.

    ``recommend`` answers as ``SparCode.recommend(histories=[history], ...)`` does, bit for bit. ``append`` encodes the
    new event alone, as long as the encoder's window (``model.history`` of the configuration) has room for it, and the
    window anew from then on.

    A session keeps the state of the run in which it began: ``reload`` of the model does not change it, and memory of
    that state is held as long as the session is. Begin a new one, with ``history``, to answer from the new state.
    Threads may share the model and not a session. It cannot be pickled; its ``history`` can.
    """

    def __init__(self, snapshot: Snapshot, begun: Queries, unknown: str | None) -> None:
        """``begun``: one query, the history so far; ``SparCode.session`` makes it."""
        self._snapshot, self._unknown = snapshot, unknown
        self._items, self._features = begun.items, begun.user_features
        self._state: EncoderState = snapshot.pipeline.encoder.start(begun.items)

    def __len__(self) -> int:
        """How many events it holds."""
        return len(self._items)

    def __repr__(self) -> str:
        return f"Session({len(self)} events, {self._snapshot.run.folder})"

    def __reduce__(self) -> Any:
        raise QueryError("a session cannot be pickled or copied; keep its history and begin another with it")

    @property
    def history(self) -> list[Any]:
        """Its events, external ids, oldest first, without those that were unknown."""
        return self._snapshot.dataset.item_ids.to_external(self._items)

    def append(self, item: Any) -> Session:
        """Add one event, an external id; returns ``self``.

        An unknown item is treated as ``recommend`` treats one in a history: told and left out, unless ``unknown`` of
        the session says otherwise (UnknownIdError). What cannot be an id is a QueryError. After an error the session
        is as it was.
        """
        found = self._snapshot.event(item, self._unknown)
        if len(found):
            self._state = self._snapshot.pipeline.encoder.append(self._state, int(found[0]))
            self._items = np.concatenate([self._items, found])
        return self

    def recommend(
        self, k: int = 10, *, rescore: int | None = None, include_seen: bool | None = None, where: str | None = None,
        allow: Items | None = None, deny: Items | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
        """Return (ids, scores), each (1, k), and raise as ``SparCode.recommend`` of this history does; see there."""
        now = self._snapshot
        how = now.settings(k, rescore, include_seen, where, allow, deny, self._unknown, 1)
        queries = Queries(np.array([0, len(self._items)], np.int64), self._items, self._features)
        features = None if self._features is None else self._features[0]
        tokens = now.pipeline.encoder.tokens_of(self._state, features)[None]
        hits = now.hits(queries, how, tokens)
        return now.external(hits.ids), hits.scores

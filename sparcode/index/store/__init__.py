"""The durable store of an index: ``publish`` and ``open_index`` (bytes: ``store.format``)."""

from __future__ import annotations

from sparcode.index.store.read import open_index
from sparcode.index.store.write import publish

__all__ = ["open_index", "publish"]

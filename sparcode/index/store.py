"""The durable store of an index: ``publish`` and ``open_index`` (bytes: ``store_format``)."""

from __future__ import annotations

from sparcode.index.store_read import open_index
from sparcode.index.store_write import publish

__all__ = ["open_index", "publish"]

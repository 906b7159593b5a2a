"""The items that are embedded, with the table that describes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from sparcode.data.ids import IdMap


@dataclass(frozen=True)
class Items:
    """``ids``: the items to embed. ``table``: row i belongs to item i; None where there are only interactions.

    ``data``: what ``load_dataset`` reads, None when a table of items alone was given.
    """

    ids: IdMap
    table: pa.Table | None
    data: Any | None

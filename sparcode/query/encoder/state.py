"""What an encoder keeps of one user, so that one more click costs one event and not the whole history.

An encoder reads the last H events. As long as there are fewer, one more event changes nothing that was computed from
the others, in any kind: a sum, a hidden vector, or rows by event (positions count from the oldest event of the window).
What a kind does with all rows at once (attention of the newest event, routing) is done when tokens are asked for.

A full window drops its oldest event. Positions move, a recurrent state remembers what it should have forgotten, and a
float sum less its first term is not the sum of the others: the window is computed anew, as ``Encoder.tokens`` does. The
additive model (``encoder.additive``) keeps no state: every click changes the age, and so the weight, of all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sparcode.query.encoder import kinds, sasrec


@dataclass(frozen=True, eq=False)
class EncoderState:
    """The window of one user; immutable, and good for the encoder alone that made it.

    ``items``: internal ids int32, at most H, oldest first; they are all that must be stored to ``start`` again.
    ``seen``: how many events there were, with those that left the window.
    """

    items: np.ndarray
    seen: int
    memory: tuple[np.ndarray, ...]
    owner: object

    @property
    def bytes(self) -> int:
        """Bytes of the arrays."""
        return self.items.nbytes + sum(part.nbytes for part in self.memory)


class Memory(NamedTuple):
    """How a kind works event by event: ``make(spec)`` gives arrays, ``remember`` adds events, ``recall`` reads."""

    make: Callable[[dict[str, Any]], tuple[np.ndarray, ...]]
    remember: Callable[..., int]
    recall: Callable[..., None]


MEMORIES = {
    "sasrec": Memory(sasrec.memory, sasrec.remember, sasrec.recall),
    "gru4rec": Memory(kinds.memory_gru4rec, kinds.remember_gru4rec, kinds.recall_gru4rec),
    "dnn": Memory(kinds.memory_dnn, kinds.remember_dnn, kinds.recall_dnn),
    "self-attentive": Memory(kinds.memory_self_attentive, kinds.remember_self_attentive, kinds.recall_self_attentive),
    "capsule": Memory(kinds.memory_capsule, kinds.remember_capsule, kinds.recall_capsule),
}

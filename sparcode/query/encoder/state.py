"""What an encoder keeps of one user, so that one more click costs one event and not the whole history.

An encoder reads the last H events. As long as there are fewer, one more event changes nothing that was computed from
the others, in any kind: a sum, a hidden vector, or rows by event (positions count from the oldest event of the window).
What a kind does with all rows at once (attention of the newest event, routing) is done when tokens are asked for.

A full window drops its oldest event. Positions move, a recurrent state remembers what it should have forgotten, and a
float sum less its first term is not the sum of the others: the window is computed anew, as ``Encoder.tokens`` does. The
additive model (``encoder.additive``) keeps no state: every click changes the age, and so the weight, of all others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class EncoderState:
    """The window of one user; immutable, and good for the encoder alone that made it.

    ``items``: internal ids int32, at most H, oldest first; they are all that must be stored to ``start`` again.
    ``seen``: how many events there were, with those that left the window.
    """

    items: np.ndarray
    seen: int
    memory: Any
    owner: object

    @property
    def bytes(self) -> int:
        """Bytes of the arrays."""
        return self.items.nbytes + sum(part.nbytes for part in self.memory)

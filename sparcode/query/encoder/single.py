"""One history to tokens inside another kernel: ``Encoder.encode_one`` without a call from Python for each part.

The kernels of the encoder are those of ``Encoder.tokens``, called by address: tokens are the same to the last bit.
"""

# mypy: allow-untyped-defs
# Kernel arguments are what their docstrings say; numba reads no annotations.

from __future__ import annotations

from sparcode.jit import contracted
from sparcode.jit.addresses import call_plain, call_status


@contracted
def encode(history, features, states_entry, finish_entry, tokens, lengths, table, states, inputs, outputs):
    """Set ``tokens`` (1, K_u, d) to those of ``history`` (m,) and ``features`` (1, F) or (1, 0); tell whether all items
    are known. The other arguments are those of ``Encoder.single``; ``lengths``: 0 to H.
    """
    count = min(len(history), len(lengths) - 1)
    stop = lengths[count : count + 1]
    bad = call_status(states_entry, (table, history[len(history) - count :], lengths[:1], stop) + inputs)
    if bad >= 0:
        return False
    call_plain(finish_entry, (states, stop, features) + outputs)
    return True

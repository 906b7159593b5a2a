"""How much of a codebook is in use, and what is said when it is too little."""

from __future__ import annotations

import numpy as np

from sparcode.errors import DataError
from sparcode.wording import warn

POOR_PERPLEXITY = 0.3


def usage_of(counts: np.ndarray) -> tuple[float, float]:
    """Return the share of codewords in use and the perplexity (e to the entropy) of win counts (K,)."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return len(shares) / len(counts), float(np.exp(-(shares * np.log(shares)).sum()))


def check_usage(kind: str, codes: np.ndarray, sizes: tuple[int, ...]) -> dict[str, list[float]]:
    """Return usage and perplexity by digit of codes (n, L); warns of collapse, DataError where a digit is constant."""
    found = [usage_of(np.bincount(column, minlength=size)) for column, size in zip(codes.T, sizes, strict=True)]
    perplexity = [round(value, 3) for _, value in found]
    for digit, (_, value) in enumerate(found):
        if value < 1.0 + 1e-9 and len(codes) > 1:
            raise DataError(
                f"{kind}: codebook {digit + 1} collapsed, {len(codes)} items share one of {sizes[digit]} codewords; "
                "use revive_below > 0, init = kmeans and a smaller learning_rate, or check that the vectors differ"
            )
    poor = [d for d, (_, value) in enumerate(found) if value < POOR_PERPLEXITY * sizes[d]]
    if poor:
        listed = ", ".join(f"codebook {d + 1}: {perplexity[d]:.0f} of {sizes[d]}" for d in poor)
        warn(
            f"CODEBOOK COLLAPSE: {kind} has a perplexity below {POOR_PERPLEXITY:.0%} of the codewords ({listed}); use "
            "sinkhorn = all, init = rq-kmeans, a larger revive_below, or a smaller codebook_size",
            stacklevel=2,
        )
    return {"usage": [round(share, 4) for share, _ in found], "perplexity": perplexity}

"""sparcode: the matching stage of recommender systems as a learned sparse index.

>>> from sparcode import SparCode
>>> model = SparCode.train("ratings.csv", out="runs/mine")
>>> ids, scores = SparCode.load("runs/mine").recommend(histories=[["50", "181"]], k=10)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparcode.api import SparCode
    from sparcode.semantic_id import SemanticIdTokenizer

__version__ = "0.1.0"
__all__ = ["SemanticIdTokenizer", "SparCode", "__version__"]


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562): `import sparcode` must stay free of numpy, numba and friends.
    if name == "SparCode":
        from sparcode.api import SparCode

        return SparCode
    if name == "SemanticIdTokenizer":
        from sparcode.semantic_id import SemanticIdTokenizer

        return SemanticIdTokenizer
    raise AttributeError(f"module 'sparcode' has no attribute {name!r}")

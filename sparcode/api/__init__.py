"""The library in four lines: train, load, recommend, explain. External ids in, external ids out; no torch to serve."""

from sparcode.api.arguments import Ids, Items
from sparcode.api.model import SparCode
from sparcode.api.session import Session

__all__ = ["Ids", "Items", "Session", "SparCode"]

"""All engines by name."""

from __future__ import annotations

from typing import TypeVar

from sparcode.scale.peers import bm25s, exact, graphs, lists, partitions, scann, seismic
from sparcode.scale.peers.protocols import DensePeer, SparsePeer


def dense_peers() -> dict[str, type[DensePeer]]:
    """Return all dense engines by name; the library of each is imported when it is built or loaded."""
    modules = (exact, graphs, partitions, scann)
    return {kind.name: kind for module in modules for kind in module.PEERS}


def sparse_peers() -> dict[str, type[SparsePeer]]:
    """Return all sparse engines by name, sparcode's own among them."""
    return {kind.name: kind for module in (lists, bm25s, seismic) for kind in module.PEERS}


Peer = TypeVar("Peer", type[DensePeer], type[SparsePeer])


def measured_at(peers: dict[str, Peer], item_count: int) -> dict[str, Peer]:
    """Return the engines that are measured on a set of this size unless others are asked for."""
    return {
        name: kind for name, kind in peers.items() if kind.most_items is None or item_count <= kind.most_items
    }  # fmt: skip

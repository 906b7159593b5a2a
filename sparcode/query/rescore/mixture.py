"""The mixture of logits on plain arrays (arXiv 2306.04039, arXiv 2407.15462), without torch.

    q_a = unit(W_a t)    e_b = unit(V_b [c_1; ...; c_Kc])    l_ab = q_a . e_b / tau              a < P_q, b < P_c
    mixture(t, c) = scale * sum_ab gate_ab l_ab              gate = softmax_ab(G_q t + G_c [c_1; ...; c_Kc] + MLP(l))

Components e_b and gates G_c [c] of all items are computed once, when a model is opened. The rest is one kernel for
both uses: pairs of one *fixed* side and a tile of ``TILE`` *lanes*. In the offline job codes are the lanes and items
are fixed; in rescoring candidates are the lanes and query tokens are fixed. Every pair runs through the same
instructions whatever shares its tile, so its score does not depend on its company.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from sparcode.arithmetic import affine, dot, exp32
from sparcode.jit import contracted

TILE = 64
_ZERO = np.float32(0.0)


class Sides(NamedTuple):
    """Tokens or items as the mixture sees them: unit ``components`` (X, P, d), ``gates`` (X, L), L = P_q P_c."""

    components: np.ndarray
    gates: np.ndarray


class Lanes(NamedTuple):
    """Sides in tiles: ``components`` (T, P d, TILE), ``gates`` (T, L, TILE), zero behind the last; float32."""

    components: np.ndarray
    gates: np.ndarray


class GateNetwork(NamedTuple):
    """The MLP on the L logits of a pair: ``first`` (H, L), ``bias`` (H,), ``last`` (L, H)."""

    first: np.ndarray
    bias: np.ndarray
    last: np.ndarray


class CandidateMixture(NamedTuple):
    """What ``mix_candidates`` needs: the stacked ``weight`` and ``bias`` of query tokens, 1 / tau as ``length``, the
    sides of all n items, the network with the items' component first, ``order`` (L,) of the gates then, the scale."""

    weight: np.ndarray
    bias: np.ndarray
    length: np.float32
    items: Sides
    network: GateNetwork
    order: np.ndarray
    scale: np.float32


def mixture_shapes(spec: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of the arrays a mixture is made of."""
    width, flat, hidden = int(spec["width"]), int(spec["width"]) * int(spec["item_tokens"]), int(spec["hidden"])
    queries, items = int(spec["query_components"]), int(spec["item_components"])
    logits = queries * items
    return {
        "mixture.query.maps": (queries, width, width),
        "mixture.query.gate": (logits, width),
        "mixture.item.maps": (items, width, flat),
        "mixture.item.gate": (logits, flat),
        "mixture.hidden.weight": (hidden, logits),
        "mixture.hidden.bias": (hidden,),
        "mixture.out.weight": (logits, hidden),
        "mixture.out.bias": (logits,),
        "mixture.scale": (1,),
    }


class Mixture:
    """The gated part of the score; bias and cosine term are the rescorer's."""

    def __init__(self, spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray], flat: np.ndarray) -> None:
        """Lay the weights out and compute the items' sides from their tokens ``flat`` (n, K_c d) float32.

        ``arrays``: float32, of the shapes of ``mixture_shapes(spec)``.
        """
        self.width, self.parts = int(spec["width"]), (int(spec["query_components"]), int(spec["item_components"]))
        self.temperature, self.scale = float(spec["temperature"]), np.float32(arrays["mixture.scale"][0])
        self._query = _stacked(arrays["mixture.query.maps"], arrays["mixture.query.gate"], arrays["mixture.out.bias"])
        self._order = np.arange(self.parts[0] * self.parts[1]).reshape(self.parts).T.reshape(-1)
        first, bias, last = (arrays[f"mixture.{name}"] for name in ("hidden.weight", "hidden.bias", "out.weight"))
        self._codes_network = GateNetwork(first, bias, last)
        # Logits are numbered with the lanes' component first, so items as lanes need the weights in another order.
        self._items_network = GateNetwork(_plain(first[:, self._order]), bias, _plain(last[self._order]))
        none = np.zeros(len(self._order), np.float32)
        weight, start = _stacked(arrays["mixture.item.maps"], arrays["mixture.item.gate"], none)
        self.items = self._sides(flat, weight, start, self.parts[1], 1.0)

    def query_sides(self, tokens: np.ndarray) -> Sides:
        """Return the sides of query tokens (X, d) float32; components are over tau, gates hold the MLP's last bias."""
        return self._sides(tokens, *self._query, self.parts[0], 1.0 / self.temperature)

    def _sides(self, vectors: np.ndarray, weight: np.ndarray, bias: np.ndarray, parts: int, length: float) -> Sides:
        """Return the sides of vectors (X, D), components of the given ``length``."""
        components = np.empty((len(vectors), parts, self.width), np.float32)
        gates = np.empty((len(vectors), len(self._order)), np.float32)
        fill_sides(vectors, weight, bias, np.float32(length), components, gates)
        return Sides(components, gates)

    def lanes(self, tokens: np.ndarray) -> Lanes:
        """Prepare query tokens or decoded codes (C, d) for ``add``."""
        sides = self.query_sides(np.ascontiguousarray(tokens, np.float32))
        return Lanes(_tiles(sides.components), _tiles(sides.gates))

    def add(self, lanes: Lanes, start: int, out: np.ndarray) -> None:
        """Add the mixture of items ``start .. start + I`` and C prepared tokens to ``out`` (I, C) float32."""
        items = slice(start, start + len(out))
        fixed = Sides(self.items.components[items], self.items.gates[items])
        add_mixtures(lanes, fixed, self._codes_network, self.scale, out)

    @property
    def of_query(self) -> CandidateMixture:
        """What kernels mix candidates with."""
        length = np.float32(1.0 / self.temperature)
        return CandidateMixture(*self._query, length, self.items, self._items_network, self._order, self.scale)

    def of_candidates(self, tokens: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return the mixture (K_u, R) float32 of query tokens (K_u, d) and items (R,)."""
        out = np.zeros((len(tokens), len(candidates)), np.float32)
        sides = self.query_sides(tokens)
        gates = _tiles(self.items.gates[candidates][:, self._order])
        lanes = Lanes(_tiles(self.items.components[candidates]), gates)
        fixed = Sides(sides.components, _plain(sides.gates[:, self._order]))
        add_mixtures(lanes, fixed, self._items_network, self.scale, out)
        return out


def _stacked(maps: np.ndarray, gate: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps (P, d, D) and the gate (L, D) as one weight (D, P d + L) and its bias, 0 for the maps."""
    rows = maps.reshape(-1, maps.shape[-1])
    return _plain(np.concatenate([rows, gate]).T), np.concatenate([np.zeros(len(rows), np.float32), bias])


def _tiles(values: np.ndarray) -> np.ndarray:
    """Return (X, ...) as (T, F, TILE): feature f of row x is at [x // TILE, f, x % TILE]."""
    count, features = -(-len(values) // TILE), int(np.prod(values.shape[1:]))
    padded = np.zeros((count * TILE, features), np.float32)
    padded[: len(values)] = values.reshape(len(values), features)
    return _plain(padded.reshape(count, TILE, features).transpose(0, 2, 1))


def _plain(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)


@contracted
def fill_sides(vectors, weight, bias, length, components, gates):  # type: ignore[no-untyped-def]
    """Fill components (X, P, d), scaled to ``length``, and gates (X, L) with vectors (X, D) @ weight + bias."""
    parts, width = components.shape[1], components.shape[2]
    row = np.empty(bias.shape[0], np.float32)
    for x in range(vectors.shape[0]):
        affine(vectors[x], weight, bias, row)
        for p in range(parts):
            part = row[p * width : (p + 1) * width]
            factor = length / max(np.sqrt(dot(part, part)), np.float32(1e-8))
            for i in range(width):
                components[x, p, i] = part[i] * factor
        gates[x, :] = row[parts * width :]


@contracted
def mix_candidates(tokens, candidates, mixture):  # type: ignore[no-untyped-def]
    """Return ``Mixture.of_candidates`` (K_u, R) float32; ``mixture``: CandidateMixture."""
    logits, parts, width = len(mixture.order), mixture.items.components.shape[1], tokens.shape[1]
    sides = np.empty((len(tokens), logits // parts, width), np.float32)
    gates, turned = np.empty((len(tokens), logits), np.float32), np.empty((len(tokens), logits), np.float32)
    fill_sides(tokens, mixture.weight, mixture.bias, mixture.length, sides, gates)
    tiles = (len(candidates) + TILE - 1) // TILE
    lanes, lane_gates = np.zeros((tiles, parts * width, TILE), np.float32), np.zeros((tiles, logits, TILE), np.float32)
    for place in range(len(candidates)):
        item, tile, lane = candidates[place], place // TILE, place % TILE
        for p in range(parts):
            for i in range(width):
                lanes[tile, p * width + i, lane] = mixture.items.components[item, p, i]
        for g in range(logits):
            lane_gates[tile, g, lane] = mixture.items.gates[item, mixture.order[g]]
    for t in range(len(tokens)):
        for g in range(logits):
            turned[t, g] = gates[t, mixture.order[g]]
    out = np.zeros((len(tokens), len(candidates)), np.float32)
    add_mixtures(Lanes(lanes, lane_gates), Sides(sides, turned), mixture.network, mixture.scale, out)
    return out


@contracted
def add_mixtures(lanes, fixed, network, scale, out):  # type: ignore[no-untyped-def]
    """Add to ``out`` (F, C) the mixtures of fixed Sides (F, ...) and C Lanes; ``network``: GateNetwork.

    The tile is the outer loop: its components stay in the nearest cache while the fixed sides stream past.
    """
    count = network.last.shape[0]
    logits, gates = np.empty((count, TILE), np.float32), np.empty((count, TILE), np.float32)
    hidden = np.empty((network.bias.shape[0], TILE), np.float32)
    mixed = np.empty(TILE, np.float32)
    for tile in range(lanes.components.shape[0]):
        place = tile * TILE
        for f in range(out.shape[0]):
            fill_logits(lanes.components[tile], fixed.components[f], logits)
            fill_gates(logits, lanes.gates[tile], fixed.gates[f], network, hidden, gates)
            blend(logits, gates, mixed)
            for c in range(min(TILE, out.shape[1] - place)):
                out[f, place + c] += scale * mixed[c]


@contracted
def fill_logits(lanes, fixed, logits):  # type: ignore[no-untyped-def]
    """Fill logits (U V, TILE), lanes' component first, with lanes (U d, TILE) times fixed components (V, d)."""
    parts, width = fixed.shape
    logits[:] = _ZERO
    for u in range(lanes.shape[0] // width):
        add_rows(fixed, lanes[u * width : (u + 1) * width], logits[u * parts : (u + 1) * parts])


@contracted
def fill_gates(logits, lane_gates, fixed_gates, network, hidden, gates):  # type: ignore[no-untyped-def]
    """Fill gates (L, TILE), before their softmax: both sides' own and the network's."""
    first, bias, last = network
    for h in range(hidden.shape[0]):
        hidden[h, :] = bias[h]
    add_rows(first, logits, hidden)
    for h in range(hidden.shape[0]):
        for c in range(TILE):
            hidden[h, c] = max(hidden[h, c], _ZERO)
    for r in range(gates.shape[0]):
        for c in range(TILE):
            gates[r, c] = lane_gates[r, c] + fixed_gates[r]
    add_rows(last, hidden, gates)


@contracted
def blend(logits, gates, mixed):  # type: ignore[no-untyped-def]
    """Fill mixed (TILE,) with the mean of logits (L, TILE) under the softmax of gates (L, TILE); changes ``gates``."""
    highest, total = np.empty(TILE, np.float32), np.zeros(TILE, np.float32)
    highest[:] = gates[0]
    for r in range(1, gates.shape[0]):
        for c in range(TILE):
            highest[c] = max(highest[c], gates[r, c])
    mixed[:] = _ZERO
    for r in range(gates.shape[0]):
        for c in range(TILE):
            gates[r, c] = exp32(gates[r, c] - highest[c])
        for c in range(TILE):
            total[c] += gates[r, c]
            mixed[c] += gates[r, c] * logits[r, c]
    for c in range(TILE):
        mixed[c] /= total[c]


@contracted
def add_rows(weight, rows, out):  # type: ignore[no-untyped-def]
    """Add weight (O, K) @ rows (K, TILE) to ``out`` (O, TILE), k ascending."""
    count = weight.shape[1]
    whole = count - count % 4
    for o in range(weight.shape[0]):
        target = out[o]
        for k in range(0, whole, 4):
            # Four rows a pass: one load and one store of ``target`` serve four products.
            w0, w1, w2, w3 = weight[o, k], weight[o, k + 1], weight[o, k + 2], weight[o, k + 3]
            r0, r1, r2, r3 = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
            for c in range(TILE):
                # One product a statement, see ``encoder.math.add_product``.
                total = target[c] + w0 * r0[c]
                total += w1 * r1[c]
                total += w2 * r2[c]
                target[c] = total + w3 * r3[c]
        for k in range(whole, count):
            for c in range(TILE):
                target[c] += weight[o, k] * rows[k, c]

"""The query tokenizer of a run as an ONNX graph, built operator by operator from the exported arrays; no torch.

Inputs: ``items`` (B, L) int64 internal ids, oldest first, padded behind with anything, 1 <= L <= H; ``lengths`` (B,)
int64, 0 allowed; ``features`` (B, F) float32 where the model reads user features. Output: ``tokens`` (B, K_u, d)
float32, unit rows, zeros where there is neither an event nor a feature. The formulas are those of
``index.encoder_sasrec`` and ``index.encoder_kinds``, whose files say more; results agree to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sparcode.errors import MissingExtraError, QueryError
from sparcode.query.encoder.shapes import INTERESTS

OPSET, IR_VERSION = 17, 8
"""The oldest that have LayerNormalization: runtimes of 2022 and later read them."""
LARGEST = 2_000_000_000
"""Bytes of arrays; a protobuf message holds less than 2^31."""
_LOWEST = np.float32(-1e30)  # not -inf: a row without events would be 0/0

Arrays = dict[str, np.ndarray]


class Graph:
    """Collects nodes and constants; ``graph("Add", a, b)`` returns the name of the result."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError:
            raise MissingExtraError("onnx", "export", "exporting to ONNX") from None
        self._onnx = onnx
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def __call__(
        self, operator: str, *inputs: str | np.ndarray | np.generic, outputs: int = 1, **attributes: Any
    ) -> Any:
        """Add a node; arrays among the inputs become constants. Returns its output, or a tuple of several."""
        names = [part if isinstance(part, str) else self.constant(part) for part in inputs]
        made = [f"{operator}_{len(self._nodes)}_{place}" for place in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(operator, names, made, **attributes))
        return made[0] if outputs == 1 else tuple(made)

    def constant(self, array: np.ndarray | np.generic, name: str = "") -> str:
        """Store an array and return its name."""
        name = name or f"constant_{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def axes(self, *numbers: int) -> np.ndarray:
        """Return axes or a shape as operators want them."""
        return np.array(numbers, np.int64)

    def linear(self, x: str, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
        """Return ``x @ weight.T + bias`` over the last axis; ``weight`` (out, in) as torch keeps it."""
        product = self("MatMul", x, np.ascontiguousarray(weight.T))
        return str(product if bias is None else self("Add", product, bias))

    def model(self, inputs: Mapping[str, tuple[int, list[Any]]], output: str, shape: list[Any]) -> Any:
        """Return the checked model; ``inputs``: name -> type and shape."""
        helper, floats = self._onnx.helper, self._onnx.TensorProto.FLOAT
        self._nodes.append(helper.make_node("Identity", [output], ["tokens"]))
        given = [helper.make_tensor_value_info(name, kind, own) for name, (kind, own) in inputs.items()]
        made = [helper.make_tensor_value_info("tokens", floats, shape)]
        graph = helper.make_graph(self._nodes, "sparcode-tokenizer", given, made, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="sparcode")
        model.ir_version = IR_VERSION
        self._onnx.checker.check_model(model)
        return model


def tokenizer_graph(spec: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the onnx.ModelProto of an exported encoder (``spec``, ``arrays`` as of ``Encoder``).

    Raises MissingExtraError without onnx, QueryError for a kind without a graph or arrays too large for one file.
    """
    own = dict(spec["tokenizer"])
    kind, width, heads = str(own["kind"]), int(own["width"]), int(own["heads"])
    if kind not in _STATES:
        raise QueryError(f"tokenizer kind {kind!r} has no ONNX graph, expected one of {', '.join(_STATES)}")
    part = {name.removeprefix("tokenizer."): np.asarray(array, np.float32) for name, array in arrays.items()}
    size = sum(array.nbytes for name, array in part.items() if name != "codebooks")
    if size > LARGEST:
        raise QueryError(f"{size / 1e9:.1f} GB of arrays do not fit into one ONNX file, which holds less than 2 GB")
    graph = Graph()
    events = _Events(graph, part, width)
    states = graph("Where", events.any_of(3), _STATES[kind](graph, events, own, part), part["empty_state"][None])
    tokens = _finished(graph, events, states, own, part)
    batch, longest, floats, whole = "batch", "length", 1, 7
    inputs: dict[str, tuple[int, list[Any]]] = {"items": (whole, [batch, longest]), "lengths": (whole, [batch])}
    if own["feature_width"]:
        inputs["features"] = (floats, [batch, int(own["feature_width"])])
    return graph.model(inputs, tokens, [batch, heads, width])


class _Events:
    """The scaled item vectors of a batch and what says which are there."""

    def __init__(self, graph: Graph, part: Arrays, width: int) -> None:
        self.graph = graph
        self.length = graph("Gather", graph("Shape", "items"), np.int64(1))
        places = graph("Range", np.int64(0), self.length, np.int64(1))
        self.mask = graph("Less", graph("Unsqueeze", places, graph.axes(0)), self._column("lengths"))  # (B, L)
        items = graph("Where", self.mask, "items", np.int64(0))
        scaled = graph("Mul", graph("Gather", graph.constant(part["item_vectors"], "item_vectors"), items),
                       np.float32(math.sqrt(width)))  # fmt: skip
        self.x = graph("Where", self.mask_of(2), scaled, np.float32(0))  # (B, L, d)
        self.last = graph("Max", graph("Sub", "lengths", np.int64(1)), np.int64(0))

    def _column(self, name: str) -> str:
        return str(self.graph("Unsqueeze", name, self.graph.axes(1)))

    def mask_of(self, axis: int) -> str:
        """Return the mask (B, L) with one axis more."""
        return str(self.graph("Unsqueeze", self.mask, self.graph.axes(axis)))

    def any_of(self, dimensions: int) -> str:
        """Return (B, 1, ...) bool: whether there is an event."""
        some = self.graph("Greater", "lengths", np.int64(0))
        return str(self.graph("Unsqueeze", some, self.graph.axes(*range(1, dimensions))))

    def with_positions(self, positions: np.ndarray) -> str:
        """Return the events plus ``positions`` (H, d), the first of them for the oldest event."""
        graph = self.graph
        stop = graph("Unsqueeze", self.length, graph.axes(0))
        return str(graph("Add", self.x, graph("Slice", positions, graph.axes(0), stop, graph.axes(0))))

    def newest(self, rows: str) -> str:
        """Return the row of the last event (B, 1, d) of rows (B, L, d)."""
        index = self.graph("Unsqueeze", self.last, self.graph.axes(1, 2))
        return str(self.graph("GatherND", rows, index, batch_dims=1))


def _sasrec(graph: Graph, events: _Events, own: dict[str, Any], part: Arrays) -> str:
    x = events.with_positions(part["positions"])
    blocks = int(own["blocks"])
    for number in range(blocks):
        block = {name.removeprefix(f"blocks.{number}."): array for name, array in part.items()}
        y = _layer_norm(graph, x, block["norm1.weight"], block["norm1.bias"], own)
        asking, seen = y, _causal(graph, events)
        if number + 1 == blocks:
            x, asking, seen = events.newest(x), events.newest(y), events.mask_of(1)
        x = graph("Add", x, _attention(graph, asking, y, seen, own, block))
        y = _layer_norm(graph, x, block["norm2.weight"], block["norm2.bias"], own)
        hidden = graph("Relu", graph.linear(y, block["inner.weight"], block["inner.bias"]))
        x = graph("Add", x, graph.linear(hidden, block["outer.weight"], block["outer.bias"]))
    return _layer_norm(graph, x, part["norm.weight"], part["norm.bias"], own)


def _layer_norm(graph: Graph, x: str, gain: np.ndarray, offset: np.ndarray, own: dict[str, Any]) -> str:
    return str(graph("LayerNormalization", x, gain, offset, axis=-1, epsilon=float(own["epsilon"])))


def _causal(graph: Graph, events: _Events) -> str:
    """Return (1, L, L) bool: event s (column) is not after position t (row)."""
    places = graph("Range", np.int64(0), events.length, np.int64(1))
    row, column = (graph("Unsqueeze", places, graph.axes(axis)) for axis in (0, 1))
    return str(graph("Unsqueeze", graph("LessOrEqual", row, column), graph.axes(0)))


def _attention(graph: Graph, asking: str, y: str, seen: str, own: dict[str, Any], block: Arrays) -> str:
    """Return attention (B, Q, d) of rows ``asking`` (B, Q, d) over ``y`` (B, L, d) where ``seen`` (., Q or 1, L)."""
    heads, width = int(own["attention_heads"]), int(own["width"])
    split = graph.axes(0, -1, heads, width // heads)

    def part_of(rows: str, number: int, order: list[int]) -> str:
        weight = block["qkv.weight"].reshape(3, width, width)[number]
        own_part = graph.linear(rows, weight, block["qkv.bias"].reshape(3, width)[number])
        return str(graph("Transpose", graph("Reshape", own_part, split), perm=order))

    query, value = part_of(asking, 0, [0, 2, 1, 3]), part_of(y, 2, [0, 2, 1, 3])
    logits = graph("MatMul", query, part_of(y, 1, [0, 2, 3, 1]))  # (B, heads, Q, L)
    logits = graph("Mul", logits, np.float32(1 / math.sqrt(width // heads)))
    logits = graph("Where", graph("Unsqueeze", seen, graph.axes(1)), logits, _LOWEST)
    mixed = graph("MatMul", graph("Softmax", logits, axis=-1), value)
    joined = graph("Reshape", graph("Transpose", mixed, perm=[0, 2, 1, 3]), graph.axes(0, -1, width))
    return graph.linear(joined, block["out.weight"], block["out.bias"])


def _gru4rec(graph: Graph, events: _Events, own: dict[str, Any], part: Arrays) -> str:
    width = int(own["width"])
    rows = graph("Transpose", events.x, perm=[1, 0, 2])
    lengths = graph("Cast", graph("Max", "lengths", np.int64(1)), to=6)
    last = ""
    for layer in range(int(own["blocks"])):
        weights = [_gates(part[f"gru.{name}_l{layer}"], width)[None] for name in ("weight_ih", "weight_hh")]
        biases = [_gates(part[f"gru.{name}_l{layer}"], width) for name in ("bias_ih", "bias_hh")]
        # linear_before_reset: r times (U h + b), as torch has it.
        every, last = graph(
            "GRU", rows, *weights, np.concatenate(biases)[None], lengths,
            outputs=2, hidden_size=width, linear_before_reset=1,
        )  # fmt: skip
        rows = graph("Squeeze", every, graph.axes(1))
    return str(graph("Transpose", last, perm=[1, 0, 2]))


def _gates(array: np.ndarray, width: int) -> np.ndarray:
    """Reorder torch's gates r, z, n to z, r, n, which ONNX calls z, r, h."""
    reset, update, new = array[:width], array[width : 2 * width], array[2 * width :]
    return np.concatenate([update, reset, new])


def _dnn(graph: Graph, events: _Events, own: dict[str, Any], part: Arrays) -> str:
    total = graph("ReduceSum", events.x, graph.axes(1), keepdims=1)
    count = graph("Cast", graph("Max", "lengths", np.int64(1)), to=1)
    x = graph("Div", total, graph("Unsqueeze", count, graph.axes(1, 2)))
    for number in range(3):
        x = graph.linear(x, part[f"layers.{number}.weight"], part[f"layers.{number}.bias"])
        x = graph("Relu", x) if number < 2 else x
    return str(x)


def _self_attentive(graph: Graph, events: _Events, own: dict[str, Any], part: Arrays) -> str:
    hidden = graph("Tanh", graph.linear(events.with_positions(part["positions"]), part["inner.weight"]))
    logits = graph("Transpose", graph.linear(hidden, part["attention.weight"]), perm=[0, 2, 1])
    weights = graph("Softmax", graph("Where", events.mask_of(1), logits, _LOWEST), axis=-1)
    return str(graph("MatMul", weights, events.x))


def _capsule(graph: Graph, events: _Events, own: dict[str, Any], part: Arrays) -> str:
    capsules = graph.linear(events.x, part["bilinear.weight"])
    turned = graph("Transpose", capsules, perm=[0, 2, 1])
    stop = graph("Unsqueeze", events.length, graph.axes(0))
    logits = graph("Slice", part["routing"][None], graph.axes(0), stop, graph.axes(2))
    out = ""
    for iteration in range(int(own["iterations"])):
        if iteration:
            logits = graph("Add", logits, graph("MatMul", out, turned))
        weights = graph("Where", events.mask_of(1), graph("Softmax", logits, axis=1), np.float32(0))
        out = _squashed(graph, graph("MatMul", weights, capsules))
    return out


def _squashed(graph: Graph, x: str) -> str:
    square = graph("ReduceSum", graph("Mul", x, x), graph.axes(-1), keepdims=1)
    length = graph("Sqrt", graph("Add", square, np.float32(1e-9)))
    return str(graph("Mul", x, graph("Div", graph("Div", square, graph("Add", square, np.float32(1))), length)))


_STATES: dict[str, Callable[[Graph, _Events, dict[str, Any], Arrays], str]] = {
    "sasrec": _sasrec, "gru4rec": _gru4rec, "dnn": _dnn, "self-attentive": _self_attentive, "capsule": _capsule,
}  # fmt: skip
"""Kind -> states (B, S, d), S = K_u for interests, else 1."""


def _finished(graph: Graph, events: _Events, states: str, own: dict[str, Any], part: Arrays) -> str:
    """Add user features, apply the heads, normalise; zeros where nothing is known."""
    known = events.any_of(3)
    if own["feature_width"]:
        projected = graph.linear("features", part["features.weight"])
        states = graph("Add", states, graph("Unsqueeze", projected, graph.axes(1)))
        largest = graph("ReduceMax", graph("Abs", "features"), axes=[1], keepdims=1)
        some = graph("Unsqueeze", graph("Greater", largest, np.float32(0)), graph.axes(2))
        known = graph("Or", known, some)
    if own["kind"] not in INTERESTS:
        heads = graph.linear(states, part["head.weight"], part["head.bias"])
        states = graph("Reshape", heads, graph.axes(0, int(own["heads"]), int(own["width"])))
    length = graph("ReduceL2", states, axes=[-1], keepdims=1)
    return str(graph("Where", known, graph("Div", states, graph("Max", length, np.float32(1e-8))), np.float32(0)))

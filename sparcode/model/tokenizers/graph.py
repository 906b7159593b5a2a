"""The query tokenizer of a run as an ONNX graph, built operator by operator from the exported arrays; no torch.

Inputs: ``items`` (B, L) int64 internal ids, oldest first, padded behind with anything, 1 <= L <= H; ``lengths`` (B,)
int64, 0 allowed; ``features`` (B, F) float32 where the model reads user features. Output: ``tokens`` (B, K_u, d)
float32, unit rows, zeros where there is neither an event nor a feature. The formulas are those of the kinds'
``arrays``; results agree to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sparcode.errors import MissingExtraError, QueryError
from sparcode.model.tokenizers import KINDS, part_of

OPSET, IR_VERSION = 17, 8
"""The oldest that have LayerNormalization: runtimes of 2022 and later read them."""
LARGEST = 2_000_000_000
"""Bytes of arrays; a protobuf message holds less than 2^31."""
LOWEST = np.float32(-1e30)  # not -inf: a row without events would be 0/0

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
    if kind not in KINDS:
        raise QueryError(f"tokenizer kind {kind!r} has no ONNX graph, expected one of {', '.join(KINDS)}")
    part = {name.removeprefix("tokenizer."): np.asarray(array, np.float32) for name, array in arrays.items()}
    size = sum(array.nbytes for name, array in part.items() if name != "codebooks")
    if size > LARGEST:
        raise QueryError(f"{size / 1e9:.1f} GB of arrays do not fit into one ONNX file, which holds less than 2 GB")
    graph = Graph()
    events = Events(graph, part, width)
    states = part_of(kind, "onnx").states(graph, events, own, part)
    states = graph("Where", events.any_of(3), states, part["empty_state"][None])
    tokens = _finished(graph, events, states, own, part)
    batch, longest, floats, whole = "batch", "length", 1, 7
    inputs: dict[str, tuple[int, list[Any]]] = {"items": (whole, [batch, longest]), "lengths": (whole, [batch])}
    if own["feature_width"]:
        inputs["features"] = (floats, [batch, int(own["feature_width"])])
    return graph.model(inputs, tokens, [batch, heads, width])


class Events:
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


def _finished(graph: Graph, events: Events, states: str, own: dict[str, Any], part: Arrays) -> str:
    """Add user features, apply the heads, normalise; zeros where nothing is known."""
    known = events.any_of(3)
    if own["feature_width"]:
        projected = graph.linear("features", part["features.weight"])
        states = graph("Add", states, graph("Unsqueeze", projected, graph.axes(1)))
        largest = graph("ReduceMax", graph("Abs", "features"), axes=[1], keepdims=1)
        some = graph("Unsqueeze", graph("Greater", largest, np.float32(0)), graph.axes(2))
        known = graph("Or", known, some)
    if "head.weight" in part:
        heads = graph.linear(states, part["head.weight"], part["head.bias"])
        states = graph("Reshape", heads, graph.axes(0, int(own["heads"]), int(own["width"])))
    length = graph("ReduceL2", states, axes=[-1], keepdims=1)
    return str(graph("Where", known, graph("Div", states, graph("Max", length, np.float32(1e-8))), np.float32(0)))

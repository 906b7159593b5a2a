"""Every registered tokenizer kind has all its parts, and they agree; a kind that lacks one is found."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

from sparcode.model import tokenizers
from sparcode.model.tokenizers import KINDS, part_of
from sparcode.model.tokenizers.layers import Tokenizer
from tests.query.encoder.test_encoder import HISTORY, LENGTHS, Pair, random_queries

PARTS = {
    "layers": ("TOKENIZER",),
    "arrays": ("INTERESTS", "check", "shapes", "prepare", "memory", "remember", "recall"),
    "onnx": ("states",),
}


def lacking(kind: str) -> list[str]:
    """Return what a kind lacks, as ``part`` or ``part.name``."""
    missing = []
    for part, names in PARTS.items():
        try:
            module = part_of(kind, part)
        except ModuleNotFoundError:
            missing.append(part)
            continue
        missing += [f"{part}.{name}" for name in names if not hasattr(module, name)]
    return missing


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_has_all_its_parts(kind):
    assert lacking(kind) == []
    layers, arrays = part_of(kind, "layers").TOKENIZER, part_of(kind, "arrays")
    assert issubclass(layers, Tokenizer)
    assert (layers.kind, layers.interests) == (kind, arrays.INTERESTS)


@pytest.mark.parametrize("kind", KINDS)
def test_torch_arrays_states_and_graph_give_the_same_tokens(kind):
    pair, queries = Pair(kind, heads=3, blocks=2, attention_heads=2), random_queries(11, LENGTHS)
    encoder = pair.encoder()
    served = encoder.tokens(queries)
    np.testing.assert_allclose(served, pair.torch_tokens(queries), atol=1e-5)
    for b in range(len(queries)):
        np.testing.assert_array_equal(encoder.tokens_of(encoder.start(queries.history(b))), served[b])
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from sparcode.model.tokenizers.graph import tokenizer_graph
    from sparcode.train.export_onnx import onnx_inputs

    content = tokenizer_graph(pair.spec, pair.arrays).SerializeToString()
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    found = session.run(["tokens"], onnx_inputs(queries, HISTORY, 0))[0]
    np.testing.assert_allclose(found, served, atol=1e-5)


@pytest.mark.parametrize("part", PARTS)
def test_a_kind_without_a_part_is_found(part, monkeypatch):
    monkeypatch.setitem(KINDS, "toy", "tests_toy_kind")
    package = ModuleType("tests_toy_kind")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "tests_toy_kind", package)
    for other in PARTS:
        if other != part:
            monkeypatch.setitem(sys.modules, f"tests_toy_kind.{other}", part_of("dnn", other))
    assert lacking("toy") == [part]


def test_unknown_kinds_are_named():
    with pytest.raises(KeyError, match="'other', expected one of sasrec, "):
        part_of("other", "arrays")


def test_arrays_of_all_kinds_are_opened_without_torch():
    code = "import sys; from sparcode.model.tokenizers import KINDS, part_of; [part_of(k, 'arrays') for k in KINDS]"
    subprocess.run([sys.executable, "-c", code + "; assert 'torch' not in sys.modules"], check=True)
    assert tokenizers.KINDS is KINDS

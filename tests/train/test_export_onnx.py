"""The ONNX file answers as the served encoder does, for every kind; what cannot be exported is refused in one line."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sparcode.errors import ConfigError, MissingExtraError, QueryError, RunError
from sparcode.model.tokenizers import graph as onnx_graph
from sparcode.model.tokenizers.graph import tokenizer_graph
from sparcode.query.encoder.encoder import Encoder
from sparcode.run import Run
from sparcode.train import export_onnx as module
from sparcode.train.export_onnx import export_onnx, onnx_inputs
from tests.query.encoder.test_encoder import FEATURES, HISTORY, KINDS, LENGTHS, Pair, random_queries
from tests.worlds import queries_of

if TYPE_CHECKING:
    from tests.conftest import TinyRun

CASES = [(kind, heads, blocks, features) for kind in KINDS for heads, blocks, features in ((1, 1, False), (3, 2, True))]


@pytest.mark.parametrize(("kind", "heads", "blocks", "features"), CASES)
def test_tokens_are_those_of_the_served_encoder(kind, heads, blocks, features):
    runtime, _ = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    pair = Pair(kind, heads, blocks, features, attention_heads=2)
    model = tokenizer_graph(pair.spec, pair.arrays)
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    encoder = pair.encoder()
    for lengths in (LENGTHS, [1], [0], [HISTORY] * 3):
        queries = random_queries(1, lengths, features)
        if queries.user_features is not None:
            queries.user_features[-1] = 0
        inputs = onnx_inputs(queries, HISTORY, FEATURES if features else 0)
        tokens = session.run(["tokens"], inputs)[0]
        assert tokens.shape == (len(lengths), heads, pair.tokenizer.width)
        np.testing.assert_allclose(tokens, encoder.tokens(queries), atol=2e-6)
        # Padding may hold anything, and a longer padding changes nothing.
        wider = np.full((len(lengths), HISTORY), 10**6, np.int64)
        wider[:, : inputs["items"].shape[1]] = np.where(
            np.arange(inputs["items"].shape[1]) < inputs["lengths"][:, None], inputs["items"], 10**6
        )
        np.testing.assert_allclose(session.run(["tokens"], inputs | {"items": wider})[0], tokens, atol=2e-6)


def test_a_run_is_written_compared_and_described(tiny_run: TinyRun, tmp_path):
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    out = tmp_path / "new" / "tokenizer.onnx"
    summary = export_onnx(tiny_run.folder, out)
    assert 0 <= summary["largest_difference"] < 1e-5
    assert summary["bytes"] == out.stat().st_size
    assert summary["inputs"] == ["items", "lengths"]
    ids = json.loads(out.with_name("tokenizer.onnx.items.json").read_text(encoding="utf-8"))
    run = Run.open(tiny_run.folder)
    history = [ids.index(type(ids[0])(item)) for item in tiny_run.items]
    assert history == run.dataset.item_ids.to_internal(list(tiny_run.items)).tolist()
    queries, encoder = queries_of([history]), Encoder.open(run.model_folder)
    found = runtime.InferenceSession(str(out)).run(None, onnx_inputs(queries, encoder.history, 0))[0]
    np.testing.assert_allclose(found[0], encoder.encode_one(np.array(history)), atol=2e-6)
    facts = {part.key: json.loads(part.value) for part in onnx.load(out).metadata_props}
    assert facts == {
        "sparcode.model_hash": run.model_hash, "sparcode.history": encoder.history, "sparcode.items": len(ids),
    }  # fmt: skip
    before = out.read_bytes()
    export_onnx(tiny_run.folder, out)
    assert out.read_bytes() == before


def test_a_file_that_would_answer_differently_is_not_written(tiny_run: TinyRun, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(module, "TOLERANCE", -1.0)
    with pytest.raises(RunError, match="nothing was written"):
        export_onnx(tiny_run.folder, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_one_line(tiny_run: TinyRun, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        export_onnx(tiny_run.folder, tmp_path / "x.bin")
    with pytest.raises(RunError, match="no run"):
        export_onnx(tmp_path, tmp_path / "x.onnx")
    pair = Pair("dnn")
    with pytest.raises(QueryError, match="'other' has no ONNX graph, expected one of sasrec"):
        tokenizer_graph(pair.spec | {"tokenizer": pair.spec["tokenizer"] | {"kind": "other"}}, pair.arrays)
    monkeypatch.setattr(onnx_graph, "LARGEST", 100)
    with pytest.raises(QueryError, match="less than 2 GB"):
        tokenizer_graph(pair.spec, pair.arrays)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sparcode\[export\]'"):
        tokenizer_graph(pair.spec, pair.arrays)


def test_without_onnxruntime_nothing_is_compared(tiny_run: TinyRun, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export_onnx(tiny_run.folder, tmp_path / "x.onnx")["largest_difference"] is None

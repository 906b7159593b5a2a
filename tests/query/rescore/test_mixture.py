"""The mixture of logits: torch, rescorer and offline job agree, its kernels are their Python source, a run works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparcode.build.job import build_index
from sparcode.build.score.scoring import CodeScorer
from sparcode.config import Config, updated
from sparcode.data.synthetic import planted_groups, write_world
from sparcode.model.item_tokens import unit
from sparcode.model.sparcode import SparCodeModel
from sparcode.query.codes import decode
from sparcode.query.pipeline import Pipeline
from sparcode.query.rescore import mixture as module
from sparcode.query.rescore.rescorer import Rescorer
from sparcode.retrievers.evaluation import evaluate_run
from sparcode.train.export import encoder_arrays, rescorer_arrays
from sparcode.train.run import train_run
from tests.query.scorers import random_rescorer
from tests.worlds import TINY, tiny_config

KERNELS = ("add_mixtures", "fill_sides", "fill_logits", "fill_gates", "blend", "add_rows", "affine", "dot")
ITEMS = 71


def trained(**changes) -> SparCodeModel:
    """Return a model with random scorer, items and codebooks, as if trained."""
    torch.manual_seed(0)
    sizes = {"scorer.kind": "mixture", "scorer.query_components": 3, "scorer.item_components": 2}
    model = SparCodeModel(tiny_config(**sizes | changes), ITEMS, None, 0)
    for parameter in [*model.scorer.parameters(), model.items.embedding]:
        torch.nn.init.normal_(parameter, std=0.3)
    model.quantizer.start(unit(torch.randn(100, 16)), seed=0)
    return model.eval()


@pytest.mark.parametrize("quantizer", ["product", "residual"])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("item_tokens", [1, 3])
@torch.no_grad()
def test_torch_rescorer_and_offline_job_agree(item_tokens, skip, quantizer):
    model = trained(**{"model.item_tokens": item_tokens, "scorer.skip": skip, "quantizer.kind": quantizer})
    books = encoder_arrays(model)[1]["codebooks"]
    codes = np.array([[0, 0], [0, 3], [1, 7], [5, 2], [7, 7]], np.uint16).repeat(15, axis=0)  # more than one tile
    tokens = decode(codes, books, quantizer)
    wanted = model.score_all(model.items.table(), torch.from_numpy(tokens)[:, None]).numpy()
    rescorer = Rescorer(*rescorer_arrays(model))
    scorer = CodeScorer(rescorer, books, quantizer)
    near = {"atol": 1e-4, "rtol": 1e-4}
    np.testing.assert_allclose(scorer.scores(scorer.plan(codes)).T, wanted, **near)
    np.testing.assert_allclose(rescorer.token_scores(tokens, slice(None)), wanted, **near)
    every = np.arange(ITEMS, dtype=np.int32)[::-1]
    for row in range(0, len(codes), 15):
        np.testing.assert_allclose(rescorer.score(tokens[row : row + 1], every), wanted[row, ::-1], **near)


def test_bytes_do_not_depend_on_blocks_or_order():
    rescorer, _, _ = random_rescorer("mixture", width=20, hidden=7, items=90)
    rng = np.random.default_rng(0)
    books = rng.normal(size=(1, 200, 20)).astype(np.float32)
    codes = np.arange(200, dtype=np.uint16)[:, None]
    scorer = CodeScorer(rescorer, books, "product")
    whole = scorer.scores(scorer.plan(codes))
    for _ in range(20):
        low, first = rng.integers(0, 190), rng.integers(0, 80)
        high, last = rng.integers(low + 1, 201), rng.integers(first + 1, 91)
        part = scorer.scores(scorer.plan(codes[low:high]), first, last)
        assert part.tobytes() == np.ascontiguousarray(whole[first:last, low:high]).tobytes()
    shuffled = rng.permutation(200)
    assert np.array_equal(scorer.scores(scorer.plan(codes[shuffled])), whole[:, shuffled])


def test_kernels_equal_their_python_source(monkeypatch):
    rescorer, spec, arrays = random_rescorer("mixture", hidden=3, width=6, items=5, item_tokens=1)
    tokens, ids = np.random.default_rng(0).normal(size=(2, 6)).astype("f"), np.arange(5, dtype=np.int32)
    fast, every = rescorer.score(tokens, ids), rescorer.token_scores(tokens, slice(None))
    for name in KERNELS:
        monkeypatch.setattr(module, name, getattr(module, name).py_func)
    slow = Rescorer(spec, arrays)
    np.testing.assert_allclose(slow.score(tokens, ids), fast, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(slow.token_scores(tokens, slice(None)), every, rtol=1e-4, atol=1e-4)


def test_a_gate_of_large_values_stays_finite():
    _, spec, arrays = random_rescorer("mixture")
    arrays["mixture.query.gate"] *= 1e4
    rescorer = Rescorer(spec, arrays)
    tokens = np.random.default_rng(0).normal(size=(2, 12)).astype("f")
    assert np.isfinite(rescorer.score_all(tokens[None])).all()


@pytest.mark.parametrize("changes", [{}, {"train.warm_start": True, "train.fine_tune_epochs": 1, "scorer.skip": False}])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_from_training_to_answers(tmp_path: Path, changes: dict) -> None:
    world = write_world(planted_groups(users=60, items=40), tmp_path / "data")
    config = TINY | {"train.epochs": 2, "quantizer.warmup": 0.5, "scorer.kind": "mixture", "model.item_tokens": 2}
    run = train_run(str(world), tmp_path / "run", updated(Config(), config | changes), baselines=False, progress=False)
    assert build_index(run.folder)["cache_bytes"] > 0
    document = evaluate_run(run.folder, retrievers=["sparcode", "sparcode-cache", "all-to-all"])
    assert [result["queries"] for result in document["results"]] == [60, 60, 60]
    pipeline = Pipeline.open(run.folder)
    assert pipeline.rescorer.kind == "mixture"
    for rescore in (0, 20):
        assert (pipeline.retrieve(run.dataset.test.queries, 10, rescore=rescore).ids >= 0).all()

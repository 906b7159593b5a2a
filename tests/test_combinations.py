"""Every tokenizer, scorer, quantizer, loss and family goes the whole way: train, build, evaluate what was served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparcode.build.job import build_index
from sparcode.config import Config, updated
from sparcode.data.synthetic import planted_groups, write_world
from sparcode.query.pipeline import Pipeline
from sparcode.retrievers.evaluation import evaluate_run
from sparcode.train.run import train_run
from tests.worlds import TINY

QUICK = TINY | {"model.heads": 1, "train.epochs": 2, "quantizer.warmup": 0.5}

COMBINATIONS: list[dict[str, Any]] = [
    {"model.tokenizer": "gru4rec", "loss.kind": "in-batch"},
    {"model.tokenizer": "dnn", "loss.kind": "full", "scorer.kind": "concatenation"},
    {"model.tokenizer": "self-attentive", "model.heads": 3, "loss.kind": "bpr"},
    {"model.tokenizer": "capsule", "model.heads": 2, "quantizer.kind": "residual"},
    {"model.heads": 3, "model.item_tokens": 2, "scorer.layers": 2},
    {"scorer.kind": "dot", "loss.popular_share": 0.5, "families.learned.probes": 2},
    {"scorer.kind": "counts"},
    {"scorer.skip": False, "sparsity.bias": 0.1},
    {"sparsity.target_density": 20.0, "quantizer.books": 1, "quantizer.codewords": 16},
    {"model.item_content": True, "model.user_features": True, "model.item_id_dropout": 0.2},
    {"families.item.enabled": False, "train.history_dropout": 0.2},
    {"families.learned.enabled": False},
    {"families.item.counted": False, "additive.width": 8, "additive.history": 3},
    {"families.item.additive": False, "families.item.decay": 0.5},
    {"train.warm_start": True, "scorer.kind": "dot", "model.item_content": None},
    {"train.warm_start": True, "train.fine_tune_epochs": 1, "model.heads": 2, "model.item_tokens": 2},
    {"train.warm_start": True, "model.tokenizer": "capsule", "model.heads": 2, "sparsity.target_density": 10.0},
    {"index.policy": "budget", "index.budget_mb": 0.008, "quantizer.codewords": 4},
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A planted world with item and user metadata."""
    return write_world(planted_groups(users=60, items=40), tmp_path_factory.mktemp("world") / "data")


@pytest.mark.parametrize("changes", COMBINATIONS, ids=lambda changes: " ".join(map(str, changes.values())))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_whole_path(world: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    run = train_run(str(world), tmp_path / "run", updated(Config(), QUICK | changes), baselines=False, progress=False)
    summary = build_index(run.folder)
    assert summary["cache_bytes"] > 0
    document = evaluate_run(run.folder, retrievers=["sparcode", "sparcode-cache", "all-to-all"])
    assert [result["queries"] for result in document["results"]] == [60, 60, 60]
    pipeline, queries = Pipeline.open(run.folder), run.dataset.test.queries
    features = run.dataset.user_features.dense(np.arange(60)) if pipeline.encoder.feature_width else None
    for rescore in (0, 20):
        hits = pipeline.retrieve(type(queries)(queries.indptr, queries.items, features), 10, rescore=rescore)
        assert (hits.ids >= 0).all()
        assert not any(np.isin(hits.ids[row], queries.history(row)).any() for row in range(60))

"""The loop on a planted world: it learns, stops, reports, and picks the best epoch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sparcode.config import Config
from sparcode.data.dataset import Dataset, load_dataset
from sparcode.model.sparcode import SparCodeModel
from sparcode.model.two_tower import TwoTowerModel
from sparcode.train.loop import Trainer, code_usage, selection_metric
from sparcode.train.negatives import CandidateSampler
from sparcode.train.objective import Objective
from sparcode.train.progress import Silent, Terminal
from sparcode.train.validation import Validator
from tests.worlds import planted_table, tiny_config


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_dataset(planted_table(), tiny_config().data, seed=0)


def trainer(dataset: Dataset, config: Config, folder: Path, kind=SparCodeModel, validate=True, **options) -> Trainer:
    """Return a trainer of a fresh model."""
    torch.manual_seed(0)
    model = kind(config, dataset.item_count, None, 0)
    objective = Objective(model, CandidateSampler(config.loss, dataset.popularity, 1), None, 0.0)
    validator = Validator(dataset.validation, 100, config.model.history, None, 0) if validate else None
    progress = options.pop("progress", Silent())
    return Trainer("m", model, objective, dataset.train, validator, model.config, folder, progress, **options)


def popularity_ndcg(dataset: Dataset) -> float:
    """NDCG@10 of the most popular unseen items: internal ids ascend by falling popularity."""
    gains = []
    for row in range(len(dataset.validation)):
        seen = set(dataset.validation.queries.history(row).tolist())
        best = [item for item in range(dataset.item_count) if item not in seen][:10]
        target = int(dataset.validation.targets(row)[0])
        gains.append(1 / np.log2(best.index(target) + 2) if target in best else 0.0)
    return float(np.mean(gains))


@pytest.mark.parametrize("kind", [SparCodeModel, TwoTowerModel])
def test_training_beats_popularity(dataset, tmp_path, kind):
    reports = []
    made = trainer(dataset, tiny_config(), tmp_path, kind, callback=reports.append)
    state = made.fit()
    assert state.best_metric > 1.5 * popularity_ndcg(dataset)
    assert reports[-1]["loss"] < reports[0]["loss"]
    if kind is SparCodeModel:
        assert reports[-1]["quantised_ndcg@10"] > 1.2 * popularity_ndcg(dataset)


def test_reports_and_metrics_lines(dataset, tmp_path):
    reports = []
    made = trainer(dataset, tiny_config(), tmp_path, callback=reports.append)
    state = made.fit()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == reports
    assert [report["epoch"] for report in reports] == [0, 1, 2]
    assert [report["quantised"] for report in reports] == [False, False, True]
    last = reports[-1]
    assert {"usage", "perplexity", "distinct_codes", "codes", "revived", "bias", "padding", "seconds"} <= set(last)
    assert 0 < last["usage"] <= 1
    assert 1 <= last["distinct_codes"] <= 2
    assert last["padding"] <= 0.5
    events = np.diff(dataset.train.indptr)
    assert state.positions == 3 * (events[events > 0] - 1).sum()
    assert state.finished


def test_the_model_ends_with_the_best_weights(dataset, tmp_path):
    made = trainer(dataset, tiny_config(**{"train.epochs": 4, "train.learning_rate": 0.3}), tmp_path)
    state = made.fit()
    assert state.best_epoch >= made.quantised_from, "weights without codebooks cannot be served"
    assert bool(made.model.quantizer.ready)
    assert selection_metric(made.validator.measure(made.model, True)) == pytest.approx(state.best_metric)


def test_early_stopping_waits_for_quantization(dataset, tmp_path, monkeypatch):
    config = tiny_config(**{"train.epochs": 9, "train.patience": 1})
    made = trainer(dataset, config, tmp_path)
    monkeypatch.setattr(made, "_validate", lambda quantised: {"ndcg@10": 0.5})
    state = made.fit()
    assert made.quantised_from == 4
    assert state.best_epoch == 4
    assert state.epoch == 6


@pytest.mark.parametrize(("stop_after", "warmup"), [(2, 0.3), (1, 1.0), (4, 0.0)])
def test_stop_after_shortens_the_run_and_still_gives_codebooks(dataset, tmp_path, stop_after, warmup):
    config = tiny_config(**{"train.epochs": 4, "train.stop_after": stop_after, "quantizer.warmup": warmup})
    made = trainer(dataset, config, tmp_path, validate=False)
    assert made.fit().epoch == stop_after
    assert bool(made.model.quantizer.ready)


def test_without_validation_the_last_epoch_counts(dataset, tmp_path):
    state = trainer(dataset, tiny_config(), tmp_path, validate=False).fit()
    assert state.best_epoch == 2


def test_resume_continues_bit_for_bit(dataset, tmp_path):
    whole = trainer(dataset, tiny_config(), tmp_path / "a")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole.fit()
    for epoch in range(3):  # a new process for every epoch
        part = trainer(dataset, tiny_config(), tmp_path / "b")
        if epoch:
            part.best, state = restored(part)
            part.state = type(part.state)(**state)
        part._epoch(part.state.epoch)
    resumed = trainer(dataset, tiny_config(), tmp_path / "b")
    resumed.fit(resume=True)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def restored(made: Trainer):
    """Load the checkpoint of a trainer."""
    from sparcode.train.checkpoint import load_checkpoint

    return load_checkpoint(made.checkpoint, made.model, made.optimizer)


def test_learning_rate_warms_up_and_falls(dataset, tmp_path):
    made = trainer(dataset, tiny_config(**{"train.epochs": 10}), tmp_path)
    rates = []
    for time in (0.0, 0.25, 0.6, 5.0, 10.0):
        made._set_learning_rate(time)
        rates.append(made.optimizer.param_groups[0]["lr"] / 1e-2)
    assert rates[0] == pytest.approx(0.02, rel=0.01)
    assert 0.4 < rates[1] < 0.6
    assert rates[2] > 0.98
    assert rates[3] == pytest.approx(0.51)
    assert rates[4] == pytest.approx(0.02)


def test_code_usage_equals_counting():
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(5, (60, 2), generator=random)
    codes[:, 1] %= 3
    found = code_usage(codes, codewords=7, heads=3)
    rows = [tuple(code) for code in codes.tolist()]
    assert found["usage"] == pytest.approx(3 / 7)
    assert found["codes"] == len(set(rows))
    queries = [rows[low : low + 3] for low in range(0, 60, 3)]
    assert found["distinct_codes"] == pytest.approx(np.mean([len(set(query)) for query in queries]))
    perplexities = []
    for column in codes.T.tolist():
        share = np.bincount(column) / 60
        perplexities.append(np.exp(-sum(p * np.log(p) for p in share if p)) / 7)
    assert found["perplexity"] == pytest.approx(min(perplexities))


def test_selection_metric_averages_both_scores():
    assert selection_metric({"ndcg@10": 0.2}) == 0.2
    assert selection_metric({"ndcg@10": 0.2, "quantised_ndcg@10": 0.4}) == pytest.approx(0.3)
    assert selection_metric({"loss": 1.0}) is None


def test_the_progress_bar_prints_lines_without_a_terminal(dataset, tmp_path, capsys):
    bar = Terminal()
    trainer(dataset, tiny_config(), tmp_path, progress=bar).fit()
    bar.close()
    shown = capsys.readouterr().err
    assert shown.count("m: epoch") == 3
    assert "validation NDCG@10" in shown
    assert "codes in use" in shown

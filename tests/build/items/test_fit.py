"""Settings of the item lists in worlds whose right answer is known, and the whole family of a trained run."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sparcode.api import SparCode
from sparcode.build.items import fit as module
from sparcode.build.items.evidence import ItemEvidence, ListSettings
from sparcode.build.items.fit import CUTS, DECAYS, LENGTHS, fit_lists
from sparcode.build.items.lists import Neighbours
from sparcode.build.items.transitions import Transitions
from sparcode.build.job import build_index
from sparcode.config import ItemFamilyConfig
from sparcode.index.arrays import read_arrays
from sparcode.index.store import open_index
from sparcode.query.pipeline import Pipeline, QuerySettings
from sparcode.retrievers.evaluation import evaluate_run
from sparcode.types import EvaluationSet
from tests.build.items.test_lists import transitions_of
from tests.worlds import queries_of

ITEMS = 40


def right(items: int = ITEMS) -> np.ndarray:
    """Return scores by which the item after x is x + 1."""
    return np.roll(np.eye(items), 1, axis=1)


def noise(items: int = ITEMS, seed: int = 0) -> np.ndarray:
    """Return scores that say nothing: five random items each, never the next one, one value for all."""
    random, scores = np.random.default_rng(seed), np.zeros((items, items))
    for source in range(items):
        others = [item for item in range(items) if item not in (source, (source + 1) % items)]
        scores[source, random.choice(others, 5, replace=False)] = 1.0
    return scores


def neighbours_of(dense: np.ndarray, longest: int = 39) -> Neighbours:
    """Return the neighbours a dense matrix of scores holds."""
    rows = [
        sorted((-score, item) for item, score in enumerate(scores) if item != source)[:longest]
        for source, scores in enumerate(dense)
    ]
    items = np.array([[item for _, item in row] for row in rows], np.int32).reshape(len(dense), -1)
    scores = np.array([[-score for score, _ in row] for row in rows], np.float32)
    return Neighbours(items, scores.reshape(len(dense), -1))


def questions(histories: list[list[int]], targets: list[int]) -> EvaluationSet:
    """Return one target a history."""
    pointer = np.arange(len(targets) + 1, dtype=np.int64)
    return EvaluationSet(
        np.arange(len(targets), dtype=np.int32), queries_of(histories), pointer, np.array(targets, np.int32)
    )


def successors() -> EvaluationSet:
    """Return a question of one event for every item: what comes next?"""
    return questions([[item] for item in range(ITEMS)], [(item + 1) % ITEMS for item in range(ITEMS)])


def learned(dense: np.ndarray, counted: np.ndarray | None = None, weights: tuple[float, ...] = (1.0,)) -> ItemEvidence:
    """Return evidence of dense scores."""
    lists = None if counted is None else transitions_of(counted)
    return ItemEvidence(neighbours_of(dense), np.array(weights, np.float32), lists)


def test_counts_that_are_noise_are_left_out():
    chosen, figures = fit_lists(learned(right(), 5 * noise()), ItemFamilyConfig(), successors(), ITEMS)
    assert chosen.counted_weight == 0.0
    assert figures["validation_ndcg@10_item_lists"] == pytest.approx(1.0)
    assert figures["list_settings_tried"] >= len(module.COUNTED)


def test_counts_that_are_right_outweigh_learned_noise():
    # 0.05 * 25 is the only product above the 1.0 of the noise.
    chosen, figures = fit_lists(learned(noise(), 0.05 * right()), ItemFamilyConfig(), successors(), ITEMS)
    assert chosen.counted_weight == 25.0
    assert figures["validation_ndcg@10_item_lists"] == pytest.approx(1.0)


def test_both_are_used_where_each_knows_half():
    scores, counts = right(), right()
    scores[::2], counts[1::2] = noise()[::2], 0.0
    chosen, figures = fit_lists(learned(scores, 0.5 * counts), ItemFamilyConfig(), successors(), ITEMS)
    assert chosen.counted_weight > 2.0
    assert figures["validation_ndcg@10_item_lists"] == pytest.approx(1.0)


def older_event_misleads() -> tuple[np.ndarray, EvaluationSet]:
    """Two events; the list of the older one holds a wrong item with 1.3 times the value of the right one."""
    scores, histories, targets = np.zeros((ITEMS, ITEMS)), [], []
    for group in range(0, ITEMS, 4):
        old, new, target, wrong = range(group, group + 4)
        scores[new, target], scores[old, wrong] = 1.0, 1.3
        histories.append([old, new])
        targets.append(target)
    return scores, questions(histories, targets)


def test_the_decay_is_found():
    scores, part = older_event_misleads()
    config = ItemFamilyConfig()
    chosen, figures = fit_lists(learned(scores, weights=(1.0, 1.0)), config, part, ITEMS)
    assert chosen.decay in [decay for decay in DECAYS if decay < 1 / 1.3]
    assert figures["validation_ndcg@10_item_lists"] == pytest.approx(1.0)
    kept, _ = fit_lists(learned(scores, weights=(1.0, 0.5)), config, part, ITEMS)
    assert kept.decay is None, "the model's own weights win a tie"
    counted = ItemEvidence(None, None, transitions_of(scores))
    assert fit_lists(counted, config, part, ITEMS)[0].decay in [decay for decay in DECAYS if decay < 1 / 1.3]


def target_far_down(share: int) -> tuple[np.ndarray, EvaluationSet]:
    """Every ``share``-th of 12 questions needs place 30 of the lists of both its events, the others the first."""
    items, per, histories, targets = 12 * 100, 100, [], []
    scores = np.zeros((items, items), np.float32)
    for number in range(12):
        low = number * per
        first, second, target, fillers = low, low + 1, low + 2, range(low + 3, low + 3 + 90)
        deep = number % share == 0
        for source, others in ((first, fillers[:45]), (second, fillers[45:])):
            order = [*others[:29], target, *others[29:]] if deep else [target, *others]
            for rank, item in enumerate(order):
                scores[source, item] = 1 - 0.001 * rank
        histories.append([first, second])
        targets.append(target)
    return scores, questions(histories, targets)


@pytest.mark.parametrize(("worth", "wanted"), [(0.002, 40), (0.05, 40), (0.15, 20)])
def test_longer_lists_must_pay(worth: float, wanted: int, monkeypatch: pytest.MonkeyPatch):
    # One question of 12 gains: NDCG rises from 11/12 to 1, by 9 percent.
    scores, part = target_far_down(12)
    evidence = ItemEvidence(neighbours_of(scores, 81), np.ones(2, np.float32), None)
    monkeypatch.setattr(module, "WORTH", worth)
    chosen, figures = fit_lists(evidence, ItemFamilyConfig(additive_cut=0.0), part, len(scores))
    assert chosen.length == wanted
    assert figures["validation_ndcg@10_item_lists"] == pytest.approx(1.0 if wanted == 40 else 11 / 12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_catalogues_can_be_fitted(count: int):
    scores = right(count) * (1 - np.eye(count))
    part = questions([[], [0], [count - 1, 0]], [0, count - 1, count - 1])
    evidence = ItemEvidence(neighbours_of(scores, 2), np.ones(2, np.float32), transitions_of(scores))
    chosen, figures = fit_lists(evidence, ItemFamilyConfig(), part, count)
    assert chosen.length == min(LENGTHS)
    assert 0 <= figures["validation_ndcg@10_item_lists"] <= 1


def comes_back(own: bool) -> ItemEvidence:
    """Return evidence of half a word for the item itself and a whole one for the next; ``own``: lists may say both."""
    dense = right() + 0.5 * np.eye(ITEMS)
    if own:
        order = np.argsort(-dense, axis=1, kind="stable")
        neighbours = Neighbours(order.astype(np.int32), np.take_along_axis(dense, order, 1).astype(np.float32))
    else:
        neighbours = neighbours_of(dense)
    return ItemEvidence(neighbours, np.ones(1, np.float32), None, own)


def test_repeats_are_ranked_where_lists_hold_their_own_item():
    part = questions([[item] for item in range(ITEMS)], list(range(ITEMS)))
    chosen, figures = fit_lists(comes_back(True), ItemFamilyConfig(), part, ITEMS)
    assert chosen.own_weight > 2.0, "1 of the next item is less than that times 0.5"
    assert figures["validation_ndcg@10_item_lists"] == pytest.approx(1.0)
    lists = comes_back(True).lists(chosen)
    assert all(item in lists.row(item)[0] for item in range(ITEMS))


def test_repeats_are_misses_otherwise():
    part = questions([[item] for item in range(ITEMS)], list(range(ITEMS)))
    chosen, figures = fit_lists(comes_back(False), ItemFamilyConfig(), part, ITEMS)
    assert (chosen.own_weight, figures["validation_ndcg@10_item_lists"]) == (1.0, 0.0)


def test_an_own_item_that_only_disturbs_is_left_out():
    chosen, figures = fit_lists(comes_back(True), ItemFamilyConfig(additive_cut=0.0), successors(), ITEMS)
    assert chosen.own_weight < 2.0
    assert figures["validation_ndcg@10_item_lists"] == pytest.approx(1.0)


def test_a_run_that_ranks_repeats_is_fitted_and_answers_so(run: Path):
    plain = build_index(run)
    held = [item in Pipeline.open(run).searcher.index.row(item + plain["codes"])[0] for item in range(20)]
    assert not any(held)
    told = (run / "config.toml").read_text().replace("[query]", "[query]\ninclude_seen = true")
    (run / "config.toml").write_text("\n".join(line for line in told.splitlines() if line != "include_seen = false"))
    summary = build_index(run)
    own = ListSettings(**summary["item_lists"])
    pipeline = Pipeline.open(run)
    first = pipeline.searcher.index.family("item").first_row
    held = [item in pipeline.searcher.index.row(first + item)[0] for item in range(20)]
    assert all(held) if own.own_weight else not any(held)
    figures = {
        seen: evaluate_run(run, "validation", ["sparcode-cache"], include_seen=seen)["results"][0]["metrics"]["ndcg@10"]
        for seen in (None, True)
    }
    # Validation has fewer than 8,000 queries: the fit has seen all of them, and the default protocol is the run's own.
    assert figures[None] == figures[True] == pytest.approx(summary["validation_ndcg@10_cache"])
    model, user = SparCode.load(run), "u000"
    found = [model.recommend(users=[user], k=20, include_seen=seen)[0].tolist() for seen in (None, True)]
    assert found[0] == found[1]


def test_what_nothing_speaks_for_stays_short():
    chosen, _ = fit_lists(learned(right()), ItemFamilyConfig(), successors(), ITEMS)
    assert chosen.length == min(LENGTHS)


def test_fixed_settings_are_respected():
    scores, part = older_event_misleads()
    config = ItemFamilyConfig(additive_length=5, additive_cut=0.3, counted_weight=1.5)
    chosen, _ = fit_lists(learned(scores, noise(), (1.0, 1.0)), config, part, ITEMS)
    assert (chosen.length, chosen.cut, chosen.counted_weight) == (5, 0.3, 1.5)
    free, _ = fit_lists(learned(scores, noise(), (1.0, 1.0)), ItemFamilyConfig(additive_length=5), part, ITEMS)
    assert free.length == 5
    assert free.cut in CUTS


@pytest.fixture
def run(tiny_run, tmp_path: Path) -> Path:
    """A copy of a run with validation that a test may change."""
    return Path(shutil.copytree(tiny_run.folder, tmp_path / "run"))


def slow_family(run: Path, chosen: ListSettings) -> list[dict[int, int]]:
    """Return {item: impact} of every item's list, from the model files and nothing else."""
    model, spec = (
        read_arrays(run / "model" / "additive.safetensors"),
        json.loads((run / "model" / "additive.json").read_text()),
    )
    counted = Transitions(**read_arrays(run / "model" / "transitions.safetensors"))
    dense = model["sources"] @ (model["targets"] / np.float32(spec["temperature"])).T
    lists = []
    for source, scores in enumerate(dense):
        order = sorted((item for item in range(len(scores)) if item != source), key=lambda item: (-scores[item], item))
        left_out = max(scores[order[chosen.length]], np.float32(0)) if len(order) > chosen.length else np.float32(0)
        values: dict[int, float] = defaultdict(float)
        for item in order[: chosen.length]:
            value = scores[item] - np.float32(chosen.cut) * left_out
            if value > 0:
                values[item] += float(value)
        for item, value in zip(*counted.row(source), strict=True):
            values[int(item)] += chosen.counted_weight * float(value)
        lists.append({item: float(np.float32(value)) for item, value in values.items() if np.float32(value) > 0})
    step = max(max(row.values(), default=0.0) for row in lists) / 255
    return [{item: min(max(int(value / step + 0.5), 1), 255) for item, value in row.items()} for row in lists]


def histories_of(items: int, rows: int = 60) -> list[list[int]]:
    random = np.random.default_rng(0)
    return [random.integers(0, items, random.integers(0, 30)).tolist() for _ in range(rows)]


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"families.item.additive_length": 6, "families.item.additive_cut": 0.5, "families.item.counted_weight": 2.0},
        {"families.item.additive_length": 200, "families.item.counted_weight": 0.0},
    ],
)
def test_cached_sums_of_the_family_equal_a_dictionary(run: Path, overrides):
    summary = build_index(run, overrides=overrides)
    written, query = json.loads((run / "build.json").read_text()), json.loads((run / "query.json").read_text())
    assert written["item_lists"] == query["item_lists"] == summary["item_lists"]
    chosen = ListSettings(**query["item_lists"])
    for key, value in overrides.items():
        assert getattr(chosen, key.removeprefix("families.item.").replace("additive_", "")) == value
    lists = slow_family(run, chosen)
    pipeline = Pipeline.open(run)
    family = pipeline.searcher.index.family("item")
    for item, wanted in enumerate(lists):
        ids, impacts = pipeline.searcher.index.row(family.first_row + item)
        assert dict(zip(ids.tolist(), impacts.tolist(), strict=True)) == wanted, item
    pipeline = pipeline.with_settings(replace(pipeline.settings, learned_weight=0))
    histories = histories_of(pipeline.item_count)
    found = pipeline.search(pipeline.encode(queries_of(histories)), 20)
    for row, history in enumerate(histories):
        sums: dict[int, int] = defaultdict(int)
        for age, weight in enumerate(query["item_weights"][: len(history)]):
            for item, impact in lists[history[-1 - age]].items():
                sums[item] += weight * impact
        seen = set(history)
        best = sorted((-total, item) for item, total in sums.items() if item not in seen and total)[:20]
        kept = found.ids[row] >= 0
        pairs = zip((-found.sums[row][kept].astype(np.int64)).tolist(), found.ids[row][kept].tolist(), strict=True)
        assert list(pairs) == best


def test_built_twice_the_same_bytes(run: Path):
    build_index(run)
    first = (run / "query.json").read_bytes(), open_index(run / "index", verify="full")[0].arrays()
    build_index(run)
    assert (run / "query.json").read_bytes() == first[0]
    again = open_index(run / "index", verify="full")[0].arrays()
    assert {name: array.tobytes() for name, array in again.items()} == {
        name: array.tobytes() for name, array in first[1].items()
    }


def test_settings_survive_saving_and_loading(run: Path):
    written = json.loads((run / "query.json").read_text())
    opened = Pipeline.open(run).settings
    assert opened == QuerySettings.from_json(written)
    assert {key: written[key] for key in opened.to_json()} == opened.to_json()
    odd = QuerySettings(3, 2, (32, 0, 7), 0.1 + 0.2, 2.0**-7.5)
    assert QuerySettings.from_json(json.loads(json.dumps(odd.to_json()))) == odd
    assert ListSettings(**written["item_lists"]).to_json() == written["item_lists"]


def test_a_run_that_follows_another_takes_its_lists_over(run: Path):
    lists = ListSettings(length=3, cut=0.5, counted_weight=2.0, decay=0.6)
    taken = json.loads((run / "query.json").read_text()) | {"item_lists": lists.to_json(), "taken_from": "other"}
    (run / "query.json").write_text(json.dumps(taken))
    summary = build_index(run)
    assert summary["item_lists"] == lists.to_json()
    assert "validation_ndcg@10_item_lists" not in summary, "nothing was fitted"
    assert json.loads((run / "query.json").read_text()) == taken
    index = Pipeline.open(run).searcher.index
    for item, wanted in enumerate(slow_family(run, lists)):
        ids, impacts = index.row(index.family("item").first_row + item)
        assert dict(zip(ids.tolist(), impacts.tolist(), strict=True)) == wanted


@pytest.mark.parametrize("part", ["counted", "additive"])
def test_each_part_can_be_left_out(run: Path, part: str):
    summary = build_index(run, overrides={f"families.item.{part}": False})
    assert summary["validation_ndcg@10_item_lists"] > 0
    assert Pipeline.open(run).searcher.index.has_family("item")
    both_off = {"families.item.counted": False, "families.item.additive": False}
    assert "item_lists" not in build_index(run, overrides=both_off)
    assert not Pipeline.open(run).searcher.index.has_family("item")

"""The offline job end to end on a tiny trained run: policies, runners, restart, failure."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparcode.build import blocks, budget
from sparcode.build import cut as cutting
from sparcode.build.job import build_index, exclusive
from sparcode.build.stored_codes import busiest, fallback_table, rows_of
from sparcode.config import to_toml, updated
from sparcode.errors import BudgetError, ConfigError, RunError
from sparcode.files import write_json
from sparcode.index.arrays import read_arrays, write_arrays
from sparcode.index.layout import Index, composite
from sparcode.index.store import open_index
from sparcode.query.codes import decode
from sparcode.query.rescore.rescorer import Rescorer
from sparcode.run import Run, hash_model
from tests.worlds import planted_table, tiny_config


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without an index."""
    pytest.importorskip("torch")
    from sparcode.train.run import train_run

    folder = tmp_path_factory.mktemp("trained") / "run"
    train_run(planted_table(80, 48), folder, tiny_config(), baselines=False, progress=False)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def opened(run: Path) -> Index:
    return open_index(run / "index", verify="full")[0]


def content(index: Index) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in index.arrays().items()} | {"scale": repr(index.scale).encode()}


def learned_scores(run: Path, index: Index) -> np.ndarray:
    """log P(item | code) (C, n) of the stored codes, by the plain rescorer on decoded vectors."""
    arrays = read_arrays(run / "model" / "encoder.safetensors")
    vectors = decode(index.code_table, arrays["codebooks"], "product")
    scores = Rescorer.open(run / "model").token_scores(vectors, slice(None))
    return scores - np.log(np.exp(scores.astype(np.float64)).sum(axis=1, keepdims=True))


def sign(run: Path) -> None:
    """Make the changed model files the ones that were trained."""
    Run.open(run).update(model_hash=hash_model(run / "model"))


def set_config(run: Path, **changes: object) -> None:
    (run / "config.toml").write_text(to_toml(updated(Run.open(run).config, changes)))


def test_density_stores_the_best_pairs_and_their_values(run):
    summary = build_index(run, density=10.0)
    index = opened(run)
    scores = learned_scores(run, index)
    wanted = round(0.1 * scores.size)
    assert abs(summary["learned_postings"] - wanted) <= 1
    bias = -np.sort(scores.ravel())[::-1][wanted]
    assert summary["offset"] == pytest.approx(bias, abs=1e-4)
    for row in range(index.family("learned").rows):
        ids, impacts = index.row(row)
        sure = np.flatnonzero(scores[row] + bias > 1e-3)
        assert set(sure) <= set(ids.tolist())
        assert np.allclose(impacts * index.scale, scores[row][ids] + bias, atol=index.scale + 1e-3)
    assert not (run / "index-work").exists()


def test_item_family_values_can_be_undone(run):
    build_index(run, density=5.0, overrides={"families.item.additive": False})
    index, lists = opened(run), read_arrays(run / "model" / "transitions.safetensors")
    family = index.family("item")
    assert family.rows == index.item_count
    assert family.first_row == index.family("learned").rows
    for item in range(index.item_count):
        ids, impacts = index.row(family.first_row + item)
        part = slice(lists["indptr"][item], lists["indptr"][item + 1])
        assert np.array_equal(ids, lists["items"][part])
        step = index.scale * family.multiplier
        assert np.allclose(impacts * step, lists["values"][part], atol=step)
    for each in index.families:
        low, high = int(index.indptr[each.first_row]), int(index.indptr[each.stop_row])
        assert (index.postings[low:high] & 255).max() == 255


def test_bias_is_taken_as_given(run):
    build_index(run, bias=3.5)
    index = opened(run)
    scores = learned_scores(run, index)
    clear = np.abs(scores + 3.5) > 1e-3
    stored = np.zeros_like(clear)
    for row in range(len(scores)):
        stored[row, index.row(row)[0]] = True
    assert np.array_equal(stored[clear], (scores > -3.5)[clear])


def test_a_trained_bias_is_the_default(run):
    spec = json.loads((run / "model" / "rescorer.json").read_text())
    write_json(run / "model" / "rescorer.json", spec | {"bias": -2.0})
    sign(run)
    assert build_index(run)["offset"] == -2.0
    assert build_index(run, density=20.0)["density_percent"] == pytest.approx(20.0, abs=0.1)
    summary = build_index(run, budget_mb=1.0)
    assert summary["mu"] >= 2.0 - 1e-6  # nothing below the trained zero is stored, whatever the budget


def test_runners_and_block_sizes_give_the_same_bytes(run):
    expected = None
    for runner, workers, size in (("serial", None, 256), ("serial", None, 3), ("threads", 2, 5), ("processes", 2, 16)):
        build_index(run, density=8.0, runner=runner, workers=workers, block_codes=size)
        found = content(opened(run))
        expected = expected or found
        assert found == expected, (runner, size)


def test_policy_length_keeps_the_best_of_every_code(run):
    expected = None
    for runner, workers, size in (("serial", None, 256), ("serial", None, 3), ("threads", 2, 5), ("processes", 2, 16)):
        summary = build_index(run, length=6, runner=runner, workers=workers, block_codes=size)
        found = content(opened(run))
        expected = expected or found
        assert found == expected, (runner, size)
    index = opened(run)
    scores, rows = learned_scores(run, index), index.family("learned").rows
    assert index.lengths()[:rows].tolist() == [6] * rows
    assert summary["policy"] == "length"
    assert summary["settings"] == {"length": 6}
    for row in range(rows):
        edge = np.sort(scores[row])[-6]
        assert set(np.flatnonzero(scores[row] > edge + 1e-4)) <= set(index.row(row)[0].tolist())
        assert (scores[row][index.row(row)[0]] > edge - 1e-4).all()
    set_config(run, **{"index.policy": "length", "index.length": 1000})
    build_index(run)
    assert opened(run).lengths()[:rows].tolist() == [index.item_count] * rows


def test_budget_in_bytes_is_met(run):
    whole = build_index(run, density=100.0)["cache_bytes"]
    least = build_index(run, density=0.5)["cache_bytes"]
    for share in (0.3, 0.6):
        wanted = least + share * (whole - least)
        summary = build_index(run, budget_mb=wanted / 1e6)
        assert 0.98 * wanted <= summary["cache_bytes"] <= wanted
        assert summary["cache_bytes"] == opened(run).cache_bytes


def test_budget_that_is_too_small_names_one_that_is_not(run):
    with pytest.raises(BudgetError) as caught:
        build_index(run, budget_mb=0.0001)
    smallest = float(str(caught.value).split("smallest feasible is ")[1].split()[0])
    assert build_index(run, budget_mb=smallest)["cache_bytes"] <= smallest * 1e6


def test_budget_in_reads_is_met(run):
    base = build_index(run, density=100.0)["postings_per_query"]
    with pytest.raises(BudgetError, match="item lists alone need") as caught:
        build_index(run, postings_per_query=1.0)
    alone = float(str(caught.value).split("need ")[1].split(";")[0])
    wanted = alone + 0.6 * (base - alone)
    assert 0.98 * wanted <= build_index(run, postings_per_query=wanted)["postings_per_query"] <= wanted
    with pytest.raises(BudgetError, match="smallest feasible is") as caught:
        build_index(run, postings_per_query=alone + 0.01)
    smallest = float(str(caught.value).split("smallest feasible is ")[1].split()[0])
    assert build_index(run, postings_per_query=smallest)["postings_per_query"] <= smallest


def test_families_can_be_switched_off(run):
    set_config(run, **{"families.learned.enabled": False})
    build_index(run)
    assert [family.name for family in opened(run).families] == ["item"]
    set_config(run, **{"families.learned.enabled": True, "families.item.enabled": False})
    build_index(run)
    assert [family.name for family in opened(run).families] == ["learned"]


def test_counts_fill_the_lists_when_the_spec_says_so(run):
    spec = json.loads((run / "model" / "rescorer.json").read_text())
    write_json(run / "model" / "rescorer.json", spec | {"lists": "counts"})
    sign(run)
    summary = build_index(run, density=10.0)
    assert summary["offset"] > 0  # log-probabilities are negative


def test_kill_in_the_middle_then_restart_gives_the_same_bytes(run, tmp_path):
    untouched = Path(shutil.copytree(run, tmp_path / "untouched"))
    build_index(untouched, density=8.0, block_codes=4)
    build_index(run, density=3.0)
    earlier = content(opened(run))
    script = (
        "import os, sys\n"
        "from sparcode.build.job import build_index\n"
        "def stop(done, total):\n"
        "    if done == 2: os._exit(9)\n"
        "build_index(sys.argv[1], density=8.0, block_codes=4, progress=stop)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(run)], env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert ended.returncode == 9
    assert content(opened(run)) == earlier
    finished = sorted((run / "index-work").rglob("block-*"))
    assert len(finished) == 2
    made: list[blocks.Block] = []
    real = blocks.score_block
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "score_block", lambda *args: made.append(args[1]) or real(*args))
        build_index(run, density=8.0, block_codes=4)
    total = -(-len(opened(run).code_table) // 4)
    assert len(made) == total - 2
    assert content(opened(run)) == content(opened(untouched))


def test_control_c_keeps_the_earlier_index_and_the_build_goes_on(run, tmp_path):
    untouched = Path(shutil.copytree(run, tmp_path / "untouched"))
    build_index(untouched, density=8.0, block_codes=4)
    build_index(run, density=3.0)
    earlier = content(opened(run))

    def press(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(run, density=8.0, block_codes=4, progress=press)
    assert content(opened(run)) == earlier
    build_index(run, density=8.0, block_codes=4)
    assert content(opened(run)) == content(opened(untouched))


DAMAGES = {
    "cut": lambda content: content[:-3],
    "one bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),  # of a score: only the digest tells
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_is_made_again(run, damage):
    build_index(run, density=8.0)
    expected = content(opened(run))

    def spoil(done: int, total: int) -> None:
        if done == 1:
            for path in (run / "index-work").rglob("block-*"):
                path.write_bytes(DAMAGES[damage](path.read_bytes()))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(run, density=8.0, block_codes=4, progress=spoil)
    assert content(opened(run)) == expected
    spoilt = {path: path.read_bytes() for path in (run / "index-work").rglob("block-*")}
    read, made = blocks.read_shards, {}

    def noted(parts: list[blocks.Block]) -> blocks.Candidates:
        made.update({path: path.read_bytes() for path in spoilt})
        return read(parts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "read_shards", noted)
        build_index(run, density=8.0, block_codes=4)
    assert content(opened(run)) == expected
    assert all(made[path] != spoilt[path] for path in spoilt), "a bit too small to see in the index counts too"


def test_two_builds_at_once_are_refused(run):
    with exclusive(run / "index-work"), pytest.raises(RunError, match="another process"):
        build_index(run, density=8.0)


def test_contradictions_stop_before_any_work(run):
    with pytest.raises(ConfigError):
        build_index(run, density=1.0, bias=2.0)
    assert not (run / "index").exists()


def test_every_code_falls_back_to_the_nearest_stored_one():
    rng = np.random.default_rng(0)
    codebooks = rng.normal(size=(2, 6, 3)).astype("f")
    codes = np.unique(rng.integers(0, 6, (9, 2)), axis=0).astype(np.uint16)
    stored = busiest(codes, np.arange(len(codes)), 6, 5)
    assert len(stored.codes) == 5
    assert set(map(tuple, stored.codes)) == set(map(tuple, codes[-5:]))
    table = fallback_table(stored, codebooks, "product")
    vectors = decode(stored.codes, codebooks, "product")
    for code in np.ndindex(6, 6):
        vector = decode(np.array([code], np.uint16), codebooks, "product")[0]
        row = table[composite(np.array(code), 6)]
        gaps = ((vectors - vector) ** 2).sum(1)
        assert gaps[row] == pytest.approx(gaps.min(), abs=1e-5)
    assert table[composite(stored.codes, 6)].tolist() == [0, 1, 2, 3, 4]


def test_codes_without_a_fallback_table_are_resolved(run):
    codes = read_arrays(run / "model" / "codes.safetensors")
    stored = busiest(codes["codes"], codes["traffic"], 8, 6)
    codebooks = read_arrays(run / "model" / "encoder.safetensors")["codebooks"]
    table = fallback_table(stored, codebooks, "product")
    every = np.indices((8, 8)).reshape(2, -1).T.astype(np.uint16)
    asked = np.concatenate([every, every[::-1]])
    without, by_table = (rows_of(asked, stored, each, codebooks, "product") for each in (None, table))
    assert np.array_equal(without, by_table)


def test_settings_taken_from_another_run_are_kept(run):
    settings = {"learned_weight": 3, "probes": 1, "item_weights": [5], "evidence_weight": 0.5, "taken_from": "other"}
    write_json(run / "query.json", settings)
    build_index(run, density=5.0)
    assert json.loads((run / "query.json").read_text()) == settings


def test_a_run_without_codes_is_refused(run):
    arrays = read_arrays(run / "model" / "codes.safetensors")
    write_arrays(run / "model" / "codes.safetensors", {name: array[:0] for name, array in arrays.items()})
    sign(run)
    with pytest.raises(Exception, match="holds no codes"):
        build_index(run)


NAMES = {"budget_mb": "cache_bytes", "postings_per_query": "postings_per_query"}


def lists_of_items(index: Index, name: str) -> np.ndarray:
    """In how many lists of a family each item is (n,)."""
    family = index.family(name)
    low, high = int(index.indptr[family.first_row]), int(index.indptr[family.stop_row])
    return np.bincount(index.postings[low:high] >> 8, minlength=index.item_count)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("sampled", [True, False])
def test_every_item_is_in_as_many_lists_as_asked_for_within_the_budget(run, alone, sampled, monkeypatch):
    if sampled:
        monkeypatch.setattr(cutting, "MOST_CANDIDATES", 0)
    overrides = {"families.item.enabled": not alone, "families.item.length": 2}
    whole = build_index(run, density=100.0, overrides=overrides)["cache_bytes"]
    seen = np.bincount(Run.open(run).dataset.train.items, minlength=opened(run).item_count) > 0
    merit = None
    for floor in (0, 1, 3):
        summary = build_index(run, budget_mb=0.5 * whole / 1e6, item_floor=floor, overrides=overrides)
        assert 0.98 * 0.5 * whole <= summary["cache_bytes"] <= 0.5 * whole
        assert summary["settings"]["item_floor"] == floor
        index = opened(run)
        held = sum(lists_of_items(index, family.name) for family in index.families)
        assert (held >= floor)[seen].all()
        missing = {family.name: int((lists_of_items(index, family.name) == 0).sum()) for family in index.families}
        assert summary["items_in_no_list_of"] == missing | {"any": int((held == 0).sum())}
        assert summary["items_in_no_list"] == missing["learned"]
        kept = summary["learned_postings"] - summary["item_floor_postings"]
        assert merit is None or kept <= merit
        merit = kept


def test_covered_items_are_in_the_lists_where_they_score_best(run, monkeypatch):
    monkeypatch.setattr(budget, "AFFORDED", 1)
    monkeypatch.setattr(cutting, "MIN_LIST", 0)
    alone = {"families.item.enabled": False}
    with pytest.raises(BudgetError) as caught:
        build_index(run, budget_mb=0.0001, item_floor=1, overrides=alone)
    smallest = float(str(caught.value).split("smallest feasible is ")[1].split()[0])
    summary = build_index(run, budget_mb=1.3 * smallest, item_floor=1, overrides=alone)
    index = opened(run)
    scores = learned_scores(run, index)
    stored = np.zeros(scores.shape, bool)
    for row in range(len(scores)):
        stored[row, index.row(row)[0]] = True
    beneath = stored & (scores < -summary["offset"] - 1e-3)
    assert 0 < beneath.sum() <= summary["item_floor_postings"]
    for row, item in np.argwhere(beneath):
        assert stored[:, item].sum() == 1
        assert scores[row, item] >= scores[:, item].max() - 1e-4


def test_item_floor_gives_the_same_bytes_whoever_scores(run):
    expected = None
    for runner, workers, size in (("serial", None, 256), ("serial", None, 3), ("threads", 2, 5), ("processes", 2, 16)):
        made = {"runner": runner, "workers": workers, "block_codes": size}
        build_index(run, budget_mb=0.0016, item_floor=2, overrides={"families.item.enabled": False}, **made)
        found = content(opened(run))
        expected = expected or found
        assert found == expected, (runner, size)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_shard_of_covered_items_is_made_again(run, monkeypatch, damage):
    given = {"budget_mb": 0.0016, "item_floor": 2, "block_codes": 4, "overrides": {"families.item.enabled": False}}
    build_index(run, **given)
    expected = content(opened(run))

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(blocks, "read_cover", stop)
        with pytest.raises(KeyboardInterrupt):
            build_index(run, **given)
    found = sorted((run / "index-work").rglob("cover-*"))
    assert len(found) > 1
    spoilt = DAMAGES[damage](found[0].read_bytes())
    found[0].write_bytes(spoilt)
    made, read = [], blocks.read_cover
    monkeypatch.setattr(blocks, "read_cover", lambda *parts: made.append(found[0].read_bytes()) or read(*parts))
    build_index(run, **given)
    assert made[0] != spoilt
    assert content(opened(run)) == expected


@pytest.mark.parametrize("alone", [True, False])
def test_an_item_floor_that_is_too_dear_names_a_budget_that_is_not(run, alone):
    overrides = {"families.item.enabled": not alone}
    with pytest.raises(BudgetError, match="postings for item_floor and 2 codes") as caught:
        build_index(run, budget_mb=0.0003, item_floor=2, overrides=overrides)
    assert "\n" not in str(caught.value)
    smallest = float(str(caught.value).split("smallest feasible is ")[1].split()[0])
    assert build_index(run, budget_mb=smallest, item_floor=2, overrides=overrides)["cache_bytes"] <= smallest * 1e6
    with pytest.raises(BudgetError, match="smallest feasible is"):
        build_index(run, budget_mb=0.995 * smallest, item_floor=2, overrides=overrides)


def test_an_item_floor_that_reads_too_much_names_a_budget_that_is_not(run):
    given = {"item_floor": 3, "overrides": {"families.item.enabled": False}}
    with pytest.raises(BudgetError, match="too small for the shortest lists and item_floor") as caught:
        build_index(run, postings_per_query=0.01, **given)
    smallest = float(str(caught.value).split("smallest feasible is ")[1].split()[0])
    assert build_index(run, postings_per_query=smallest, **given)["postings_per_query"] <= smallest
    assert (lists_of_items(opened(run), "learned")[np.unique(Run.open(run).dataset.train.items)] >= 3).all()


def test_an_item_floor_that_cannot_be_met_is_refused(run):
    with pytest.raises(ConfigError, match="expected at most"):
        build_index(run, budget_mb=1.0, item_floor=10_000)
    with pytest.raises(ConfigError, match="learned lists and they are off"):
        build_index(run, budget_mb=1.0, item_floor=1, overrides={"families.learned.enabled": False})


@pytest.mark.parametrize("limits", [["budget_mb"], ["postings_per_query"], [*NAMES]])
def test_prices_found_on_a_sample_meet_the_budget(run, limits, monkeypatch):
    monkeypatch.setattr(cutting, "MOST_CANDIDATES", 0)
    whole, least = build_index(run, density=100.0), build_index(run, density=0.5)
    for share in (0.15, 0.4, 0.7):
        wanted = {key: least[name] + share * (whole[name] - least[name]) for key, name in NAMES.items()}
        wanted["budget_mb"] /= 1e6
        wanted = {key: wanted[key] for key in limits}
        summary = build_index(run, **wanted)
        ratios = [summary["postings_per_query"] / wanted.get("postings_per_query", np.inf)]
        ratios.append(summary["cache_bytes"] / 1e6 / wanted.get("budget_mb", np.inf))
        assert 0.98 <= max(ratios) <= 1.0, (wanted, ratios)

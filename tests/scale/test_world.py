"""Planted scale worlds: the law against its formula, draws against the law, the optimum against brute force."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.config import DataConfig
from sparcode.data.dataset import load_dataset
from sparcode.data.plain_types import plain_table
from sparcode.data.tables import read_tables
from sparcode.errors import DataError
from sparcode.scale.world import files as scale_files
from sparcode.scale.world.catalogue import SPREAD, make_catalogue
from sparcode.scale.world.law import Law
from sparcode.scale.world.sampling import Proposals, draw_distinct
from sparcode.scale.world.users import BLOCK, Tastes, draw_tastes
from sparcode.scale.world.world import ScaleWorld

DIAL = (0.0, 0.3, 1.0)


def small(interaction: float = 0.5, **arguments: Any) -> ScaleWorld:
    """A world that a dense table of probabilities fits easily."""
    return ScaleWorld(
        **{"items": 80, "users": 40, "events_per_user": 6, "width": 16} | arguments, interaction=interaction
    )


def literal_law(world: ScaleWorld, user: int) -> np.ndarray:
    """P(c | u) of all items as the docstring of scale_world writes it, one item after the other."""
    tastes, law = world.tastes(np.array([user])), world.law
    theta, dial = law.steepness, law.interaction
    interests, mixed = tastes.vectors[0, :-1], tastes.vectors[0, -1]
    shares = [math.exp(value) for value in tastes.log_shares[0]]
    values = []
    for item in range(world.items):
        z = world.catalogue.latents(np.array([item]))[0]
        inner = sum(share * math.exp(theta * (v @ z)) for share, v in zip(shares, interests, strict=True))
        utility = (1 - dial) * theta * (mixed @ z) + dial * math.log(inner)
        values.append(math.exp(world.catalogue.log_weight[item]) * math.exp(utility))
    return np.array(values) / sum(values)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Scores as probabilities over all items, row by row."""
    values = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def ndcg(truth: np.ndarray, ranking_scores: np.ndarray, k: int = 10) -> float:
    """Mean expected NDCG@k of a ranking by ``ranking_scores`` when the next event follows ``truth``."""
    best = np.argsort(-ranking_scores, axis=1, kind="stable")[:, :k]
    return float((np.take_along_axis(truth, best, axis=1) @ (1 / np.log2(np.arange(2, k + 2)))).mean())


def assert_follows(drawn: np.ndarray, law: np.ndarray) -> None:
    """Chi-square test: cells that expect under 5 are joined; the statistic lies within 4 deviations of its mean."""
    counts, expected = np.bincount(drawn, minlength=len(law)), law * len(drawn)
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    used = expected > 0
    assert counts[~used].sum() == 0
    freedom = used.sum() - 1
    assert freedom > 10
    statistic = ((counts[used] - expected[used]) ** 2 / expected[used]).sum()
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)


# -- the law


@pytest.mark.parametrize("dial", DIAL)
def test_true_scores_are_the_law(dial: float) -> None:
    world = small(dial)
    users = np.array([7, 0, 23])
    for user, row in zip(users, probabilities(world.true_scores(users)), strict=True):
        expected = literal_law(world, int(user))
        assert expected.sum() == pytest.approx(1)
        np.testing.assert_allclose(row, expected, rtol=1e-9)


def test_true_scores_of_some_items_are_those_of_all() -> None:
    world = small()
    items = np.array([5, 79, 5, 0])
    np.testing.assert_allclose(
        world.true_scores(np.arange(3), items), world.true_scores(np.arange(3))[:, items], rtol=1e-12
    )


def test_latents_are_what_the_catalogue_says() -> None:
    catalogue = make_catalogue(3000, 12, 32, 1.0, 0)
    np.testing.assert_allclose(np.linalg.norm(catalogue.topics, axis=1), 1)
    np.testing.assert_allclose(np.linalg.norm(catalogue.styles, axis=1), 1)
    assert np.linalg.norm(catalogue.offset.astype(np.float64), axis=1).max() <= SPREAD
    weights = np.sort(np.exp(catalogue.log_weight))[::-1]
    np.testing.assert_allclose(weights[0] / weights[:50], np.arange(1, 51), rtol=1e-9)
    within = [catalogue.topics[catalogue.group_of_topic == group] for group in range(3)]
    assert np.mean([(rows @ rows.T)[0, 1] for rows in within]) > 0.2


def test_shelves_hold_every_item_once() -> None:
    catalogue = make_catalogue(500, 8, 16, 1.0, 0)
    shelves = catalogue.shelves
    assert np.array_equal(np.sort(shelves.order), np.arange(500))
    shelf = np.repeat(np.arange(8 * 64), np.diff(shelves.pointers))
    assert np.array_equal(shelf, catalogue.topic[shelves.order] * 64 + catalogue.style[shelves.order])
    assert catalogue.shelf_weights.sum() == pytest.approx(1)


@pytest.mark.parametrize("dial", DIAL)
def test_perplexity_is_met(dial: float) -> None:
    world = small(dial, items=2000, users=400, perplexity=100)
    law = probabilities(world.true_scores(np.arange(400)))
    assert np.exp(-np.mean(np.sum(law * np.log(law), axis=1))) == pytest.approx(100, rel=0.35)


def test_users_with_one_interest_do_not_see_the_dial() -> None:
    laws = [probabilities(Law(dial, 6.0).scores(*_one_interest())) for dial in DIAL]
    np.testing.assert_allclose(laws[0], laws[1], rtol=1e-9)
    np.testing.assert_allclose(laws[0], laws[2], rtol=1e-9)


def _one_interest() -> tuple[Tastes, np.ndarray, np.ndarray]:
    catalogue = make_catalogue(60, 8, 16, 0.8, 0)
    return draw_tastes(catalogue, 5, 1, 0, "one"), catalogue.latents(slice(None)), catalogue.log_weight


# -- the draws


def many_copies(world: ScaleWorld, user: int, copies: int) -> Proposals:
    """Proposals of a user, ``copies`` times over."""
    return Proposals.of(world.catalogue, world.law, world.tastes(np.full(copies, user)))


@pytest.mark.parametrize("dial", DIAL)
@pytest.mark.parametrize("user", [1, 2])
def test_draws_follow_the_law(dial: float, user: int) -> None:
    world = small(dial)
    items, accepted = many_copies(world, user, 1).draw(np.zeros(100_000, np.int64), np.random.default_rng(0))
    assert accepted.mean() > 0.05
    assert_follows(items[accepted], literal_law(world, user))


def test_second_draws_follow_the_law_over_what_is_left() -> None:
    world, copies = small(), 20_000
    law = literal_law(world, 3)
    proposals = many_copies(world, 3, copies)
    pairs = draw_distinct(proposals, np.full(copies, 2), np.random.default_rng(1)).reshape(-1, 2)
    assert_follows(pairs[:, 0], law)
    assert_follows(pairs[:, 1], law * (law / (1 - law)).sum() - law * law / (1 - law))


@settings(deadline=None, max_examples=25)
@given(dial=st.floats(0, 1), steepness=st.floats(0.1, 60), seed=st.integers(0, 5))
def test_the_bound_holds_for_every_item(dial: float, steepness: float, seed: int) -> None:
    catalogue = make_catalogue(200, 8, 16, 1.0, seed)
    tastes = draw_tastes(catalogue, 6, 3, seed, "bound")
    proposals = Proposals.of(catalogue, Law(dial, steepness), tastes)
    users, items = np.divmod(np.arange(6 * 200), 200)
    ratio = proposals._log_acceptance(users, catalogue.topic[items], catalogue.style[items], items)
    assert ratio.max() <= 1e-9
    assert np.isfinite(ratio).all()


def test_histories_are_distinct_items_in_order_of_time() -> None:
    world = small(users=700)
    events = world.events()
    lengths = np.diff(events.indptr)
    assert len(events) == 700
    assert (lengths.min(), lengths.max()) == (3, 9)
    assert len(events.items) == len(events.times) == events.indptr[-1]
    for user in range(700):
        assert len(set(events.row(user).tolist())) == lengths[user]
        assert (np.diff(events.times[events.indptr[user] : events.indptr[user + 1]]) > 0).all()
    assert np.array_equal(events.row(699), world.events_of(699))
    assert world.targets(np.array([699, 4])).tolist() == [events.row(699)[-1], events.row(4)[-1]]


def test_drawn_targets_reach_the_expected_ndcg() -> None:
    world = small(items=300, users=1500, events_per_user=12)
    optimum = world.optimum(np.arange(1500), 10)
    gains = 1 / np.log2(np.arange(2, 12))
    variance = float(np.mean(optimum.probability @ gains**2 - optimum.ndcg**2))
    drawn = world.drawn_ndcg(np.arange(1500), optimum.ids)
    assert abs(drawn - optimum.ndcg.mean()) < 3 * math.sqrt(variance / 1500)
    assert world.expected_ndcg(np.arange(1500), 10) == pytest.approx(float(optimum.ndcg.mean()))


# -- the optimum


@settings(deadline=None, max_examples=20)
@given(
    dial=st.sampled_from(DIAL), k=st.integers(1, 71), chunk=st.integers(1, 100), seen=st.booleans(),
    users=st.lists(st.integers(0, 39), min_size=1, max_size=5),
)  # fmt: skip
def test_optimum_is_brute_force(dial: float, k: int, chunk: int, seen: bool, users: list[int]) -> None:
    world = WORLDS[dial]
    found = world.optimum(np.array(users), k, seen=seen, chunk=chunk)
    for user, ids, probability in zip(users, *found, strict=True):
        law = literal_law(world, user)
        if not seen:
            law[world.events_of(user)[:-1]] = 0
            law /= law.sum()
        best = np.lexsort((np.arange(80), -law))[:k]
        assert ids.tolist() == best.tolist()
        np.testing.assert_allclose(probability, law[best], rtol=1e-9)


WORLDS = {dial: small(dial) for dial in DIAL}


def test_chunks_and_batches_change_nothing() -> None:
    world = small(items=1000, users=150)
    users = np.arange(149, -1, -1)
    whole = world.optimum(users, 20)
    for chunk in (37, 999, 5000):
        other = world.optimum(users, 20, chunk=chunk)
        assert np.array_equal(whole.ids, other.ids)
        np.testing.assert_allclose(whole.probability, other.probability, rtol=1e-10)
    single = [world.optimum(users[row : row + 1], 20).ids[0] for row in (0, 70, 149)]
    assert np.array_equal(whole.ids[[0, 70, 149]], single)


def test_no_users_no_rows() -> None:
    assert small().optimum(np.zeros(0, np.int64), 3).ids.shape == (0, 3)


# -- the dial


def single_vector(world: ScaleWorld, users: np.ndarray) -> np.ndarray:
    """Scores of the best-fitting dot product: log P less its mean, cut to d + 1 singular values."""
    scores = world.true_scores(users)
    left, values, right = np.linalg.svd(scores - scores.mean(axis=1, keepdims=True), full_matrices=False)
    rank = world.width + 1
    return np.asarray((left[:, :rank] * values[:rank]) @ right[:rank])


def mixed_vector(world: ScaleWorld, users: np.ndarray) -> np.ndarray:
    """Scores of the mixed vector of each user, as the law at dial 0 has them."""
    mixed, theta = world.tastes(users).vectors[:, -1], world.law.steepness
    return np.asarray(theta * mixed @ world.catalogue.latents(slice(None)).T + world.catalogue.log_weight)


def test_at_zero_a_dot_product_is_the_optimum() -> None:
    world = small(0.0, items=1000, users=300)
    users = np.arange(300)
    best = world.optimum(users, 50, seen=True).ids
    for scores in (mixed_vector(world, users), single_vector(world, users)):
        assert np.array_equal(np.argsort(-scores, axis=1, kind="stable")[:, :50], best)


def test_the_more_interaction_the_more_a_dot_product_loses() -> None:
    lost: dict[float, list[float]] = {}
    reached = []
    for dial in (0.0, 0.5, 1.0):
        world, users = small(dial, items=1000, users=300), np.arange(300)
        truth = probabilities(world.true_scores(users))
        best = ndcg(truth, truth)
        lost[dial] = [1 - ndcg(truth, make(world, users)) / best for make in (single_vector, mixed_vector)]
        reached.append(best)
    assert max(lost[0.0]) < 1e-9
    assert all(0.02 < middle < end for middle, end in zip(lost[0.5], lost[1.0], strict=True))
    assert min(lost[1.0]) > 0.15
    # What the optimum reaches stays comparable over the dial.
    assert max(reached) < 1.15 * min(reached)


# -- seeds, arguments, memory


def test_equal_arguments_give_equal_worlds_and_seeds_differ() -> None:
    one, same, other = small(), small(), small(seed=1)
    assert one == same
    assert np.array_equal(one.events().items, same.events().items)
    assert np.array_equal(one.catalogue.offset, same.catalogue.offset)
    assert not np.array_equal(one.catalogue.topic, other.catalogue.topic)


def test_more_users_leave_the_first_ones_as_they_are() -> None:
    few, many = small(users=3), small(users=BLOCK + 3)
    events = many.events()
    assert np.array_equal(few.events().items, events.items[: few.events().indptr[-1]])
    assert np.array_equal(few.true_scores(np.arange(3)), many.true_scores(np.arange(3)))
    late = np.array([BLOCK + 1, 2, BLOCK])
    np.testing.assert_allclose(many.tastes(late).vectors[1], few.tastes(np.array([2])).vectors[0])


def test_all_optional_arguments_can_be_left_out() -> None:
    world = ScaleWorld(items=np.int64(400), users=5)
    assert (world.topics, world.perplexity, type(world.items)) == (20, 20.0, int)
    assert len(world.events()) == 5


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("items", 49), ("items", 2**24), ("items", 80.5), ("users", 0), ("users", True), ("interaction", -0.1),
        ("interaction", 1.5), ("interaction", float("nan")), ("interaction", "x"), ("seed", -1),
        ("events_per_user", 8), ("events_per_user", 2), ("events_per_user", 4.5), ("exponent", -1), ("exponent", 3.0),
        ("interests", 0), ("interests", 17), ("width", 10), ("width", 4), ("topics", 3), ("perplexity", -2),
    ],
)  # fmt: skip
def test_a_bad_argument_is_one_line(argument: str, value: Any) -> None:
    arguments = {"items": 80, "users": 4, "events_per_user": 6} | {argument: value}
    with pytest.raises(DataError, match=f"^{argument}=.*: expected [^\n]*$"):
        ScaleWorld(**arguments)


@pytest.mark.parametrize("perplexity", [1.0, 79.9])
def test_a_perplexity_out_of_reach_names_the_range(perplexity: float) -> None:
    with pytest.raises(DataError, match=r"^perplexity=.*80 items .* allow [\d.]+ to [\d.]+; [^\n]*$"):
        small(perplexity=perplexity).law


def test_unknown_ids_and_counts_are_one_line() -> None:
    world = small()
    for call, message in (
        (lambda: world.true_scores(np.array([40])), "unknown user 40: the world has users 0 to 39"),
        (lambda: world.true_scores(np.array([0]), np.array([-1])), "unknown item -1"),
        (lambda: world.tastes(np.array([0.5])), "user ids: expected whole numbers"),
        (lambda: world.optimum(np.array([0]), 0), r"optimum\(k=0"),
        (lambda: world.optimum(np.array([0]), 79), r"optimum\(k=79, chunk=8192\): \d+ items are left to rank"),
    ):
        with pytest.raises(DataError, match=f"^{message}[^\n]*$"):
            call()


def test_memory_of_a_large_world_is_bounded() -> None:
    world = ScaleWorld(items=100_000, users=100, topics=100)
    assert world.catalogue.nbytes < 110 * 100_000
    tracemalloc.start()
    try:
        world.optimum(np.arange(8), 10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The sampler's tables and a piece of scores, whatever the number of items; a dense table of 512 users takes 400 MB.
    assert peak < 150e6


# -- files


def test_a_written_world_is_data(tmp_path: Path) -> None:
    world = small(users=30)
    folder = world.write(tmp_path / "deep" / "world")
    assert sorted(path.name for path in folder.iterdir()) == ["interactions.parquet", "items.parquet", "world.json"]
    tables = read_tables(folder)
    assert tables.interactions.equals(world.tables().interactions)
    assert tables.items is not None
    assert tables.items.equals(plain_table(world.tables().items))
    assert ScaleWorld.open(folder) == world
    dataset = load_dataset(folder, DataConfig(text_width=0), seed=0)
    assert dataset.test is not None
    targets = dataset.item_ids.to_external(dataset.test.target_items)
    assert list(targets) == world.targets(np.arange(30)).tolist()
    assert dataset.item_features is not None
    assert dataset.item_features.layout.category_names == ["category", "department"]
    assert dataset.item_features.layout.numeric_names == ["year", "price"]


def test_attributes_tell_of_the_latent_vectors() -> None:
    world = small(items=2000)
    table, z = world.tables().items, world.catalogue.latents(slice(None))
    assert table is not None
    assert table["category"].to_pylist()[:50] == [f"topic {topic}" for topic in world.catalogue.topic[:50]]
    for name, place in (("year", 12), ("price", 13)):
        order = np.argsort(np.argsort(table[name].to_numpy()))
        assert np.corrcoef(order, np.argsort(np.argsort(z[:, place])))[0, 1] > 0.9


def test_tables_are_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = small(users=30)
    monkeypatch.setattr("sparcode.scale.world.world._ROWS_AT_ONCE", 32)
    folder = world.write(tmp_path / "world")
    assert pq.ParquetFile(folder / "items.parquet").num_row_groups == 3
    assert read_tables(folder).interactions.equals(world.tables().interactions)


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "other.txt"):
        with pytest.raises(DataError, match=r"exists and is not an empty folder; [^\n]*$"):
            small().write(place)
    (tmp_path / "empty").mkdir()
    assert small().write(tmp_path / "empty").is_dir()
    assert (tmp_path / "other.txt").read_text() == "mine"


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scale_files, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        small().write(tmp_path / "world")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [[], {}, {"format": "sparcode scale world 1", "item": 3}])
def test_opening_something_else_is_one_line(tmp_path: Path, content: Any) -> None:
    (tmp_path / "world.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"world\.json: [^\n]*$"):
        ScaleWorld.open(tmp_path)

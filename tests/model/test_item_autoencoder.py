"""Parts of the item autoencoder against literal references: rotation, Sinkhorn, averages, masks, InfoNCE, options."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparcode.errors import ConfigError
from sparcode.model import item_autoencoder
from sparcode.model.item_autoencoder import (
    ItemAutoencoder,
    ItemCodebook,
    Sinkhorn,
    info_nce,
    prefix_mask,
    rotate,
    straight_through,
)
from sparcode.model.item_autoencoder_options import ItemAutoencoderOptions, read_options


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model(seed: int = 0, **options: object) -> ItemAutoencoder:
    """Return a small started model of width 6."""
    small = {"codebooks": 3, "codebook_size": 5, "hidden_dims": [7], "latent_dim": 4, "init": "kmeans"}
    given = small | options
    torch.manual_seed(seed)
    made = ItemAutoencoder(6, read_options("rq-vae", given))
    made.start(made.encode_latent(random(60, 6)).detach(), seed)
    return made


def test_the_gradient_of_the_rotation_is_the_literal_one():
    z, target, gradient = random(5, 4), random(5, 4, seed=1), random(5, 4, seed=2)
    leaf = z.clone().requires_grad_()
    value = rotate(leaf, target)
    torch.testing.assert_close(value, target)
    (value * gradient).sum().backward()
    for row in range(5):
        e, q = (v[row].double() / v[row].double().norm() for v in (z, target))
        r = (e + q) / (e + q).norm()
        rotation = torch.eye(4).double() - 2 * torch.outer(r, r) + 2 * torch.outer(q, e)
        torch.testing.assert_close(rotation @ e, q)
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(4).double())
        wanted = target[row].norm() / z[row].norm() * (rotation.T @ gradient[row].double())
        torch.testing.assert_close(leaf.grad[row].double(), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("case", ["zero latent", "zero codeword", "opposite"])
def test_rows_without_a_rotation_pass_the_gradient_straight_through(case):
    z = torch.zeros(1, 3) if case == "zero latent" else torch.tensor([[1.0, 2.0, 0.5]])
    target = -2 * z if case == "opposite" else (torch.zeros(1, 3) if case == "zero codeword" else torch.ones(1, 3))
    leaf = z.clone().requires_grad_()
    rotate(leaf, target).sum().backward()
    torch.testing.assert_close(leaf.grad, torch.ones(1, 3))


def test_straight_through_gives_the_codeword_and_the_whole_gradient():
    leaf, target = random(4, 3).requires_grad_(), random(4, 3, seed=1).requires_grad_()
    value = straight_through(leaf, target)
    torch.testing.assert_close(value, target)
    value.square().sum().backward()
    torch.testing.assert_close(leaf.grad, 2 * target.detach())
    assert target.grad is None


@settings(deadline=None, max_examples=25)
@given(
    rows=st.integers(2, 12), columns=st.integers(2, 7), seed=st.integers(0, 99), size=st.sampled_from([1e-4, 1.0, 1e5])
)
def test_a_sinkhorn_plan_has_equal_marginals_at_every_scale(rows, columns, seed, size):
    costs = random(rows, columns, seed=seed).square() * size
    plan = Sinkhorn(epsilon=0.5, iterations=500).plan(costs).double().exp()
    np.testing.assert_allclose(plan.sum(0).numpy(), 1 / columns, rtol=1e-4)
    np.testing.assert_allclose(plan.sum(1).numpy(), 1 / rows, rtol=2e-2)


def test_the_sinkhorn_plan_equals_the_textbook_iteration():
    costs = random(6, 4).square().double()
    centred = costs - costs.mean(1, keepdim=True) - costs.mean(0) + costs.mean()
    kernel = torch.exp(-costs / (0.3 * centred.square().mean().sqrt())).numpy()
    u, v = np.ones(6), np.ones(4)
    for _ in range(40):
        u = (1 / 6) / (kernel @ v)
        v = (1 / 4) / (kernel.T @ u)
    plan = Sinkhorn(0.3, 40).plan(costs).exp().numpy()
    np.testing.assert_allclose(plan, u[:, None] * kernel * v, rtol=1e-6)


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.5, 1), (0.5, 40), (0.01, 60), (0.001, 30)])
def test_steps_with_a_kernel_equal_those_in_the_log_domain(epsilon, iterations):
    costs = random(9, 5, seed=3).square().double()
    costs[:, 2] += 40
    centred = costs - costs.mean(1, keepdim=True)
    centred = centred - centred.mean(0)
    logits = -centred / (epsilon * centred.square().mean().sqrt())
    columns = torch.zeros(5).double()
    for _ in range(iterations):
        rows = -math.log(9) - torch.logsumexp(logits + columns, 1)
        columns = -math.log(5) - torch.logsumexp(logits + rows[:, None], 0)
    wanted = logits + rows[:, None] + columns
    torch.testing.assert_close(Sinkhorn(epsilon, iterations).plan(costs), wanted, atol=1e-6, rtol=1e-6)


def test_sinkhorn_balances_what_the_nearest_codeword_does_not():
    book = ItemCodebook(4, 2, 0.99)
    book.words.copy_(torch.tensor([[0.0, 0.0], [3.0, 3.0], [4.0, 3.0], [3.0, 4.0]]))
    vectors = random(64, 2) * 0.1
    assert book.assign(vectors).unique().tolist() == [0]
    counts = torch.bincount(book.assign(vectors, Sinkhorn(0.05, 300)), minlength=4)
    assert counts.min() >= 12
    assert counts.max() <= 20


def test_a_balanced_assignment_does_not_depend_on_the_parts_of_its_sums(monkeypatch):
    costs = random(40, 96).square()
    kept, whole = costs.clone(), Sinkhorn(0.05, 40).plan(costs)
    assert torch.equal(costs, kept)
    monkeypatch.setattr(item_autoencoder, "CELLS", 96 * 7)
    assert torch.equal(item_autoencoder._sums_of_rows(costs, costs[0]), torch.logsumexp(costs + costs[0], 1))
    torch.testing.assert_close(Sinkhorn(0.05, 40).plan(costs), whole, atol=1e-5, rtol=1e-6)
    assert torch.equal(Sinkhorn(0.05, 40).assign(costs), whole.argmax(1))


def test_batches_of_too_many_cells_are_balanced_in_parts(monkeypatch):
    book, balance, vectors = ItemCodebook(4, 3, 0.9), Sinkhorn(0.05, 100), random(50, 3, seed=3)
    book.words.copy_(random(4, 3, seed=4))
    monkeypatch.setattr(item_autoencoder, "BALANCED_CELLS", 4 * 20 + 3)
    wanted = [balance.assign(book.distances(vectors[low : low + 17])) for low in (0, 17, 34)]
    assert torch.equal(book.assign(vectors, balance), torch.cat(wanted))
    assert book.assign(vectors[:0], None).shape == (0,)


def test_no_vector_is_balanced_alone(monkeypatch):
    # A row alone has no costs left once its mean is taken: whatever it is, it would get the first codeword.
    book, balance, vectors = ItemCodebook(4, 3, 0.9), Sinkhorn(0.05, 100), random(41, 3, seed=3)
    book.words.copy_(random(4, 3, seed=4))
    monkeypatch.setattr(item_autoencoder, "BALANCED_CELLS", 4 * 20)
    found = set()
    for word in range(4):
        vectors[-1] = book.words[word]
        found.add(int(book.assign(vectors, balance)[-1]))
    assert len(found) > 1


def test_sinkhorn_survives_equal_costs():
    plan = Sinkhorn(0.05, 10).plan(torch.zeros(3, 2))
    torch.testing.assert_close(plan.exp(), torch.full((3, 2), 1 / 6))


def test_the_averages_follow_the_formula():
    book = ItemCodebook(3, 2, decay=0.9)
    start = random(3, 2, seed=3)
    counts = torch.tensor([0.5, 0.3, 0.2])
    book.words.copy_(start)
    book.counts.copy_(counts)
    book.sums.copy_(start * counts[:, None])
    vectors, codes = random(8, 2, seed=4), torch.tensor([0, 0, 1, 0, 1, 0, 0, 1])
    book.note(vectors, codes)
    for k in range(3):
        mine = vectors[codes == k]
        count = 0.9 * counts[k] + 0.1 * len(mine) / 8
        total = 0.9 * start[k] * counts[k] + 0.1 * mine.sum(0) / 8
        torch.testing.assert_close(book.words[k], total / count)
    assert book.wins.tolist() == [5, 3, 0]


def test_codewords_that_never_win_are_reseeded_from_vectors():
    book = ItemCodebook(4, 2, 0.99)
    book.words.copy_(torch.tensor([[0.0, 0.0], [90.0, 90.0], [1.0, 1.0], [95.0, 90.0]]))
    book.counts.fill_(0.25)
    vectors = random(50, 2)
    book.note(vectors, book.assign(vectors))
    dead = book.replace_unused(vectors, 0.05, torch.Generator().manual_seed(0))
    assert dead.tolist() == [1, 3]
    assert all((vectors == book.words[k]).all(1).any() for k in (1, 3))
    assert len(torch.bincount(book.assign(vectors), minlength=4).nonzero()) == 4
    assert book.wins.sum() == 0


def test_a_trainable_codebook_learns_by_gradient_and_not_by_averages():
    made = model(books="gradient")
    x = random(20, 6)
    before = [book.words.detach().clone() for book in made.codebooks]
    quantised = made.quantise(made.encode_latent(x))
    quantised.codebook.backward()
    assert all(book.words.grad.abs().sum() > 0 for book in made.codebooks)
    assert made.encoder.layers[0].weight.grad is None
    made.codebooks[0].note(quantised.seen[0], quantised.codes[:, 0])
    torch.testing.assert_close(made.codebooks[0].words.detach(), before[0])


def test_the_reconstruction_reaches_the_encoder_and_not_the_codebooks():
    made = model(books="gradient")
    made.decode_latent(made.quantise(made.encode_latent(random(20, 6))).value).square().sum().backward()
    assert made.encoder.layers[0].weight.grad.abs().sum() > 0
    assert all(book.words.grad is None for book in made.codebooks)


@pytest.mark.parametrize("masked", [False, True])
def test_quantise_equals_loops(masked):
    made = model()
    z = made.encode_latent(random(9, 6)).detach()
    kept = prefix_mask(9, 3, torch.Generator().manual_seed(2)) if masked else None
    quantised = made.quantise(z, kept)
    losses = np.zeros(3)
    for row in range(9):
        rest, value, full = z[row].clone(), torch.zeros(4), torch.zeros(4)
        for digit, book in enumerate(made.codebooks):
            code = int(((book.words - rest) ** 2).sum(1).argmin())
            assert quantised.codes[row, digit] == code
            torch.testing.assert_close(quantised.seen[digit][row], rest)
            losses[digit] += float(((rest - book.words[code]) ** 2).mean()) / 9
            rest = rest - book.words[code]
            full += book.words[code]
            if kept is None or kept[row, digit] == 1:
                value += book.words[code]
        torch.testing.assert_close(quantised.value[row], value, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(quantised.full[row], full, atol=1e-6, rtol=1e-5)
    assert float(quantised.commitment) == pytest.approx(losses.sum(), rel=1e-5)


def test_prefix_masks_are_prefixes_of_every_length_equally_often():
    mask = prefix_mask(4000, 4, torch.Generator().manual_seed(1))
    assert all(row.tolist() == [1.0] * int(row.sum()) + [0.0] * (4 - int(row.sum())) for row in mask[:50])
    shares = torch.bincount(mask.sum(1).long(), minlength=5) / 4000
    np.testing.assert_allclose(shares.numpy(), [0, 0.25, 0.25, 0.25, 0.25], atol=0.03)


def test_info_nce_equals_loops_and_leaves_false_negatives_out():
    anchors, partners = random(4, 3), random(4, 3, seed=1)
    ids, partner_ids = torch.tensor([0, 1, 2, 3]), torch.tensor([5, 0, 5, 6])
    total = 0.0
    for i in range(4):

        def similarity(j: int, i: int = i) -> float:
            return float(anchors[i] @ partners[j] / (anchors[i].norm() * partners[j].norm())) / 0.2

        others = [j for j in range(4) if j != i and partner_ids[j] not in (partner_ids[i], ids[i])]
        logits = [similarity(j) for j in [i, *others]]
        total -= logits[0] - math.log(sum(math.exp(x) for x in logits))
    assert len([j for j in range(4) if partner_ids[j] == 5]) == 2
    assert float(info_nce(anchors, partners, ids, partner_ids, 0.2)) == pytest.approx(total / 4, rel=1e-5)
    assert float(info_nce(anchors[:0], partners[:0], ids[:0], ids[:0], 0.2)) == 0


def test_nearest_codewords_do_not_depend_on_the_chunks(monkeypatch):
    book, vectors = ItemCodebook(7, 3, 0.99), random(40, 3)
    book.words.copy_(random(7, 3, seed=5))
    whole = book.assign(vectors)
    monkeypatch.setattr("sparcode.model.item_autoencoder.CELLS", 21)
    assert torch.equal(book.assign(vectors), whole)
    assert torch.equal(whole, torch.cdist(vectors, book.words).argmin(1))
    torch.testing.assert_close(book.distances(vectors), torch.cdist(vectors, book.words).square(), atol=1e-5, rtol=1e-4)


def test_a_projection_lies_between_latents_and_codewords():
    made = model(codebook_dim=3)
    assert [book.words.shape for book in made.codebooks] == [(5, 3)] * 3
    assert made.decode_latent(made.encode_latent(random(2, 6))).shape == (2, 6)


def test_multi_resolution_books_have_their_own_sizes():
    made = model(codebook_size=[6, 4, 2])
    assert [len(book.words) for book in made.codebooks] == [6, 4, 2]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("rq-vae", {"codeboks": 3}, "did you mean 'codebooks'"),
        ("rq-vae", {"codebook_size": 1}, "sizes must be 2..32768"),
        ("rq-vae", {"codebook_size": [8, 8], "codebooks": 3}, "lists 2 sizes, codebooks=3"),
        ("rq-vae", {"decay": 1.5}, "option decay=1.5"),
        ("rq-vae", {"sinkhorn": "some"}, "option sinkhorn"),
        ("rq-vae", {"hidden_dims": [0]}, "widths must be"),
        ("rq-vae", {"validation_share": 0.6, "test_share": 0.5}, "lower them"),
        ("rq-gan", {}, "expected one of rq-vae, vq-vae"),
        ("vq-vae", {"codebooks": 2}, "use method rq-vae"),
        ("vq-vae", {"codebook_size": 40_000}, "sizes must be"),
    ],
)
def test_wrong_options_are_refused_in_one_line(kind, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_options(kind, options)
    assert "\n" not in str(caught.value)


def test_a_list_of_sizes_gives_the_number_of_codebooks():
    assert read_options("rq-vae", {"codebook_size": [8, 4]}).sizes == (8, 4)
    assert read_options("vq-vae", {}).codebooks == 1
    assert ItemAutoencoderOptions().book_width(20) == 20
    assert ItemAutoencoderOptions(init="kmeans").book_width(20) == 64

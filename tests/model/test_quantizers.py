"""Trainable codebooks: nearest codewords, moving averages, k-means start, revival, straight-through gradient."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparcode.config import QuantizerConfig
from sparcode.errors import ConfigError
from sparcode.model.quantizers import Codebook, TokenQuantizer, build_quantizer
from sparcode.quantize import product, residual

ROWS, CODEWORDS, DECAY = 97, 7, 0.9
SIZES = {"product": (3, 15), "residual": (3, 5), "flat": (1, 11)}
"""Books and width of each case."""


def made(case: str, start: bool = True) -> TokenQuantizer:
    """Return a quantizer, with codebooks fitted to ``vectors(case)``."""
    books, width = SIZES[case]
    kind = "product" if case == "flat" else case
    config = QuantizerConfig(kind=kind, books=books, codewords=CODEWORDS, ema_decay=DECAY)
    quantizer = build_quantizer(config, width)
    if start:
        quantizer.start(vectors(case), seed=5)
    return quantizer


def vectors(case: str, rows: int = ROWS) -> torch.Tensor:
    """Return random vectors (rows, d)."""
    return torch.randn(rows, SIZES[case][1], generator=torch.Generator().manual_seed(6))


def literal_codes(x: np.ndarray, codebooks: np.ndarray, residual_books: bool) -> tuple[list[int], np.ndarray]:
    """Code and decoded vector of one vector: k_m = argmin_j ||C_j - part_m||, by loops."""
    codes, decoded, width = [], [], codebooks.shape[2]
    rest = x.astype(np.float64)
    for m, book in enumerate(codebooks):
        part = rest if residual_books else x[m * width : (m + 1) * width].astype(np.float64)
        distances = [sum((word[j] - part[j]) ** 2 for j in range(width)) for word in book]
        codes.append(int(np.argmin(distances)))
        decoded.append(book[codes[-1]])
        rest = rest - book[codes[-1]] if residual_books else rest
    return codes, np.sum(decoded, axis=0) if residual_books else np.concatenate(decoded)


@pytest.mark.parametrize("case", SIZES)
def test_codes_values_and_errors_equal_loops(case):
    quantizer, x = made(case), vectors(case)
    values, codes, errors = quantizer(x)
    books = quantizer.codebooks().numpy()
    for row in range(ROWS):
        wanted, decoded = literal_codes(x[row].numpy(), books, case == "residual")
        assert codes[row].tolist() == wanted
        np.testing.assert_allclose(values[row].numpy(), decoded, atol=1e-6)
        assert errors[row].item() == pytest.approx(float(((x[row].numpy() - decoded) ** 2).sum()), abs=1e-5)


@pytest.mark.parametrize("case", SIZES)
def test_agrees_with_the_numpy_quantizers(case):
    quantizer, x = made(case), vectors(case)
    numpy_side = residual if case == "residual" else product
    books = quantizer.codebooks().numpy()
    codes = numpy_side.encode(x.numpy(), books)
    np.testing.assert_array_equal(quantizer.encode(x).numpy(), codes)
    np.testing.assert_allclose(
        quantizer.decode(quantizer.encode(x)).numpy(), numpy_side.decode(codes, books), atol=1e-6
    )


@pytest.mark.parametrize("case", SIZES)
def test_straight_through_gradient(case):
    """The ranking gradient reaches the vectors unchanged, T + sg[T~ - T]; the codebooks get none."""
    quantizer, x = made(case), vectors(case).requires_grad_()
    values, _, errors = quantizer(x)
    upstream = torch.randn(values.shape, generator=torch.Generator().manual_seed(7))
    (gradient,) = torch.autograd.grad((values * upstream).sum(), x, retain_graph=True)
    torch.testing.assert_close(gradient, upstream)
    assert list(quantizer.parameters()) == []
    assert not any(buffer.requires_grad for buffer in quantizer.buffers())
    (commitment,) = torch.autograd.grad(errors.sum(), x)
    torch.testing.assert_close(commitment, 2 * (x - quantizer.decode(quantizer.encode(x))))


def test_moving_average_equals_loops():
    book = Codebook(5, 3, DECAY)
    random = np.random.default_rng(8)
    book.start(torch.from_numpy(random.normal(size=(40, 3)).astype(np.float32)), seed=0)
    counts, sums = book.counts.double().numpy().copy(), book.sums.double().numpy().copy()
    for _ in range(4):
        x = random.normal(size=(11, 3)).astype(np.float32)
        codes = book.nearest(torch.from_numpy(x)).numpy()
        book.update(torch.from_numpy(x), torch.from_numpy(codes))
        for k in range(5):
            won = [x[row].astype(np.float64) for row in range(11) if codes[row] == k]
            counts[k] = DECAY * counts[k] + (1 - DECAY) * len(won) / 11
            sums[k] = DECAY * sums[k] + (1 - DECAY) * sum(won, np.zeros(3)) / 11
        np.testing.assert_allclose(book.words.numpy(), sums / counts[:, None], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", SIZES)
def test_update_gives_every_book_what_it_saw(case):
    quantizer, x = made(case), vectors(case, 31)
    before = [book.sums.clone() for book in quantizer.books]
    codes = quantizer.encode(x)
    inputs = quantizer.inputs(x, codes)
    quantizer.update(x, codes)
    for m, book in enumerate(quantizer.books):
        for k in range(CODEWORDS):
            won = inputs[m][codes[:, m] == k].sum(0) / 31
            torch.testing.assert_close(book.sums[k], DECAY * before[m][k] + (1 - DECAY) * won)


@pytest.mark.parametrize("case", SIZES)
def test_start_places_codewords_by_kmeans(case):
    quantizer, x = made(case), vectors(case)
    assert bool(quantizer.ready)
    assert not bool(made(case, start=False).ready)
    assert quantizer.codebooks().abs().sum(-1).min() > 0, "codebooks must not start at zero"
    codes = quantizer.encode(x)
    inputs = quantizer.inputs(x, codes)
    for m, book in enumerate(quantizer.books):
        torch.testing.assert_close(book.counts.sum(), torch.tensor(1.0))
        for k in range(CODEWORDS):
            mean = inputs[m][codes[:, m] == k].mean(0)
            torch.testing.assert_close(book.words[k], mean, atol=0.3, rtol=0.1)
    again = made(case)
    assert torch.equal(quantizer.codebooks(), again.codebooks())


def test_start_with_fewer_vectors_than_codewords():
    quantizer = made("product", start=False)
    quantizer.start(vectors("product", 3), seed=0)
    assert torch.isfinite(quantizer.codebooks()).all()
    torch.testing.assert_close(quantizer(vectors("product", 3))[0], vectors("product", 3))


@pytest.mark.parametrize("case", SIZES)
def test_dead_codewords_are_revived_from_vectors(case):
    quantizer, x = made(case), vectors(case)
    for book in quantizer.books:
        book.counts[2] = 0.0
        book.words[2] = 100.0
    assert quantizer.revive(x, below=0.02, generator=torch.Generator().manual_seed(0)) == len(quantizer.books)
    inputs = quantizer.inputs(x, quantizer.encode(x))
    for m, book in enumerate(quantizer.books):
        seen = x if m == 0 and case != "product" else inputs[m]
        if case != "residual" or m == 0:  # later residual books see other rests once the first one changed
            assert (seen == book.words[2]).all(dim=1).any()
        assert book.counts[2] > 0
        torch.testing.assert_close(book.sums[2], book.words[2] * book.counts[2])
    assert quantizer.revive(x, below=0.02, generator=torch.Generator().manual_seed(0)) == 0


def test_a_starving_codeword_does_not_become_nan():
    book = Codebook(3, 2, 0.5)
    book.start(torch.tensor([[0.0, 1.0], [5.0, 5.0], [9.0, 0.0]]), seed=0)
    for _ in range(200):
        book.update(torch.tensor([[5.0, 5.0]]), book.nearest(torch.tensor([[5.0, 5.0]])))
    assert torch.isfinite(book.words).all()


def test_equal_distances_take_the_smaller_index():
    book = Codebook(4, 2, 0.5)
    book.words.copy_(torch.tensor([[9.0, 9.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]]))
    assert book.nearest(torch.tensor([[0.0, 0.0], [2.0, 0.0]])).tolist() == [1, 1]


def test_books_that_do_not_divide_the_width_are_a_configuration_error():
    with pytest.raises(ConfigError, match=r"quantizer\.books=3 .* model\.width=64"):
        build_quantizer(QuantizerConfig(books=3, codewords=4), 64)
